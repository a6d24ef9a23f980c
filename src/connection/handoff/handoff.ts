/**
 * Moves a live connection to new TLS material without a gap: STATES.md beside this file says each step, what the
 * service can notice of it, and what happens when it fails.
 */
import type { Duration } from '../../time.ts'
import { Course } from './course.ts'
import { lost, onEnd } from './ends.ts'
import { FirstConnection } from './first.ts'
import type { Gate } from './gate.ts'
import type { ClientOptions, ClientProtocol, Internals, KnownServer } from './internals.ts'
import { Join, TooMuch } from './join.ts'
import { LateCopies } from './late-copies.ts'
import type { MessageFrame } from './overlap.ts'
import { reach } from './reach.ts'
import type { SecondConnection } from './second.ts'
import { subscribe, unsubscribe, type Wanted, wanted } from './subscriptions.ts'

export interface HandoffOptions {
  /** Milliseconds for the dial, and for each answer of a server. @default 5000 */
  readonly timeout?: Duration
  /**
   * Milliseconds until all servers of a cluster know of a subscription, when the second is on another one. On the same one
   * a shorter time is enough for what it had begun to deliver: 100, or 25 while frames wait, and never more than this.
   * @default 250
   */
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

/** What the client had subscribed to when its frames began to wait. */
interface Held extends Wanted {
  readonly at: number
}

class Move {
  readonly #internals: Internals
  readonly #protocol: ClientProtocol
  readonly #course: Course
  readonly #options: ClientOptions
  readonly #timeout: Duration
  readonly #dwell: Duration
  readonly #limit: number
  readonly #tries: number
  readonly #groupOrder: boolean
  #sameServer = true
  /** The server of the client's list that the second connection is to, when it is not the one in use. */
  #elsewhere: KnownServer | null = null

  constructor(internals: Internals, isDraining: () => boolean, tls: object, options: HandoffOptions) {
    const { protocol } = internals
    this.#internals = internals
    this.#protocol = protocol
    this.#course = new Course(protocol, isDraining, options.signal)
    this.#options = { ...protocol.options, tls }
    this.#timeout = options.timeout ?? TIMEOUT
    this.#dwell = options.dwell ?? DWELL
    this.#limit = options.limit ?? LIMIT
    this.#tries = options.tries ?? TRIES
    this.#groupOrder = options.groupOrder ?? true
  }

  async run(): Promise<Omit<Handoff, 'attempts'>> {
    const began = performance.now()
    const course = this.#course
    course.mayGoOn()
    await course.unlessStopped(FirstConnection.free(this.#protocol, this.#timeout))
    const { second, sameServer, elsewhere } = await reach(this.#internals, this.#options, {
      tries: this.#tries,
      timeout: this.#timeout,
      signal: course.signal,
    })
    this.#sameServer = sameServer
    this.#elsewhere = elsewhere
    const dialled = performance.now()
    const first = new FirstConnection(this.#internals, this.#timeout)
    const join = new Join(course, {
      first,
      second,
      sameServer,
      dwell: this.#dwell,
      limit: this.#limit,
      groupOrder: this.#groupOrder,
    })
    const unlinkEnd = onEnd(second.transport.closed(), () => course.stop(lost('the new connection was lost')))
    const end = () => {
      first.discard()
      second.discard()
    }
    course.defer(unlinkEnd)
    course.defer(onEnd(this.#protocol.closed, end))
    let held: Held | null = null
    try {
      await this.#calm(first)
      // Our own messages, sent on the first, would come back on the second: nothing is sent while both are there.
      if (this.#options.noEcho === true) {
        held = this.#hold(first)
        await course.unlessStopped(first.ping())
        await join.settle()
      }
      await join.join(held?.plain ?? this.#wanted().plain)
      held ??= this.#hold(first)
      await join.joinLate(held)
      unlinkEnd()
    } catch (cause) {
      await this.#keepFirst(first, second, join)
      throw cause
    }
    await this.#cut(first, second, join)
    const done = performance.now()
    return {
      sameServer,
      dialMs: dialled - began,
      overlapMs: held.at - dialled,
      cutMs: done - held.at,
      held: join.overlap.held,
      matched: join.overlap.matched,
    }
  }

  end(): void {
    this.#course.end()
  }

  /** Everything that waits in the first connection prolongs overlap and cut: look for a better moment. */
  async #calm(first: FirstConnection): Promise<void> {
    for (let left = LOOKS_FOR_CALM; left > 0; left -= 1) {
      const began = performance.now()
      await this.#course.unlessStopped(first.ping())
      if (performance.now() - began < CALM) return
    }
  }

  /** The client's frames wait from here on; what it subscribes to from here on is among them. */
  #hold(first: FirstConnection): Held {
    this.#course.mayGoOn()
    first.hold()
    return { at: performance.now(), ...this.#wanted() }
  }

  #wanted(): Wanted {
    return wanted(this.#protocol.subscriptions.all())
  }

  // ---- cut

  /** From the first UNSUB on the service is on the second connection, unless that one ends now. */
  async #cut(first: FirstConnection, second: SecondConnection, join: Join): Promise<void> {
    const { overlap, queue } = join
    const sids = this.#protocol.subscriptions.all().map(({ sid }) => sid)
    join.isCutting = true
    try {
      // Queue subscriptions first. Deliveries that were matched before an UNSUB can trail its PONG: two of them.
      const done = this.#sameServer ? overlap.compare() : () => {}
      await first.ping(unsubscribe([...queue, ...sids.filter((sid) => !queue.has(sid))]))
      await first.ping()
      done()
    } catch {
      // It is dead, and said what it could.
    }
    try {
      await second.ping()
    } catch (cause) {
      this.#backToFirst(first, second, join)
      throw this.#protocol.isClosed() ? new Error('the connection was closed') : cause
    }
    this.#takeOver(first, second, join)
  }

  /** In one go, so that no frame comes between. */
  #takeOver(first: FirstConnection, second: SecondConnection, join: Join): void {
    const protocol = this.#protocol
    const gate = protocol.transport
    if (protocol.isClosed() || !isGate(gate)) {
      second.discard()
      throw new Error('the connection was closed')
    }
    const { rawInfo } = second
    const { overlap, plain, references } = join
    const due = overlap.merge()
    // A server delivers a message to one connection after the other, and its PONGs may come between when it gets no processor.
    const isWhole = this.#sameServer && !overlap.owed
    const dispatcher = isWhole
      ? protocol
      : new LateCopies(this.#internals, second, { overlap, plain, dwell: this.#dwell })
    second.transport.send(Buffer.from(unsubscribe(references.keys())))
    second.handOver(protocol, dispatcher)
    gate.release(second.transport)
    for (const frame of due) this.#deliver(frame, join)
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
  #deliver(frame: MessageFrame, { plain, queue }: Join): void {
    // ended before its frames were held: the first connection delivered its last message
    const { sid } = frame.msg
    if (!plain.has(sid) && !queue.has(sid)) return
    try {
      this.#protocol.push(frame)
    } catch (error) {
      this.#protocol.dispatchStatus({ type: 'error', error })
    }
  }

  // ---- not moved

  /** Before the cut: the first connection still has everything. The second may owe messages of queue groups. */
  async #keepFirst(first: FirstConnection, second: SecondConnection, join: Join): Promise<void> {
    first.open()
    const isShared = join.queue.size > 0
    if (isShared) await second.ping(unsubscribe(join.queue)).catch(() => {})
    second.discard()
    // Until then the group's messages went two ways, and the first may be behind.
    if (isShared) await first.ping().catch(() => {})
    for (const frame of join.overlap.mergeGroups()) this.#deliver(frame, join)
    first.letGo()
  }

  /** In the cut: the first has no subscriptions any more. It gets them again, after what the second had got. */
  #backToFirst(first: FirstConnection, second: SecondConnection, join: Join): void {
    const { plain, queue } = this.#wanted()
    first.transport.send(Buffer.from(subscribe([...plain, ...queue])))
    for (const frame of join.overlap.merge()) this.#deliver(frame, join)
    first.letGo()
    second.discard()
  }
}

function versionOf(version: string): { major: number; minor: number; micro: number } {
  const [major = 0, minor = 0, micro = 0] = version.split(/[.-]/).map(Number)
  return { major, minor, micro }
}

const isGate = (transport: object): transport is Gate => 'release' in transport
