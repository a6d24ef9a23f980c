/**
 * Moves a live connection to new TLS material without a gap: STATES.md beside this file says each step, what the
 * service can notice of it, and what happens when it fails.
 */
import { type Duration, sleep } from '../../time.ts'
import { lost, onEnd } from './ends.ts'
import { FirstConnection } from './first.ts'
import type { Gate } from './gate.ts'
import type {
  ClientOptions,
  ClientProtocol,
  ClientSubscription,
  Internals,
  KnownServer,
} from './internals.ts'
import { withoutLateCopies } from './late-copies.ts'
import { type MessageFrame, Overlap } from './overlap.ts'
import { reach } from './reach.ts'
import type { SecondConnection } from './second.ts'
import {
  changes,
  referenceOf,
  subscribe,
  subscribeReferences,
  unsubscribe,
  type Wanted,
  wanted,
} from './subscriptions.ts'

export interface HandoffOptions {
  /** Milliseconds for the dial, and for each answer of a server. @default 5000 */
  readonly timeout?: Duration
  /** Milliseconds until all servers of a cluster know of a subscription, when the second is on another one. @default 250 */
  readonly dwell?: Duration
  /** Bytes of messages that are remembered and held at most until the cut. @default 8 MiB */
  readonly limit?: number
  /** Dials that may land on another server before that is taken. @default 4 */
  readonly tries?: number
  /**
   * Keep the order of a publisher's messages also in queue groups: needs the right to subscribe to their subjects as no
   * member for a moment. Without that right the order is not kept, and the server logs a refusal. @default true
   */
  readonly groupOrder?: boolean
  readonly signal?: AbortSignal
}

export interface Handoff {
  /** Both connections were to the same server. */
  readonly sameServer: boolean
  readonly dialMs: Duration
  /** From the first SUB on the second connection until the service's frames were held. */
  readonly overlapMs: Duration
  /** How long the service's frames were held. */
  readonly cutMs: Duration
  /** Messages that waited for the cut on the second connection, and how many of them had come on the first, too. */
  readonly held: number
  readonly matched: number
  /** 1, and one more for each time that the bound was reached before the cut. */
  readonly attempts: number
}

/** nats-facts 3.3: a server in a cluster may not know of a subscription that another one has confirmed. */
const DWELL: Duration = 250
const TIMEOUT: Duration = 5000
const LIMIT = 8 * 1024 * 1024
const TRIES = 4
/** Times to begin again when too much came before the cut: a burst, or a moment in which the process got no processor. */
const ATTEMPTS = 3
/** Milliseconds for a PONG of a connection that is not behind, and how often that is looked for. */
const CALM: Duration = 25
const LOOKS_FOR_CALM = 10
/** Tries to find a moment without messages that are equal to others of a moment ago. */
const COMPARISONS = 5

/**
 * Moves the connection to one that is dialled with `tls`. Throws why not; the service then goes on with what it had.
 * Only one at a time for each connection.
 */
export async function handOff(
  internals: Internals,
  isDraining: () => boolean,
  tls: object,
  options: HandoffOptions = {},
): Promise<Handoff> {
  for (let attempts = 1; ; attempts += 1) {
    const move = new Move(internals, isDraining, tls, options)
    try {
      return { ...(await move.run()), attempts }
    } catch (cause) {
      if (!(cause instanceof TooMuch) || attempts === ATTEMPTS) throw cause
    } finally {
      move.end()
    }
  }
}

/** The bound of what is remembered and held was reached. */
class TooMuch extends Error {}

/** What the client had subscribed to when its frames began to wait. */
interface Held extends Wanted {
  readonly at: number
}

class Move {
  readonly #internals: Internals
  readonly #protocol: ClientProtocol
  readonly #isDraining: () => boolean
  readonly #options: ClientOptions
  readonly #timeout: Duration
  readonly #dwell: Duration
  readonly #limit: number
  readonly #tries: number
  readonly #overlap = new Overlap()
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #forget: (() => void)[] = []
  /** Plain subscriptions that the second connection has. */
  readonly #plain = new Set<number>()
  readonly #queue = new Set<number>()
  /** The sid of the group's subscription, by that of its reference. */
  readonly #references = new Map<number, number>()
  readonly #groupOrder: boolean
  #isCutting = false
  #sameServer = true
  /** The server of the client's list that the second connection is to, when it is not the one in use. */
  #elsewhere: KnownServer | null = null

  constructor(internals: Internals, isDraining: () => boolean, tls: object, options: HandoffOptions) {
    const { protocol } = internals
    this.#internals = internals
    this.#protocol = protocol
    this.#isDraining = isDraining
    this.#options = { ...protocol.options, tls }
    this.#timeout = options.timeout ?? TIMEOUT
    this.#dwell = options.dwell ?? DWELL
    this.#limit = options.limit ?? LIMIT
    this.#tries = options.tries ?? TRIES
    this.#groupOrder = options.groupOrder ?? true
    this.#signal =
      options.signal === undefined ? this.#stop.signal : AbortSignal.any([this.#stop.signal, options.signal])
    const gone = (why: Error) => () => this.#stop.abort(why)
    this.#forget.push(
      onEnd(protocol.closed, gone(new Error('the connection was closed'))),
      onEnd(protocol.transport.closed(), gone(lost('the connection was lost'))),
    )
  }

  async run(): Promise<Omit<Handoff, 'attempts'>> {
    const began = performance.now()
    this.#mayGoOn()
    await this.#unlessStopped(FirstConnection.free(this.#protocol, this.#timeout))
    const { second, sameServer, elsewhere } = await reach(this.#internals, this.#options, {
      tries: this.#tries,
      timeout: this.#timeout,
      signal: this.#signal,
    })
    this.#sameServer = sameServer
    this.#elsewhere = elsewhere
    const dialled = performance.now()
    const first = new FirstConnection(this.#internals, this.#timeout, (frame) => this.#onFirst(frame))
    second.onMessage = (frame) => this.#onSecond(frame)
    const unlinkEnd = onEnd(second.transport.closed(), () =>
      this.#stop.abort(lost('the new connection was lost')),
    )
    const end = () => {
      first.discard()
      second.discard()
    }
    this.#forget.push(unlinkEnd, onEnd(this.#protocol.closed, end))
    let held: Held | null = null
    try {
      await this.#calm(first)
      // Our own messages, sent on the first, would come back on the second: nothing is sent while both are there.
      if (this.#options.noEcho === true) {
        held = this.#hold(first)
        await this.#unlessStopped(first.ping())
        await this.#settle()
      }
      await this.#join(held?.plain ?? this.#wanted().plain, first, second)
      held ??= this.#hold(first)
      await this.#joinLate(held, first, second)
      unlinkEnd()
    } catch (cause) {
      await this.#keepFirst(first, second)
      throw cause
    }
    await this.#cut(first, second)
    const done = performance.now()
    return {
      sameServer: this.#sameServer,
      dialMs: dialled - began,
      overlapMs: held.at - dialled,
      cutMs: done - held.at,
      held: this.#overlap.held,
      matched: this.#overlap.matched,
    }
  }

  end(): void {
    for (const forget of this.#forget) forget()
  }

  // ---- overlap

  /** Gives the second connection these plain subscriptions, and waits for the moments that `Overlap` speaks of. */
  async #join(
    subscriptions: readonly ClientSubscription[],
    first: FirstConnection,
    second: SecondConnection,
  ): Promise<void> {
    const sids = subscriptions.map(({ sid }) => sid)
    for (const sid of sids) this.#plain.add(sid)
    // The first must have them before the second has: what comes to the second alone would be dropped, and the first
    // message of a JetStream consumer comes as soon as anybody has subscribed.
    this.#protocol.flushPending()
    await this.#unlessStopped(first.ping())
    await this.#settle()
    this.#overlap.open(sids)
    await this.#unlessStopped(second.ping(subscribe(subscriptions)))
    await this.#settle()
    // two, because a delivery that was matched before the second had the subscription can trail the first PONG
    await this.#unlessStopped(first.ping())
    await this.#unlessStopped(first.ping())
    this.#overlap.note(sids)
    // another server may be later with copies of what was delivered before: they are dropped as long as nothing is held
    await this.#settle()
    await this.#unlessStopped(second.ping())
    this.#mayGoOn()
    this.#overlap.hold(sids)
    await this.#compare(first)
  }

  /** How often did messages come that are equal? Copies by way of another server may take any time: no telling there. */
  async #compare(first: FirstConnection): Promise<void> {
    if (!this.#sameServer) return
    for (let left = COMPARISONS; left > 0 && this.#overlap.unsure; left -= 1) {
      const done = this.#overlap.compare()
      // two, because a delivery can trail the first PONG
      await this.#unlessStopped(first.ping())
      await this.#unlessStopped(first.ping())
      done()
    }
    this.#mayGoOn()
  }

  /** Everything that waits in the first connection prolongs overlap and cut: look for a better moment. */
  async #calm(first: FirstConnection): Promise<void> {
    for (let left = LOOKS_FOR_CALM; left > 0; left -= 1) {
      const began = performance.now()
      await this.#unlessStopped(first.ping())
      if (performance.now() - began < CALM) return
    }
  }

  /** The client's frames wait from here on; what it subscribes to from here on is among them. */
  #hold(first: FirstConnection): Held {
    this.#mayGoOn()
    first.hold()
    return { at: performance.now(), ...this.#wanted() }
  }

  #wanted(): Wanted {
    return wanted(this.#protocol.subscriptions.all())
  }

  /** What changed meanwhile, and the queue subscriptions: those as late as can be, for a group may have its order. */
  async #joinLate({ plain, queue }: Held, first: FirstConnection, second: SecondConnection): Promise<void> {
    const { added, removed } = changes(this.#plain, plain)
    for (const sid of removed) this.#plain.delete(sid)
    if (removed.length > 0) await this.#unlessStopped(second.ping(unsubscribe(removed)))
    if (added.length > 0) await this.#join(added, first, second)
    if (queue.length > 0) await this.#joinGroups(queue, second)
    // On another server also: what we published must be on its way before we publish by another route.
    await this.#settle()
    this.#mayGoOn()
  }

  /** From here on the messages of queue groups wait on both, to be delivered in the order of the references. */
  async #joinGroups(queue: readonly ClientSubscription[], second: SecondConnection): Promise<void> {
    for (const { sid } of queue) this.#references.set(referenceOf(sid), sid)
    if (this.#groupOrder) {
      second.mayBeRefused = true
      await this.#unlessStopped(second.ping(subscribeReferences(queue)))
      await this.#settle()
      second.mayBeRefused = false
    }
    for (const { sid } of queue) this.#queue.add(sid)
    await this.#unlessStopped(second.ping(subscribe(queue)))
  }

  /** Does the client get it now? */
  #onFirst(frame: MessageFrame): boolean {
    if (this.#queue.has(frame.msg.sid)) {
      this.#overlap.keep(frame)
      return false
    }
    if (this.#isCutting && this.#plain.has(frame.msg.sid)) {
      this.#overlap.deliveredLate(frame)
      return false
    }
    this.#overlap.delivered(frame)
    return true
  }

  #onSecond(frame: MessageFrame): void {
    const { sid } = frame.msg
    const member = this.#references.get(sid)
    if (member !== undefined) this.#overlap.seen({ ...frame, msg: { ...frame.msg, sid: member } })
    else if (this.#queue.has(sid)) this.#overlap.arrivedForGroup(frame)
    else if (this.#plain.has(sid)) this.#overlap.arrived(frame)
    if (this.#overlap.bytes > this.#limit) {
      this.#stop.abort(new TooMuch(`more than ${this.#limit} bytes came before the cut`))
    }
  }

  // ---- cut

  /** From the first UNSUB on the service is on the second connection, unless that one ends now. */
  async #cut(first: FirstConnection, second: SecondConnection): Promise<void> {
    const sids = this.#protocol.subscriptions.all().map(({ sid }) => sid)
    this.#isCutting = true
    try {
      // Queue subscriptions first. Deliveries that were matched before an UNSUB can trail its PONG: two of them.
      const done = this.#sameServer ? this.#overlap.compare() : () => {}
      await first.ping(unsubscribe([...this.#queue, ...sids.filter((sid) => !this.#queue.has(sid))]))
      await first.ping()
      done()
    } catch {
      // It is dead, and said what it could.
    }
    try {
      await second.ping()
    } catch (cause) {
      this.#backToFirst(first, second)
      throw this.#protocol.isClosed() ? new Error('the connection was closed') : cause
    }
    this.#takeOver(first, second)
  }

  /** In one go, so that no frame comes between. */
  #takeOver(first: FirstConnection, second: SecondConnection): void {
    const protocol = this.#protocol
    const gate = protocol.transport
    if (protocol.isClosed() || !isGate(gate)) {
      second.discard()
      throw new Error('the connection was closed')
    }
    const { rawInfo } = second
    const due = this.#overlap.merge()
    // A server delivers a message to one connection after the other, and its PONGs may come between when it gets no processor.
    const isWhole = this.#sameServer && !this.#overlap.owed
    const dispatcher = isWhole
      ? protocol
      : withoutLateCopies(this.#internals, second, this.#overlap, this.#plain, this.#dwell)
    second.transport.send(Buffer.from(unsubscribe(this.#references.keys())))
    second.handOver(protocol, dispatcher)
    gate.release(second.transport)
    for (const frame of due) this.#deliver(frame)
    if (this.#elsewhere !== null) {
      protocol.server = this.#elsewhere
      protocol.servers.currentServer = this.#elsewhere
    }
    if (!this.#sameServer) protocol.features.update(versionOf(second.info.version))
    protocol.processInfo(rawInfo)
    first.discard()
    if (gate.disconnectAsked) second.transport.disconnect()
  }

  /** A callback of the service that throws does not take the messages after it along. */
  #deliver(frame: MessageFrame): void {
    // ended before its frames were held: the first connection delivered its last message
    const { sid } = frame.msg
    if (!this.#plain.has(sid) && !this.#queue.has(sid)) return
    try {
      this.#protocol.push(frame)
    } catch (error) {
      this.#protocol.dispatchStatus({ type: 'error', error })
    }
  }

  // ---- not moved

  /** Before the cut: the first connection still has everything. The second may owe messages of queue groups. */
  async #keepFirst(first: FirstConnection, second: SecondConnection): Promise<void> {
    first.open()
    if (this.#queue.size > 0) await second.ping(unsubscribe(this.#queue)).catch(() => {})
    for (const frame of this.#overlap.mergeGroups()) this.#deliver(frame)
    first.letGo()
    second.discard()
  }

  /** In the cut: the first has no subscriptions any more. It gets them again, after what the second had got. */
  #backToFirst(first: FirstConnection, second: SecondConnection): void {
    const { plain, queue } = this.#wanted()
    first.transport.send(Buffer.from(subscribe([...plain, ...queue])))
    for (const frame of this.#overlap.merge()) this.#deliver(frame)
    first.letGo()
    second.discard()
  }

  // ---- both

  /** Only before the cut: in it, the service's messages count more than why we should stop. */
  #unlessStopped(answer: Promise<void>): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>()
    const stop = () => reject(this.#signal.reason)
    this.#signal.addEventListener('abort', stop, { once: true })
    if (this.#signal.aborted) stop()
    answer.catch(() => {})
    return Promise.race([answer, promise]).finally(() => this.#signal.removeEventListener('abort', stop))
  }

  async #settle(): Promise<void> {
    if (!this.#sameServer) await sleep(this.#dwell, this.#signal)
  }

  #mayGoOn(): void {
    this.#signal.throwIfAborted()
    if (this.#isDraining()) throw new Error('the connection is draining')
    if (!this.#protocol.connected) throw new Error('the connection is not connected')
  }
}

function versionOf(version: string): { major: number; minor: number; micro: number } {
  const [major = 0, minor = 0, micro = 0] = version.split(/[.-]/).map(Number)
  return { major, minor, micro }
}

const isGate = (transport: object): transport is Gate => 'release' in transport
