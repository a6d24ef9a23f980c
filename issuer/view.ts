/**
 * The bundle in force, as this issuer knows it: read in each turn by who leads, from time to time by who stands by. A
 * process that was paused must not sign by what was true before: what is too old is read again first.
 */
import type { RotationState } from '../src/rotation/state.ts'
import type { Duration } from '../src/time.ts'
import { type BundlePayload, bundlePayload } from '../src/wire/bundle.ts'
import { decodeRecord } from '../src/wire/record.ts'

export interface StateViewOptions {
  /** The state as it is stored now; null before the first. */
  readonly read: () => Promise<RotationState | null>
  /** How old it may be, milliseconds. */
  readonly maxAge: Duration
  /** Monotonic milliseconds. */
  readonly ticks?: () => number
}

export class StateView {
  readonly #options: StateViewOptions
  readonly #ticks: () => number
  #bundle: BundlePayload | null = null
  #digest = ''
  #tainted: RotationState['tainted'] = {}
  #readAt = Number.NEGATIVE_INFINITY
  #reading: Promise<void> | null = null

  constructor(options: StateViewOptions) {
    this.#options = options
    this.#ticks = options.ticks ?? (() => performance.now())
  }

  /** As it was known last; null before the state was read the first time. */
  get bundle(): BundlePayload | null {
    return this.#bundle
  }

  /** Authorities that were tainted, by epoch. An order is in the state before any bundle says so. */
  get tainted(): RotationState['tainted'] {
    return this.#tainted
  }

  /** For `take`: a time before the state is read. */
  now(): number {
    return this.#ticks()
  }

  /** The state as it was read or written after `since`. True when the bundle is another one than before. */
  take(state: RotationState, since: number): boolean {
    // a look that began before the last one must not undo an order
    if (since >= this.#readAt) this.#tainted = state.tainted
    this.#readAt = Math.max(this.#readAt, since)
    if (this.#digest === state.digest) return false
    this.#bundle = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
    this.#digest = state.digest
    return true
  }

  /** Not older than `maxAge`. Throws what reading throws. */
  async current(): Promise<BundlePayload | null> {
    if (this.#ticks() - this.#readAt > this.#options.maxAge) {
      this.#reading ??= this.#read().finally(() => {
        this.#reading = null
      })
      await this.#reading
    }
    return this.#bundle
  }

  async #read(): Promise<void> {
    const since = this.#ticks()
    const state = await this.#options.read()
    if (state !== null) this.take(state, since)
  }
}
