/** Time as a value: clocks, durations as text, and waits that end when they are told to. */
import { RotorError } from './errors.ts'

/** Milliseconds since 1970, as `Date.now()` gives them. */
export type Instant = number
/** Milliseconds. */
export type Duration = number

export interface Clock {
  now(): Instant
}

export const systemClock: Clock = { now: () => Date.now() }

/** One moment on both clocks of this machine. */
export interface Tick {
  /** Monotonic, milliseconds: nobody can set it, and it stands still while the machine sleeps. */
  readonly mono: number
  readonly wall: Instant
}

export const tickOf = (clock: Clock): Tick => ({ mono: performance.now(), wall: clock.now() })

/** The largest delay a Node timer takes; more becomes 1 ms there. */
const MAX_TIMER: Duration = 2 ** 31 - 1

/**
 * Waits `ms`, or until `signal` aborts (then rejects with the signal's reason). Longer waits than a timer can
 * hold are cut in pieces, and each piece looks at the clock again, so that a machine that slept wakes in time. A clock
 * that is set back makes no wait longer.
 */
export async function sleep(ms: Duration, signal?: AbortSignal, clock: Clock = systemClock): Promise<void> {
  const end = clock.now() + ms
  let waited = 0
  for (let left = ms; left > 0; left = Math.min(end - clock.now(), ms - waited)) {
    const piece = Math.min(left, MAX_TIMER, 60_000)
    await timer(piece, signal)
    waited += piece
  }
  signal?.throwIfAborted()
}

function timer(ms: Duration, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = () => {
      clearTimeout(handle)
      reject(signal?.reason)
    }
    const handle = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

const UNITS: Readonly<Record<string, Duration>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `"6h"`, `"1h30m"`, `"250ms"` as milliseconds. Throws ERR_CONFIG_INVALID that names `key`. */
export function parseDuration(text: string, key = 'duration'): Duration {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)]
  if (parts.length === 0 || parts.map((p) => p[0]).join('') !== text) {
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      `${key}: expected a duration such as "6h" or "1h30m", found ${JSON.stringify(text)}`,
    )
  }
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNITS[unit ?? ''] ?? 0), 0)
}

/** The shortest exact text of a duration, `5400000` -> `"1h30m"`; fractions of a millisecond are dropped. */
export function formatDuration(ms: Duration): string {
  let left = Math.round(Math.abs(ms))
  let text = ''
  for (const unit of ['d', 'h', 'm', 's', 'ms']) {
    const size = UNITS[unit] ?? 1
    const amount = Math.floor(left / size)
    if (amount > 0) text += `${amount}${unit}`
    left -= amount * size
  }
  return (ms < 0 ? '-' : '') + (text || '0s')
}

/** RFC 3339 in UTC with milliseconds, the only form on the wire. */
export const formatInstant = (instant: Instant): string => new Date(instant).toISOString()
