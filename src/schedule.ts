/** Epochs: which authority belongs to which time. Pure; every question takes `now`. */
import { RotorError } from './errors.ts'
import type { Duration, Instant } from './time.ts'

export type Epoch = number

/** The clockwork of a domain, part of every bundle. All durations in milliseconds. */
export interface Schedule {
  /** Start of epoch 0. */
  readonly epochZero: Instant
  /** @default 6h */
  readonly epochDuration: Duration
  /** How long an authority may be trusted, from the start of its epoch. @default 4 x epochDuration */
  readonly validity: Duration
  /** How long before its epoch an authority is prepared; also the allowed clock skew. @default min(5m, epochDuration/4) */
  readonly lead: Duration
}

const HOUR = 3_600_000
const MINUTE = 60_000

/** A schedule with the defaults filled in. Throws ERR_CONFIG_INVALID when the parts can not work together. */
export function makeSchedule(given: Partial<Schedule> = {}): Schedule {
  const epochDuration = given.epochDuration ?? 6 * HOUR
  const schedule: Schedule = {
    epochZero: given.epochZero ?? 0,
    epochDuration,
    validity: given.validity ?? 4 * epochDuration,
    lead: given.lead ?? Math.min(5 * MINUTE, Math.floor(epochDuration / 4)),
  }
  const problems: string[] = []
  if (!Number.isSafeInteger(schedule.epochZero)) problems.push('epochZero: expected whole milliseconds')
  if (!(schedule.epochDuration >= 1000)) problems.push('epochDuration: expected 1s or more')
  if (!(schedule.validity >= 2 * schedule.epochDuration)) {
    problems.push('validity: expected at least 2 x epochDuration, or there is no overlap')
  }
  if (!(schedule.lead > 0 && schedule.lead < schedule.epochDuration)) {
    problems.push('lead: expected more than 0 and less than epochDuration')
  }
  if (problems.length > 0) throw new RotorError('ERR_CONFIG_INVALID', `schedule: ${problems.join('; ')}`)
  return schedule
}

/** The epoch that `now` lies in. */
export const epochAt = (s: Schedule, now: Instant): Epoch => Math.floor((now - s.epochZero) / s.epochDuration)

export const epochStart = (s: Schedule, epoch: Epoch): Instant => s.epochZero + epoch * s.epochDuration

/** End of the window `[start, start + validity)` in which the authority of `epoch` may be trusted. */
export const epochEnd = (s: Schedule, epoch: Epoch): Instant => epochStart(s, epoch) + s.validity

/** The epoch an authority has to be ready for at `now`: the coming one from `lead` before it starts. */
export const comingEpoch = (s: Schedule, now: Instant): Epoch => epochAt(s, now + s.lead)

/** All epochs whose window contains `now`, oldest first: four with the defaults. */
export function validEpochs(s: Schedule, now: Instant): Epoch[] {
  const newest = epochAt(s, now)
  const count = Math.ceil(s.validity / s.epochDuration)
  return Array.from({ length: count }, (_, i) => newest - count + 1 + i).filter((e) => epochEnd(s, e) > now)
}

/** How long a leaf lives when its authority does not end first. */
export const leafLifetime = (s: Schedule): Duration => 2 * s.epochDuration

/** When a leaf has to be renewed although its authority still signs: after two thirds of its life. */
export const renewAt = (notBefore: Instant, notAfter: Instant): Instant =>
  notBefore + Math.floor(((notAfter - notBefore) * 2) / 3)

/**
 * Where in the window `[0, window)` the node of this name acts: always the same place for the same name, so a
 * restart does not move it, and even over many names (FNV-1a).
 */
export function spread(name: string, window: Duration): Duration {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(name, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return Math.floor((hash / 2 ** 32) * window)
}

/** The window renewals are spread over: a quarter of the lead, at most 30 s. */
export const spreadWindow = (s: Schedule): Duration => Math.min(30_000, Math.floor(s.lead / 4))
