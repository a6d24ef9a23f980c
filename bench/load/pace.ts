/** How many messages are due now? Paced by the clock, so that the rate does not depend on how late timers fire. */
import { sleep } from '../../src/time.ts'

/** Milliseconds between two looks at the clock. */
const TICK = 2
/** A process that was away for longer does not make up for it: a burst would be another load. */
const MOST_MS = 500

export class Pace {
  readonly #perMs: number
  #last: number
  #due = 0

  /** @param rate per second; @param now milliseconds */
  constructor(rate: number, now: number) {
    this.#perMs = rate / 1000
    this.#last = now
  }

  /** Whole messages that became due since the last call. */
  take(now: number): number {
    this.#due += Math.min(now - this.#last, MOST_MS) * this.#perMs
    this.#last = now
    const whole = Math.floor(this.#due)
    this.#due -= whole
    return whole
  }
}

export interface PacedWork {
  /** Times per second. */
  readonly rate: number
  readonly work: () => void
}

/** Does each work at its rate until `signal` aborts; returns then. */
export async function keepPace(all: readonly PacedWork[], signal: AbortSignal): Promise<void> {
  const began = performance.now()
  const paced = all.map(({ rate, work }) => ({ pace: new Pace(rate, began), work }))
  while (!signal.aborted) {
    const now = performance.now()
    for (const { pace, work } of paced) for (let due = pace.take(now); due > 0; due--) work()
    await sleep(TICK, signal).catch(() => {})
  }
}
