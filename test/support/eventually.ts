/** Waiting for a condition in tests, instead of for a time. */
import { type Duration, sleep } from '../../src/time.ts'

export interface EventuallyOptions {
  /** Milliseconds. @default 10000 */
  readonly timeout?: Duration
  /** Pause between two tries, milliseconds. @default 20 */
  readonly interval?: Duration
  readonly signal?: AbortSignal
}

type Falsy = false | null | undefined | 0 | ''

/**
 * Calls `condition` until it returns something truthy without throwing, and returns that. After the timeout it throws
 * an error whose cause is the last failure.
 */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  { timeout = 10_000, interval = 20, signal }: EventuallyOptions = {},
): Promise<Exclude<T, Falsy>> {
  const end = performance.now() + timeout
  for (let tries = 1; ; tries++) {
    let failure: unknown
    try {
      const value = await condition()
      if (isTruthy(value)) return value
      failure = new Error(`the condition was ${String(value)}`)
    } catch (cause) {
      failure = cause
    }
    if (performance.now() > end) {
      const text = failure instanceof Error ? failure.message : String(failure)
      throw new Error(`not within ${timeout} ms (${tries} tries): ${text}`, { cause: failure })
    }
    await sleep(interval, signal)
  }
}

const isTruthy = <T>(value: T): value is Exclude<T, Falsy> => Boolean(value)
