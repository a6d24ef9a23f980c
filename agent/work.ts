/** Accepted bundles in single flight: working is said while one is applied, an answer is given when it is proven. */
import type { JsMsg } from '@nats-io/jetstream'
import type { AcceptedBundle } from '../src/bundle/accept.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import type { Link } from '../src/nats/link.ts'
import { Backoff, Silence } from '../src/tasks.ts'
import { type Clock, type Duration, type Instant, sleep } from '../src/time.ts'
import type { Applier } from './apply.ts'
import { ACK_WAIT } from './consume.ts'
import type { Reporter } from './reporter.ts'
import { SingleFlight } from './single-flight.ts'

export interface BundleItem {
  readonly bundle: AcceptedBundle
  /** The message it came in; null when it came from disk or from the renewal timer. */
  readonly message: JsMsg | null
}

export class Work {
  readonly #applier: Pick<Applier, 'isSuperseded' | 'isApplied' | 'apply'>
  readonly #reporter: Pick<Reporter, 'flush'>
  readonly #link: Pick<Link, 'leave'>
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #signal: AbortSignal
  readonly #backoff: Backoff
  readonly #flight: SingleFlight<BundleItem>
  readonly #silence = new Silence()
  /** Version that waits to be tried again without a message behind it. */
  #retrying: number | null = null
  /** The version that failed last, and for how long it is left alone unless it comes in a message. */
  #failed: { readonly version: number; readonly at: Instant; readonly wait: Duration } | null = null

  /** `patience`: the longest wait before a bundle that failed is tried again, milliseconds. */
  constructor(
    applier: Pick<Applier, 'isSuperseded' | 'isApplied' | 'apply'>,
    reporter: Pick<Reporter, 'flush'>,
    link: Pick<Link, 'leave'>,
    patience: Duration,
    clock: Clock,
    logger: Logger,
    signal: AbortSignal,
  ) {
    this.#backoff = new Backoff({ base: Math.min(500, patience), max: patience })
    this.#applier = applier
    this.#reporter = reporter
    this.#link = link
    this.#clock = clock
    this.#logger = logger
    this.#signal = signal
    this.#flight = new SingleFlight<BundleItem>({
      run: (item) => this.#run(item),
      better: newer,
      // Only a newer bundle answers for an older one; another copy of the same one says nothing about it.
      superseded: (item, by) => {
        if (item.bundle.payload.version < by.bundle.payload.version) item.message?.ack()
      },
    })
  }

  offer(item: BundleItem): void {
    if (!this.#signal.aborted && !this.#comesAgain(item)) this.#flight.offer(item)
  }

  idle(): Promise<void> {
    return this.#flight.idle()
  }

  async #run({ bundle, message }: BundleItem): Promise<void> {
    const done = new AbortController()
    const working = this.#sayWorking(message, done.signal)
    try {
      // a retry may come after a newer one was accepted: it must not go back, nor be asked for again
      if (this.#applier.isSuperseded(bundle)) return message?.ack()
      if (await this.#applier.isApplied(bundle)) return message?.ack()
      const retire = await this.#applier.apply(bundle, this.#signal)
      try {
        await this.#reporter.flush(this.#signal)
        message?.ack()
        this.#backoff.reset()
        this.#silence.reset()
        this.#failed = null
      } finally {
        await retire()
      }
    } catch (cause) {
      if (this.#signal.aborted) return
      const error = RotorError.from(cause)
      this.#again({ bundle, message }, error)
      // after the answer to the message, which has to go out on the connection it came in on
      if (this.#silence.count(error)) await this.#link.leave(this.#signal)
    } finally {
      done.abort()
      await working
    }
  }

  /** A failure is tried again later: by redelivery, or by ourselves when no message stands behind the item. */
  #again(item: BundleItem, error: RotorError): void {
    const { version } = item.bundle.payload
    const wait = this.#backoff.next()
    this.#failed = { version, at: this.#clock.now(), wait }
    this.#logger.warn(
      { version, code: error.code, err: error.message, againMs: wait },
      'a bundle was not applied',
    )
    if (item.message !== null) {
      item.message.nak(wait)
      return
    }
    // One retry at a time, and never of a bundle that a newer one has replaced.
    if (this.#retrying !== null && this.#retrying >= version) return
    this.#retrying = version
    void sleep(wait, this.#signal, this.#clock).then(
      () => {
        if (this.#retrying !== version) return
        this.#retrying = null
        this.#flight.offer(item)
      },
      () => {},
    )
  }

  /** Is it tried again soon anyway? While a new leaf is due the renewal timer offers the bundle every second. */
  #comesAgain({ bundle, message }: BundleItem): boolean {
    if (message !== null || this.#failed === null) return false
    const { version, at, wait } = this.#failed
    return bundle.payload.version <= version && Math.abs(this.#clock.now() - at) < wait
  }

  async #sayWorking(message: JsMsg | null, signal: AbortSignal): Promise<void> {
    while (message !== null && !signal.aborted) {
      message.working()
      await sleep(ACK_WAIT / 3, signal).catch(() => {})
    }
  }
}

/** The higher version; of the same one, what somebody waits for an answer to. */
function newer(waiting: BundleItem, offered: BundleItem): BundleItem {
  const gain = offered.bundle.payload.version - waiting.bundle.payload.version
  return gain > 0 || (gain === 0 && offered.message !== null) ? offered : waiting
}
