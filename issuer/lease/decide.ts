/**
 * Who may lead now? Pure. No clock of another machine is trusted: who waits measures by its own clock how long it has
 * seen no renewal, and who leads counts from before it asked. The leader stops by itself at three quarters of the
 * lease, others take over at the whole of it, so clocks may differ in speed by a quarter. What a leader that was paused
 * writes afterwards is refused by its fencing number; this only makes it rare.
 */
import { type Duration, formatInstant, type Tick } from '../../src/time.ts'
import type { LeaseRecord } from '../../src/wire/lease.ts'

/** The record as we know it, and since when it has been like this. */
export interface Sighting {
  /** Null when there is none. */
  readonly record: LeaseRecord | null
  /** 0 when there is none. */
  readonly revision: number
  /** Monotonic. */
  readonly since: number
}

/** Our time as the leader. */
export interface Tenure {
  readonly record: LeaseRecord
  readonly revision: number
  /** When we asked for what the server then confirmed. */
  readonly confirmed: Tick
  /** The outcome of a write was not known: renewed at once. */
  readonly renew?: boolean
}

export interface Candidate {
  readonly name: string
  readonly instance: string
  /** Of a lease, milliseconds. */
  readonly duration: Duration
  /** The highest fencing number that is known, in a lease or in a state. */
  readonly fence: number
  /** We led before: then a record in our name is not of an earlier life of ours. */
  readonly hasLed: boolean
}

/** Part of the lease after which a leader that was not confirmed does nothing more. */
const CERTAIN = 3 / 4
/** Renewals in a lease. */
const RENEWALS = 4

/** May the leader still write? Time asleep counts, and so does a clock that was set forward. */
export function leadsFor(tenure: Tenure, now: Tick): Duration {
  const { mono, wall } = tenure.confirmed
  const elapsed = Math.max(now.mono - mono, now.wall - wall)
  return Math.max(0, tenure.record.duration * CERTAIN - elapsed)
}

/** In how many milliseconds the leader renews. */
export function renewIn(tenure: Tenure, now: Tick): Duration {
  if (tenure.renew) return 0
  return Math.max(0, tenure.record.duration / RENEWALS - (now.mono - tenure.confirmed.mono))
}

/** The same tenure, renewed. */
export const renewed = ({ record }: Tenure, now: Tick): LeaseRecord => ({
  ...record,
  at: formatInstant(now.wall),
})

/** In how many milliseconds somebody who stands by may take over; 0: now. */
export function takeIn(sighting: Sighting, candidate: Candidate, now: Tick): Duration {
  const { record, since } = sighting
  if (record === null || record.holder === null) return 0
  if (record.instance === candidate.instance) return 0
  // Its process is gone: two can not run on one identity directory.
  if (record.holder === candidate.name && !candidate.hasLed) return 0
  return Math.max(0, Math.max(record.duration, candidate.duration) - (now.mono - since))
}

/** The record of a new tenure, above every number that was seen. */
export function taken({ record }: Sighting, candidate: Candidate, now: Tick): LeaseRecord {
  const { name, instance, duration, fence } = candidate
  const at = formatInstant(now.wall)
  return {
    v: 1,
    holder: name,
    instance,
    fence: Math.max(record?.fence ?? 0, fence) + 1,
    duration,
    since: at,
    at,
  }
}
