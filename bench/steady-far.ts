/** The far end of the steady benchmark, in a thread of its own: it answers requests, and publishes when it is told. */
import { workerData } from 'node:worker_threads'
import type { NatsConnection } from '@nats-io/transport-node'
import type { PeerAccess } from './load/cluster.ts'
import { PAYLOAD_BYTES } from './load/payload.ts'
import { connectPeer } from './load/peers.ts'
import { answerCalls } from './load/thread.ts'
import { CHUNK, ECHO, type Order } from './steady-measure.ts'

export interface FarOptions {
  readonly address: string
  readonly access: PeerAccess
}

let connected: NatsConnection | null = null

answerCalls({
  open: async () => {
    const { address, access }: FarOptions = workerData
    const nc = await connectPeer(address, access)
    connected = nc
    nc.subscribe(ECHO, {
      callback: (error, message) => {
        if (error === null) message.respond(message.data)
      },
    })
    await nc.flush()
  },
  publish: async ({ subject, count }: Order) => {
    const body = new Uint8Array(PAYLOAD_BYTES)
    for (let i = 1; i <= count; i++) {
      connected?.publish(subject, body)
      if (i % CHUNK === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await connected?.flush()
  },
  close: () => connected?.close(),
})
