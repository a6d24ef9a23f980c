/**
 * The same promises, twice: made to a plain connection of nats.js, and to one of ours that is handed over every
 * 200 ms while they are kept.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  type ConnectionOptions,
  connect as connectPlain,
  type NatsConnection,
  type Status,
} from '@nats-io/transport-node'
import { connect } from '../../src/connection/connect.ts'
import type { HandoffEvent } from '../../src/connection/following.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { snapshotOf } from '../../src/identity/read.ts'
import type { NatsServerRelease } from '../../src/local/nats-server.ts'
import { natsTls } from '../../src/nats/tls.ts'
import { sleep } from '../../src/time.ts'
import { eventually } from './eventually.ts'
import { makeTestDomain } from './test-domain.ts'
import { startTlsServer, type TlsServer } from './tls-server.ts'

/** Options of the client beside where to, and with which certificate. */
export interface ClientOptions extends Omit<ConnectionOptions, 'servers' | 'port' | 'tls'> {
  readonly handshakeFirst?: boolean
}

export interface Place extends AsyncDisposable {
  readonly address: string
  readonly server: TlsServer
  readonly generations: readonly [IdentitySnapshot, IdentitySnapshot]
}

export interface PlaceOptions {
  /** More lines of the server's configuration. */
  readonly config?: string
  /** Lines for its `tls` block. */
  readonly tls?: string
  readonly release?: NatsServerRelease
}

/** One server with TLS that trusts two authorities, and a leaf of each for the client. */
export async function startPlace({ config = '', tls = '', release }: PlaceOptions): Promise<Place> {
  const domain = await makeTestDomain()
  const trusted = domain.authorities.map(({ certificate }) => certificate)
  const server = await startTlsServer({
    leaf: await domain.leaf({ name: 'server' }),
    trusted,
    config: `http: "127.0.0.1:-1"\n${config}`,
    tls: { client: tls },
    ...(release === undefined ? {} : { release }),
  })
  const ca = trusted.map(({ pem }) => pem).join('')
  const generation = async (epoch: number): Promise<IdentitySnapshot> => {
    const { keyPem: key, chainPem: certificate } = await domain.leaf({ name: 'client', epoch })
    return snapshotOf({ key, certificate, ca }, { generation: `${epoch}`, version: 0 }, undefined, {}, 'test')
  }
  return {
    address: server.address('client'),
    server,
    generations: [await generation(domain.epoch), await generation(domain.epoch - 1)],
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** A connection that is tried, in one of the two ways. */
export interface Tried extends AsyncDisposable {
  readonly nc: NatsConnection
  /** Returns after so many more handoffs, of which one at least began after the call; at once for a plain one. @default 2 */
  moves(count?: number): Promise<void>
  /** Does it again and again, until two handoffs have passed; returns how often. The argument counts from 0. */
  whileMoving(work: (i: number) => unknown): Promise<number>
  /** Handoffs done, and why others were not. */
  readonly handoffs: { readonly done: number; readonly failed: readonly string[] }
}

type Side = 'plain nats.js' | 'a connection that is handed over'
const SIDES: readonly Side[] = ['plain nats.js', 'a connection that is handed over']
/** From one handoff to the next, milliseconds: part of the load, not a wait. */
const PAUSE = 200
/** Between two rounds of work, milliseconds: what is tried is not speed. */
const PACE = 1
/** Times that a plain connection does what ours does while it is moved. */
const TIMES = 25

const OURS = { reconnectTimeWait: 50, reconnectJitterTLS: 10, maxReconnectAttempts: -1 } as const

export async function openPlain(place: Place, options: ClientOptions = {}): Promise<NatsConnection> {
  const { handshakeFirst, ...rest } = options
  const identity = new HeldIdentity(place.generations[0])
  return await connectPlain({
    ...OURS,
    ...rest,
    servers: place.address,
    tls: Object.assign(natsTls(identity, [place.address]), handshakeFirst ? { handshakeFirst } : {}),
  })
}

async function tryPlain(place: Place, options: ClientOptions): Promise<Tried> {
  const nc = await openPlain(place, options)
  return {
    nc,
    handoffs: { done: 0, failed: [] },
    moves: async () => {},
    whileMoving: async (work) => {
      for (let i = 0; i < TIMES; i++) await work(i)
      return TIMES
    },
    [Symbol.asyncDispose]: () => nc.close(),
  }
}

async function tryOurs(place: Place, options: ClientOptions): Promise<Tried> {
  const { handshakeFirst, ...rest } = options
  const identity = new HeldIdentity(place.generations[0])
  const nc = await connect({
    ...OURS,
    ...rest,
    servers: place.address,
    identity,
    ...(handshakeFirst ? { tls: { handshakeFirst } } : {}),
  })
  const handoffs = { done: 0, failed: [] as string[] }
  const count = async () => {
    for await (const status of nc.status()) {
      const handoff = handoffIn(status)
      if (handoff?.ok === true) handoffs.done += 1
      else if (handoff !== null) handoffs.failed.push(handoff.reason ?? 'no reason')
    }
  }
  void count()
  const stop = new AbortController()
  const turn = async () => {
    for (let round = 1; !stop.signal.aborted; round++) {
      const next = place.generations[round % 2 === 0 ? 0 : 1]
      identity.set(next)
      // its failures are counted by their events
      for (const follower of identity.followers()) await follower.follow(next, stop.signal).catch(() => {})
      await sleep(PAUSE, stop.signal).catch(() => {})
    }
  }
  const turning = turn()
  const moves = async (count = 2) => {
    const until = handoffs.done + count
    await eventually(() => handoffs.done >= until, { timeout: 15_000, interval: 5 })
  }
  return {
    nc,
    handoffs,
    moves,
    whileMoving: async (work) => {
      const until = handoffs.done + 2
      let i = 0
      for (; handoffs.done < until; i++) {
        await work(i)
        await sleep(PACE)
      }
      return i
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort(new Error('the test is over'))
      await turning
      await nc.close()
    },
  }
}

/** The status of a handoff; nats.js does not know of it. Null for any other. */
export function handoffIn(status: object): HandoffEvent | null {
  return 'event' in status && status.event === 'handoff' ? (status as HandoffEvent) : null
}

/** nats.js tells of an update at each INFO of a server, also when it has nothing new. */
function isNothing(status: Status): boolean {
  if (status.type !== 'update') return handoffIn(status) !== null
  return [status.added, status.deleted].every((list) => (list ?? []).length === 0)
}

/** Sockets and timers that keep this process alive. */
const resources = (): number =>
  process.getActiveResourcesInfo().filter((name) => /^(TLS|TCP|Timeout)/.test(name)).length

export interface ConnectionRow {
  readonly cid: number
  readonly name?: string
  readonly lang?: string
  readonly authorized_user?: string
}

/** The open connections, as the server sees them. */
export async function connections({ server }: Place): Promise<ConnectionRow[]> {
  const address = server.process.addresses.monitoring
  const answer = await fetch(`http://${address}/connz?auth=1`, { headers: { connection: 'close' } })
  const { connections: rows }: { connections: ConnectionRow[] } = JSON.parse(await answer.text())
  return rows
}

export interface Room extends Omit<Tried, typeof Symbol.asyncDispose> {
  readonly place: Place
  /** A plain connection beside, with every right. */
  readonly peer: NatsConnection
  /** A prefix for subjects and names that no other case uses. */
  readonly at: string
  /** What `nc.status()` has said since the begin; handoffs, and updates without any news, excepted. */
  readonly statuses: readonly Status[]
}

export interface PromiseOptions extends ClientOptions {
  /** A handoff may be refused in this case; none is otherwise. */
  readonly refusals?: boolean
}

type Promises = (name: string, keep: (room: Room) => Promise<void>, options?: PromiseOptions) => void

let made = 0

/** Runs every case both ways, on a server of its own. At least two handoffs must fall into each. */
export function bothWays(
  { client = {}, peer = client, ...options }: PlaceOptions & { client?: ClientOptions; peer?: ClientOptions },
  cases: (promises: Promises) => void,
): void {
  let place: Place
  let beside: NatsConnection
  const cleanup = new AsyncDisposableStack()
  before(async () => {
    place = cleanup.use(await startPlace(options))
    beside = await openPlain(place, peer)
    cleanup.defer(() => beside.close())
  })
  after(() => cleanup.disposeAsync())
  for (const side of SIDES) {
    describe(side, () => {
      cases((name, keep, { refusals = false, ...more } = {}) => {
        test(name, { timeout: 60_000 }, async () => {
          const before = resources()
          const open = side === 'plain nats.js' ? tryPlain : tryOurs
          await using tried = await open(place, { ...client, ...more })
          const { nc, handoffs } = tried
          const statuses: Status[] = []
          const listening = (async () => {
            for await (const status of nc.status()) if (!isNothing(status)) statuses.push(status)
          })()
          made += 1
          const at = `case${made}`
          await keep({ ...tried, place, peer: beside, at, statuses })
          if (side !== 'plain nats.js') {
            assert.ok(handoffs.done >= 2, `expected two handoffs in the case, found ${handoffs.done}`)
            if (!refusals) assert.deepEqual(handoffs.failed, [])
          }
          await tried[Symbol.asyncDispose]()
          assert.equal(await nc.closed(), undefined)
          await listening
          assert.equal(statuses.at(-1)?.type, 'close')
          await eventually(async () => (await connections(place)).length === 1)
          await eventually(() => resources() <= before)
        })
      })
    })
  }
}
