/**
 * The time in which both connections have the subscriptions: the second gets what the first has, and `Overlap` sees what
 * comes on either. STATES.md: join, join late.
 */
import { type Duration, sleep } from '../../time.ts'
import type { Course } from './course.ts'
import type { FirstConnection } from './first.ts'
import type { ClientSubscription } from './internals.ts'
import { type MessageFrame, Overlap } from './overlap.ts'
import type { SecondConnection } from './second.ts'
import {
  changes,
  referenceOf,
  subscribe,
  subscribeReferences,
  unsubscribe,
  type Wanted,
} from './subscriptions.ts'

/** Tries to find a moment without messages that are equal to others of a moment ago. */
const COMPARISONS = 5
/** The dwell on the same server: for so long it may get no processor. A busy service has twice the messages in that time. */
const STALL: Duration = 100
/** The same when the service's frames wait already. */
const HELD_STALL: Duration = 25

export interface JoinOptions {
  readonly first: FirstConnection
  readonly second: SecondConnection
  readonly sameServer: boolean
  /** Milliseconds until another server knows of a subscription, or a server has delivered what it had begun to deliver. */
  readonly dwell: Duration
  /** Bytes that are remembered and held at most. */
  readonly limit: number
  readonly groupOrder: boolean
}

/** The bound of what is remembered and held was reached. */
export class TooMuch extends Error {}

export class Join {
  readonly overlap: Overlap
  /** Subscriptions that the second connection has. */
  readonly plain = new Set<number>()
  readonly queue = new Set<number>()
  /** The sid of the group's subscription, by that of its reference. */
  readonly references = new Map<number, number>()
  /** What the first gets of plain subscriptions waits, from here on. */
  isCutting = false
  readonly #course: Course
  readonly #o: JoinOptions

  constructor(course: Course, options: JoinOptions) {
    this.#course = course
    this.#o = options
    this.overlap = new Overlap({ sameServer: options.sameServer })
    options.first.onMessage = (frame) => this.#onFirst(frame)
    options.second.onMessage = (frame) => this.#onSecond(frame)
  }

  /** Gives the second connection these plain subscriptions, and waits for the moments that `Overlap` speaks of. */
  async join(subscriptions: readonly ClientSubscription[]): Promise<void> {
    const { first, second } = this.#o
    const sids = subscriptions.map(({ sid }) => sid)
    for (const sid of sids) this.plain.add(sid)
    // The first must have them before the second has: what comes to the second alone would be dropped, and the first
    // message of a JetStream consumer comes as soon as anybody has subscribed.
    await this.#answered(first.flush())
    await this.settle()
    this.overlap.open(sids)
    await this.#answered(second.ping(subscribe(subscriptions)))
    await this.settle()
    // two, because a delivery that was matched before the second had the subscription can trail the first PONG
    await this.#answered(first.ping())
    await this.#answered(first.ping())
    this.overlap.note(sids)
    await this.#dwell()
    await this.#answered(second.ping())
    this.#course.mayGoOn()
    this.overlap.hold(sids)
    await this.#compare()
  }

  /** What changed meanwhile, and the queue subscriptions: those as late as can be, for a group may have its order. */
  async joinLate({ plain, queue }: Wanted): Promise<void> {
    const { added, removed } = changes(this.plain, plain)
    for (const sid of removed) this.plain.delete(sid)
    if (removed.length > 0) await this.#answered(this.#o.second.ping(unsubscribe(removed)))
    if (added.length > 0) await this.join(added)
    if (queue.length > 0) {
      await this.#joinGroups(queue)
      await this.#dwell()
    } else {
      // On another server: what we published must be on its way before we publish by another route.
      await this.settle()
    }
    this.#course.mayGoOn()
  }

  /** Another server hears of what this one has confirmed. */
  async settle(): Promise<void> {
    const { sameServer, dwell } = this.#o
    if (!sameServer) await sleep(dwell, this.#course.signal)
  }

  /**
   * What was begun before is delivered by now: by another server, or by one that had found the receivers while the second
   * was none of them, or had come to the first of them only, and then got no processor.
   */
  async #dwell(): Promise<void> {
    const { first, sameServer, dwell } = this.#o
    const stall = first.isHeld ? HELD_STALL : STALL
    await sleep(sameServer ? Math.min(dwell, stall) : dwell, this.#course.signal)
  }

  /** How often did messages come that are equal? Copies by way of another server may take any time: no telling there. */
  async #compare(): Promise<void> {
    const { first, sameServer } = this.#o
    if (!sameServer) return
    for (let left = COMPARISONS; left > 0 && this.overlap.unsure; left -= 1) {
      const done = this.overlap.compare()
      // two, because a delivery can trail the first PONG
      await this.#answered(first.ping())
      await this.#answered(first.ping())
      done()
    }
    this.#course.mayGoOn()
  }

  /** From here on the messages of queue groups wait on both, to be delivered in the order of the references. */
  async #joinGroups(queue: readonly ClientSubscription[]): Promise<void> {
    const { first, second, groupOrder } = this.#o
    for (const { sid } of queue) this.references.set(referenceOf(sid), sid)
    if (groupOrder) {
      second.mayBeRefused = true
      await this.#answered(second.ping(subscribeReferences(queue)))
      await this.settle()
      second.mayBeRefused = false
      // its answer may come as late as the cut, or when the handoff was given up
      first.ping().then(
        () => this.overlap.refer(),
        () => {},
      )
    }
    for (const { sid } of queue) this.queue.add(sid)
    await this.#answered(second.ping(subscribe(queue)))
  }

  /** Does the client get it now? */
  #onFirst(frame: MessageFrame): boolean {
    const { sid } = frame.msg
    if (this.queue.has(sid)) {
      this.overlap.keep(frame)
      return false
    }
    if (this.isCutting && this.plain.has(sid)) {
      this.overlap.deliveredLate(frame)
      return false
    }
    this.overlap.delivered(frame)
    return true
  }

  #onSecond(frame: MessageFrame): void {
    const { sid } = frame.msg
    const { limit } = this.#o
    const member = this.references.get(sid)
    if (member !== undefined) this.overlap.seen({ ...frame, msg: { ...frame.msg, sid: member } })
    else if (this.queue.has(sid)) this.overlap.arrivedForGroup(frame)
    else if (this.plain.has(sid)) this.overlap.arrived(frame)
    if (this.overlap.bytes > limit) {
      this.#course.stop(new TooMuch(`more than ${limit} bytes came before the cut`))
    }
  }

  #answered(answer: Promise<void>): Promise<void> {
    return this.#course.unlessStopped(answer)
  }
}
