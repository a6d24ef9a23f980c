/** A connection that follows an identity: one move at a time, tried again until it is on the newest leaf. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { channel } from 'node:diagnostics_channel'
import PQueue from 'p-queue'
import { RotorError } from '../errors.ts'
import type { Identity, IdentitySnapshot } from '../identity/identity.ts'
import { type Follower, SocketCount, type Usage } from '../identity/usage.ts'
import { type Logger, silentLogger } from '../log.ts'
import { Backoff } from '../tasks.ts'
import { type Duration, sleep } from '../time.ts'
import { type Handoff, type HandoffOptions, handOff } from './handoff/handoff.ts'
import { type Internals, internalsOf } from './handoff/internals.ts'
import { type NatsClient, quiesce } from './quiesce.ts'

export interface FollowOptions extends Omit<HandoffOptions, 'signal'> {
  /** A move begins after a random part of so many milliseconds, unless an agent asks for it. @default 2000 */
  readonly spread?: Duration
  /** In events and logs. @default the name of the connection, or "nats" */
  readonly name?: string
  /** @default no log */
  readonly logger?: Logger
}

/** What `nc.status()` tells after each try to move, and the channel `nats-rotor:handoff` of node:diagnostics_channel. */
export interface HandoffEvent extends Partial<Handoff> {
  readonly type: 'rotor'
  readonly event: 'handoff'
  readonly name: string
  readonly ok: boolean
  /** handoff: without a gap. reconnect: the client has an inside that we do not know. */
  readonly mode: 'handoff' | 'reconnect'
  /** Fingerprint of the leaf it was to be moved to. */
  readonly leaf: string
  /** Why it was not moved. */
  readonly reason?: string
}

const SPREAD: Duration = 2000
const TIMEOUT: Duration = 5000
/** Connections of one process that are moved at the same time. */
const AT_ONCE = 4
const KNOWN = 8
const events = channel('nats-rotor:handoff')

const queues = new WeakMap<Identity, PQueue>()

function queueOf(identity: Identity): PQueue {
  const queue = queues.get(identity) ?? new PQueue({ concurrency: AT_ONCE })
  queues.set(identity, queue)
  return queue
}

export class FollowingConnection implements Follower {
  readonly type = 'connection'
  readonly name: string
  readonly #nc: NatsClient
  readonly #identity: Identity
  readonly #internals: Internals | null
  readonly #options: FollowOptions
  readonly #log: Logger
  readonly #count: SocketCount
  readonly #stop = new AbortController()
  /** What callbacks of the service see is what they saw when it connected, not what moved the connection. */
  readonly #inContext = AsyncLocalStorage.snapshot()
  /** Material that the socket may have been made with, newest last. */
  #known: IdentitySnapshot[]
  /** What it stands on; null while it is not connected, or on a leaf that is none of the identity's. */
  #made: IdentitySnapshot | null = null
  #uncount: () => void = () => {}
  #evidence = 'connected with this leaf'
  #turn: Promise<unknown> = Promise.resolve()
  #chasing = false

  /** Ends the following; the connection stays as it is. Comes by itself when it is closed. */
  readonly leave: () => void

  /** Follows until the connection is closed. */
  constructor(nc: NatsClient, identity: Identity, options: FollowOptions = {}) {
    this.#nc = nc
    this.#identity = identity
    this.#internals = internalsOf(nc)
    this.#options = options
    this.#log = options.logger ?? silentLogger
    this.name = options.name ?? this.#internals?.protocol.options.name ?? 'nats'
    this.#count = new SocketCount(this)
    this.#known = [identity.current()]
    this.#look()
    const part = identity.join(this)
    const forget = identity.onChange((next) => {
      this.#known = [...this.#known, next].slice(-KNOWN)
      this.#chase()
    })
    this.leave = () => {
      this.#stop.abort(new RotorError('ERR_ABORTED', 'the connection does not follow any more'))
      this.#uncount()
      part()
      forget()
    }
    void nc.closed().then(this.leave)
    void this.#watch()
  }

  /** Does it stand on this leaf? */
  isOn(leaf: string): boolean {
    return this.#made?.leaf.sha256 === leaf
  }

  usage(): Usage[] {
    return this.#count.usage()
  }

  follow(next: IdentitySnapshot, signal: AbortSignal): Promise<string> {
    const work = async (): Promise<string> => {
      signal.throwIfAborted()
      if (this.#nc.isClosed() || this.#nc.isDraining()) return 'closed'
      this.#look()
      if (this.#made === null && !this.#isConnected()) return 'not connected; the next dial uses this leaf'
      if (this.isOn(next.leaf.sha256)) return this.#evidence
      const join = AbortSignal.any([signal, this.#stop.signal])
      return queueOf(this.#identity).add(() => this.#inContext(() => this.#move(next, join)))
    }
    const result = this.#turn.then(work, work)
    this.#turn = result.catch(() => {})
    return result
  }

  // ---- moving

  async #move(next: IdentitySnapshot, signal: AbortSignal): Promise<string> {
    const leaf = next.leaf.sha256
    const mode = this.#internals === null ? 'reconnect' : 'handoff'
    const about = { type: 'rotor', event: 'handoff', name: this.name, mode, leaf } as const
    try {
      const done = await this.#moved(next, signal)
      this.#look(next)
      if (!this.isOn(leaf)) throw new Error('the connection was made with another certificate')
      this.#evidence =
        done === null
          ? 'reconnected'
          : `handed over in ${Math.round(done.cutMs)} ms${done.sameServer ? '' : ', to another server'}`
      this.#tell({ ...about, ok: true, ...done })
      return this.#evidence
    } catch (cause) {
      this.#look()
      const reason = cause instanceof Error ? cause.message : String(cause)
      this.#tell({ ...about, ok: false, reason })
      const lost = RotorError.is(cause) && cause.code === 'ERR_NATS_UNAVAILABLE'
      const code = lost ? 'ERR_NATS_UNAVAILABLE' : 'ERR_HANDOFF_FAILED'
      throw new RotorError(code, `connection ${this.name}: ${reason}`, { cause })
    }
  }

  async #moved(next: IdentitySnapshot, signal: AbortSignal): Promise<Handoff | null> {
    const internals = this.#internals
    if (internals === null) {
      await quiesce(this.#nc, this.#options.timeout ?? TIMEOUT)
      return null
    }
    const { tls } = internals.protocol.options
    const material = { key: next.key, cert: next.certificate, ca: next.ca }
    const isDraining = () => this.#nc.isDraining()
    return handOff(internals, isDraining, { ...Object(tls), ...material }, { ...this.#options, signal })
  }

  #tell(event: HandoffEvent): void {
    const { ok, reason, mode, ...fields } = event
    if (ok) this.#log.info({ ...fields, mode }, 'the connection was moved to the new leaf')
    else
      this.#log.warn(
        { ...fields, mode, code: 'ERR_HANDOFF_FAILED', err: reason },
        'the connection was not moved',
      )
    events.publish(event)
    // `nats` 2.x wants the particulars in `data`
    if (!this.#nc.isClosed()) this.#internals?.protocol.dispatchStatus({ ...event, data: event })
  }

  /** Tries until it is on the newest leaf, or there is nothing to move. */
  #chase(): void {
    if (this.#chasing) return
    this.#chasing = true
    const { signal } = this.#stop
    const chase = async () => {
      await sleep(Math.random() * (this.#options.spread ?? SPREAD), signal)
      for (const backoff = new Backoff({ base: 500, max: 30_000 }); ; ) {
        const next = this.#identity.current()
        try {
          await this.follow(next, signal)
          if (this.#identity.current() === next) return
        } catch {
          // told already
          await backoff.wait(signal)
        }
      }
    }
    chase().then(
      () => {
        this.#chasing = false
      },
      () => {},
    )
  }

  // ---- what it stands on

  /** The client's own reconnects take the newest material; which one it was, the socket says. */
  async #watch(): Promise<void> {
    for await (const { type } of this.#nc.status()) {
      if (type !== 'reconnect' && type !== 'disconnect') continue
      this.#look(type === 'reconnect' ? this.#identity.current() : undefined)
      if (type === 'reconnect' && this.#made !== this.#identity.current()) this.#chase()
    }
  }

  #isConnected(): boolean {
    return this.#internals?.protocol.connected ?? true
  }

  /** @param without what it was made with, when the socket can not be asked */
  #look(without?: IdentitySnapshot): void {
    const leaf = this.#leafInUse() ?? without?.leaf.sha256
    const made = this.#known.findLast((one) => one.leaf.sha256 === leaf) ?? null
    if (made === this.#made) return
    this.#uncount()
    this.#made = made
    this.#uncount = made === null ? () => {} : this.#count.opened(made)
  }

  /** Fingerprint of our certificate on the socket; undefined without one. */
  #leafInUse(): string | undefined {
    if (this.#internals === null || !this.#isConnected()) return undefined
    const own = this.#internals.protocol.transport.socket?.getCertificate?.()
    return own !== null && own !== undefined && 'fingerprint256' in own
      ? own.fingerprint256.replaceAll(':', '').toLowerCase()
      : undefined
  }
}
