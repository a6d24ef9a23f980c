/**
 * The ways to move a service's connection to new TLS material, each at its best, behind one face.
 *
 *   still      nobody moves: what the load itself costs on this machine
 *   rebuild    drain, close, connect, resubscribe, in the order of rebuild.ts
 *   reconnect  nc.reconnect() of nats.js, to the same server and with no wait before the dial
 *   handoff    ours
 */
import type { NatsConnection, Status } from '@nats-io/transport-node'
import { connect } from '../src/connection/connect.ts'
import { RotorError } from '../src/errors.ts'
import { HeldIdentity, type IdentitySnapshot } from '../src/identity/identity.ts'
import { connectWith } from '../src/nats/connect.ts'
import { RebuiltConnection, type Use } from './rebuild.ts'

export const WAYS = ['still', 'rebuild', 'reconnect', 'handoff'] as const
export type WayName = (typeof WAYS)[number]

/** Milliseconds; a part that a way does not have is absent. */
export interface MoveTimes {
  /** Until the new connection took its first PING or CONNECT. */
  readonly dialMs?: number
  /** Both connections are open. */
  readonly overlapMs?: number
  /** The service is on neither: from the last message of the old connection to the subscriptions on the new one. */
  readonly cutMs?: number
  /** Times that it began again, because too much came before the cut. */
  readonly begunAgain?: number
}

export interface MovingOptions {
  readonly servers: readonly string[]
  readonly first: IdentitySnapshot
  readonly inboxPrefix: string
  /** The service. */
  readonly use: Use
}

/** A service's connection. `move` returns when it stands on `next`; throws when it does not. */
export interface Moving extends AsyncDisposable {
  move(next: IdentitySnapshot): Promise<MoveTimes>
}

/** Longer than a dial that has to be repeated. */
const PATIENCE = 10_000

export const openWay: Readonly<Record<WayName, (options: MovingOptions) => Promise<Moving>>> = {
  still: openStill,
  rebuild: openRebuilt,
  reconnect: openReconnecting,
  handoff: openHandedOff,
}

const common = ({ servers, inboxPrefix }: MovingOptions) => ({ servers, inboxPrefix, noRandomize: true })

async function openStill(options: MovingOptions): Promise<Moving> {
  const nc = await connectWith({ ...common(options), identity: new HeldIdentity(options.first) })
  await options.use(nc)
  return { move: async () => ({}), [Symbol.asyncDispose]: () => nc.close() }
}

async function openRebuilt(options: MovingOptions): Promise<Moving> {
  const { servers, ...rest } = common(options)
  const identity = new HeldIdentity(options.first)
  const marks = { stop: 0, closed: 0, connected: 0, used: 0 }
  const use: Use = async (nc) => {
    marks.connected = performance.now()
    const stop = await options.use(nc)
    marks.used = performance.now()
    return async () => {
      void nc.closed().then(() => {
        marks.closed = performance.now()
      })
      await stop()
      marks.stop = performance.now()
    }
  }
  const connection = await RebuiltConnection.open({ servers, identity, use, options: rest })
  return {
    async move(next) {
      identity.set(next)
      await connection.move()
      return { dialMs: marks.connected - marks.closed, cutMs: marks.used - marks.stop }
    },
    [Symbol.asyncDispose]: () => connection.close(),
  }
}

async function openReconnecting(options: MovingOptions): Promise<Moving> {
  const identity = new HeldIdentity(options.first)
  const nc = await connectWith({
    ...common(options),
    // with more it would go to the next one
    servers: options.servers.slice(0, 1),
    identity,
    reconnectTimeWait: 0,
    reconnectJitter: 0,
    reconnectJitterTLS: 0,
  })
  const seen = new Statuses(nc)
  await options.use(nc)
  return {
    async move(next) {
      identity.set(next)
      const began = performance.now()
      const [connected] = await Promise.all([seen.next('reconnect'), nc.reconnect()])
      await nc.flush()
      return { dialMs: connected.at - seen.lastAt('reconnecting'), cutMs: performance.now() - began }
    },
    [Symbol.asyncDispose]: () => nc.close(),
  }
}

async function openHandedOff(options: MovingOptions): Promise<Moving> {
  const identity = new HeldIdentity(options.first)
  const nc = await connect({ ...common(options), identity })
  const seen = new Statuses(nc)
  await options.use(nc)
  return {
    async move(next) {
      const [follower] = identity.followers()
      if (follower === undefined) throw new RotorError('ERR_INTERNAL', 'nobody follows the identity')
      const told = seen.next('rotor handoff')
      identity.set(next)
      const [{ status }] = await Promise.all([told, follower.follow(next, AbortSignal.timeout(PATIENCE))])
      return handoffTimes(status)
    },
    [Symbol.asyncDispose]: () => nc.close(),
  }
}

function handoffTimes(status: object): MoveTimes {
  const event = status as {
    readonly ok?: boolean
    readonly reason?: string
    readonly sameServer?: boolean
    readonly attempts: number
  } & Required<Pick<MoveTimes, 'dialMs' | 'overlapMs' | 'cutMs'>>
  if (event.ok !== true) throw new RotorError('ERR_INTERNAL', `the handoff failed: ${event.reason}`)
  if (event.sameServer !== true) throw new RotorError('ERR_INTERNAL', 'the handoff went to another server')
  const { dialMs, overlapMs, cutMs, attempts } = event
  return { dialMs, overlapMs, cutMs, begunAgain: attempts - 1 }
}

interface Seen {
  readonly status: object
  readonly at: number
}

/** What the connection says of itself, as something to wait for. */
class Statuses {
  readonly #last = new Map<string, number>()
  readonly #waiting = new Map<string, (seen: Seen) => void>()

  constructor(nc: NatsConnection) {
    void this.#read(nc.status())
  }

  /** The next one of this name: its type, and which event it is where that is told. Throws when it does not come. */
  async next(name: string): Promise<Seen> {
    const { promise, resolve, reject } = Promise.withResolvers<Seen>()
    const late = () => reject(new RotorError('ERR_INTERNAL', `no status "${name}" within ${PATIENCE} ms`))
    const timer = setTimeout(late, PATIENCE)
    this.#waiting.set(name, resolve)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(name)
    }
  }

  lastAt(name: string): number {
    return this.#last.get(name) ?? 0
  }

  async #read(all: AsyncIterable<Status>): Promise<void> {
    for await (const status of all) {
      const at = performance.now()
      const name = 'event' in status ? `${status.type} ${status.event}` : status.type
      this.#last.set(name, at)
      this.#waiting.get(name)?.({ status, at })
    }
  }
}
