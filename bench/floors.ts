/**
 * What would the parts of a rotation cost by themselves? Measured between the rounds, on the same servers: no product
 * code is in the way of what is timed, only the protocol.
 *
 *   dial        TCP, INFO, TLS with a client certificate, CONNECT, PING -> PONG
 *   reload      $SYS.REQ.SERVER.<id>.RELOAD -> answer
 *   roundTrip   publish to an R3 stream -> delivered to a waiting pull consumer
 */
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager, StorageType } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import type { IdentitySnapshot } from '../src/identity/identity.ts'
import { HeldIdentity } from '../src/identity/identity.ts'
import { readIdentity } from '../src/identity/read.ts'
import { connectWith } from '../src/nats/connect.ts'
import { sleep } from '../src/time.ts'
import { domainNames } from '../src/wire/names.ts'

export const FLOORS = ['dial', 'reload', 'roundTrip'] as const
export type FloorName = (typeof FLOORS)[number]
/** Milliseconds of each try. */
export type FloorTimes = Readonly<Record<FloorName, readonly number[]>>

/** Subjects and stream of the round trip; the service that measures it is granted them. */
export const FLOOR_STREAM = 'BENCH'
const SUBJECT = 'bench.floor'
const TRIES = 5
const LIMIT = 5_000

export interface FloorPlan {
  readonly domain: string
  /** One identity directory for each server, and its address. */
  readonly servers: readonly { readonly name: string; readonly identity: string; readonly address: string }[]
  /** The service with the grants for `FLOOR_STREAM`. */
  readonly service: { readonly name: string; readonly identity: string }
}

/** Measures every floor a few times, with the identities as they are on disk now. */
export async function measureFloors(plan: FloorPlan): Promise<FloorTimes> {
  const dial: number[] = []
  const reload: number[] = []
  const material = await readIdentity(plan.service.identity)
  for (let i = 0; i < TRIES; i++) {
    const server = plan.servers[i % plan.servers.length]
    if (server !== undefined) dial.push(await timed(() => bareDial(server.address, material)))
  }
  for (const server of plan.servers) {
    await connected(plan, server, server.address, async (nc) => {
      const subject = `$SYS.REQ.SERVER.${nc.info?.server_id}.RELOAD`
      reload.push(await timed(() => nc.request(subject, '', { timeout: 5_000 })))
    })
  }
  const address = plan.servers[0]?.address ?? ''
  const roundTrip = await connected(plan, plan.service, address, measureRoundTrips)
  return { dial, reload, roundTrip }
}

async function bareDial(address: string, { key, certificate, ca }: IdentitySnapshot): Promise<void> {
  const [host = '', port = ''] = address.split(':')
  const socket = connectTcp({ host, port: Number(port), noDelay: true })
  const { promise: answered, resolve, reject } = Promise.withResolvers<void>()
  answered.catch(() => {})
  socket.on('error', reject)
  try {
    await Promise.race([once(socket, 'data'), answered])
    const tls = connectTls({ socket, key, cert: certificate, ca, host, allowPartialTrustChain: true })
    let text = ''
    tls
      .on('error', reject)
      .on('data', (data) => {
        text += data
        if (text.includes('PONG\r\n')) resolve()
      })
      .on('close', () => reject(new Error('the connection was closed')))
    tls.write('CONNECT {"verbose":false,"pedantic":false,"tls_required":true}\r\nPING\r\n')
    await answered
    tls.destroy()
  } finally {
    socket.destroy()
  }
}

/** Stream and consumer are made as those of the product: file storage and R3, and memory and R1. */
async function measureRoundTrips(nc: NatsConnection): Promise<number[]> {
  const jsm = await jetstreamManager(nc, { checkAPI: false })
  await jsm.streams.info(FLOOR_STREAM).catch(() =>
    jsm.streams.add({
      name: FLOOR_STREAM,
      subjects: [SUBJECT],
      storage: StorageType.File,
      num_replicas: 3,
      max_msgs: 16,
    }),
  )
  await jsm.consumers.add(FLOOR_STREAM, {
    durable_name: 'floor',
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.New,
    num_replicas: 1,
    mem_storage: true,
  })
  const js = jetstream(nc)
  let arrived = () => {}
  const messages = await (await js.consumers.get(FLOOR_STREAM, 'floor')).consume({
    max_messages: 16,
    callback: (message) => {
      message.ack()
      arrived()
    },
  })
  const times: number[] = []
  try {
    // the first one also waits until the pull has arrived
    for (let i = 0; i <= TRIES; i++) {
      const took = await timed(async () => {
        const { promise, resolve } = Promise.withResolvers<void>()
        arrived = resolve
        await js.publish(SUBJECT, 'floor')
        await promise
      })
      if (i > 0) times.push(took)
    }
  } finally {
    messages.stop()
    await jsm.consumers.delete(FLOOR_STREAM, 'floor')
  }
  return times
}

async function connected<T>(
  { domain }: FloorPlan,
  node: { readonly name: string; readonly identity: string },
  address: string,
  work: (nc: NatsConnection) => Promise<T>,
): Promise<T> {
  const identity = new HeldIdentity(await readIdentity(node.identity))
  const inboxPrefix = domainNames(domain).inbox(node.name)
  const nc = await connectWith({ servers: [`tls://${address}`], identity, name: 'rotor-bench', inboxPrefix })
  try {
    return await work(nc)
  } finally {
    await nc.close()
  }
}

/** Bounded, so that a run can be stopped. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  const late = new AbortController()
  const limit = sleep(LIMIT, late.signal).then(() => {
    throw new RotorError('ERR_INTERNAL', `a floor took more than ${LIMIT} ms`)
  })
  try {
    await Promise.race([work(), limit])
    return performance.now() - began
  } finally {
    late.abort()
    await limit.catch(() => {})
  }
}
