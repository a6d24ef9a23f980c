/** How far are two clocks apart, and how sure is that? One question and its answer are enough. */
import { type Duration, formatDuration, type Instant, type Tick } from './time.ts'

export interface ClockReading {
  /** Our clock minus the other one, milliseconds. */
  readonly offsetMs: number
  /** The true offset is at most this far from it, milliseconds. */
  readonly boundMs: number
}

/**
 * The other clock showed `there` at some time between asking and hearing, so the middle of these is off by half of their
 * distance at most (RFC 5905, section 8). The distance is measured by the monotonic clock: ours may be set meanwhile.
 */
export function clockReading(asked: Tick, heard: Tick, there: Instant): ClockReading {
  const half = (heard.mono - asked.mono) / 2
  // the instants are whole milliseconds
  return { offsetMs: Math.round(heard.wall - half - there), boundMs: Math.ceil(half) + 1 }
}

/** By how much the clocks differ at least. */
export const surelyOff = ({ offsetMs, boundMs }: ClockReading): Duration =>
  Math.max(0, Math.abs(offsetMs) - boundMs)

/** `+1m30s ±2ms`, as `-5ms` when nothing is known of the bound. */
export function formatReading({ offsetMs, boundMs }: ClockReading): string {
  const offset = `${offsetMs < 0 ? '' : '+'}${formatDuration(offsetMs)}`
  return boundMs === 0 ? offset : `${offset} ±${formatDuration(boundMs)}`
}
