/** Loops with an owner: join several, and try again with patience. */
import type { RotorError } from './errors.ts'
import { type Duration, sleep } from './time.ts'

/** A long-running part of a process. Ends by itself only with a failure; otherwise when `signal` aborts. */
export type Task = (signal: AbortSignal) => Promise<void>

/** Runs all tasks; the first failure stops the others; returns when every one has ended; throws the first failure. */
export async function runTasks(signal: AbortSignal, tasks: readonly Task[]): Promise<void> {
  const stop = new AbortController()
  const joined = AbortSignal.any([signal, stop.signal])
  let failure: { cause: unknown } | undefined
  await Promise.all(
    tasks.map(async (task) => {
      try {
        await task(joined)
      } catch (cause) {
        if (!joined.aborted) {
          failure ??= { cause }
          stop.abort(cause)
        }
      }
    }),
  )
  if (failure) throw failure.cause
}

/** Exponential waits with full jitter (AWS architecture blog: the variant that spreads a herd best). */
export class Backoff {
  #attempt = 0
  readonly #base: Duration
  readonly #max: Duration
  readonly #random: () => number

  constructor(options: { base?: Duration; max?: Duration; random?: () => number } = {}) {
    this.#base = options.base ?? 100
    this.#max = options.max ?? 15_000
    this.#random = options.random ?? Math.random
  }

  /** The next wait in milliseconds: at least half of the step, at most the whole of it. */
  next(): Duration {
    const step = Math.min(this.#max, this.#base * 2 ** this.#attempt++)
    return Math.round(step / 2 + (this.#random() * step) / 2)
  }

  reset(): void {
    this.#attempt = 0
  }

  wait(signal?: AbortSignal): Promise<void> {
    return sleep(this.next(), signal)
  }
}

/** Counts failures in a row that are missing answers, and says when to look for them elsewhere. */
export class Silence {
  #failures = 0

  /** True at the second missing answer in a row, the fourth, the eighth, ...: an outage is no reason to move for ever. */
  count(error: RotorError): boolean {
    this.#failures = error.code === 'ERR_NATS_UNAVAILABLE' ? this.#failures + 1 : 0
    return this.#failures > 1 && Number.isInteger(Math.log2(this.#failures))
  }

  reset(): void {
    this.#failures = 0
  }
}

/** Does `work` again, with growing waits, until it does not throw; throws its last failure after `tries`. */
export async function retry<T>(
  work: () => Promise<T>,
  options: {
    tries: number
    base?: Duration
    max?: Duration
    signal?: AbortSignal
    worthwhile?: (cause: unknown) => boolean
  },
): Promise<T> {
  const backoff = new Backoff({ base: options.base ?? 50, max: options.max ?? 500 })
  for (let left = options.tries - 1; ; left -= 1) {
    try {
      return await work()
    } catch (cause) {
      if (left <= 0 || options.worthwhile?.(cause) === false) throw cause
      await backoff.wait(options.signal)
    }
  }
}
