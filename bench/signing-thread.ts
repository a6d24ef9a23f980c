/** A thread of the signing benchmark: the raw work of node:crypto, or the nodes of a fleet that ask over NATS. */
import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import type { Duration } from '../src/time.ts'
import { decodeRecord } from '../src/wire/record.ts'
import { SIGN_TIMEOUT, signAnswer } from '../src/wire/requests.ts'
import { answerCalls } from './load/thread.ts'

export interface Asking {
  /** `host:port` */
  readonly server: string
  readonly requests: readonly { readonly subject: string; readonly proof: Uint8Array }[]
}

export interface Asked {
  readonly signed: number
  readonly refused: number
  readonly took: Duration
}

let asking: { readonly nc: NatsConnection; readonly requests: Asking['requests'] } | null = null
let next = 0

answerCalls({
  /** One P-256 signature verified and one made, again and again for so many milliseconds; gives how often. */
  raw: (ms: Duration): number => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    // about as long as the part of a request that is signed
    const data = Buffer.alloc(300, 7)
    let signature = sign('sha256', data, privateKey)
    const end = performance.now() + ms
    let count = 0
    for (; performance.now() < end; count++) {
      verify('sha256', data, publicKey, signature)
      signature = sign('sha256', data, privateKey)
    }
    return count
  },
  open: async ({ server, requests }: Asking) => {
    asking = { nc: await connect({ servers: server, noAsyncTraces: true }), requests }
  },
  /** Keeps `inFlight` requests under way for so many milliseconds. */
  ask: async ({ ms, inFlight }: { ms: Duration; inFlight: number }): Promise<Asked> => {
    if (asking === null) throw new TypeError('not open')
    const { nc, requests } = asking
    const found = { signed: 0, refused: 0 }
    const begin = performance.now()
    const one = async (): Promise<void> => {
      while (performance.now() < begin + ms) {
        const request = requests[next++ % requests.length]
        if (request === undefined) return
        const reply = await nc.request(request.subject, request.proof, { timeout: SIGN_TIMEOUT })
        if (decodeRecord(signAnswer, reply.data, 'answer').ok) found.signed += 1
        else found.refused += 1
      }
    }
    await Promise.all(Array.from({ length: inFlight }, one))
    return { ...found, took: performance.now() - begin }
  },
  close: () => asking?.nc.close(),
})
