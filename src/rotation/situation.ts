/** What one turn judges: state, bundle, observations, policy and time as one value, and the plain facts read from it. */
import { type Epoch, epochEnd, type Schedule } from '../schedule.ts'
import type { Duration, Instant } from '../time.ts'
import { type BundlePayload, scheduleOf } from '../wire/bundle.ts'
import { bundleOf, rootsIn } from './payloads.ts'
import type { HeldAuthority, Observations, RotationPolicy, RotationState } from './state.ts'

const MINUTE = 60_000
const MAX_FAILURES = { servers: 0, clients: 0.05 }

export interface Situation<S extends RotationState = RotationState> {
  readonly state: S
  /** The payload of the state, parsed. */
  readonly bundle: BundlePayload
  readonly schedule: Schedule
  /** SHA-256 of each root of the bundle, in its order: the newest first. */
  readonly roots: readonly string[]
  readonly seen: Observations
  /** With its defaults filled in. */
  readonly policy: Required<{ readonly [K in keyof RotationPolicy]: NonNullable<RotationPolicy[K]> }>
  readonly now: Instant
}

/** A situation in this phase. */
export type In<P extends RotationState['phase']> = Situation<Extract<RotationState, { phase: P }>>

/** Throws ERR_RECORD_INVALID when the state contradicts its own payload, TypeError when the policy is no policy. */
export function situation<S extends RotationState>(
  state: S,
  seen: Observations,
  policy: RotationPolicy,
  now: Instant,
): Situation<S> {
  if (!Number.isFinite(now)) throw new TypeError(`now: expected milliseconds, found ${now}`)
  const bundle = bundleOf(state)
  const schedule = scheduleOf(bundle)
  return {
    state,
    bundle,
    schedule,
    roots: rootsIn(bundle),
    seen,
    policy: {
      goOnBelow: duration('goOnBelow', policy.goOnBelow, 1.5 * schedule.epochDuration),
      retireAfter: duration('retireAfter', policy.retireAfter, Number.POSITIVE_INFINITY),
      patience: duration('patience', policy.patience, schedule.lead),
      census: policy.census ?? 'optional',
      taintPatience: duration('taintPatience', policy.taintPatience, Math.min(schedule.lead, MINUTE)),
      maxFailures: policy.maxFailures ?? MAX_FAILURES,
    },
    now,
  }
}

function duration(key: string, given: Duration | undefined, otherwise: Duration): Duration {
  if (given === undefined) return otherwise
  if (!(given >= 0)) throw new TypeError(`${key}: expected milliseconds, 0 or more, found ${given}`)
  return given
}

/** What the key store has for an epoch, in a bundle or not. */
export const heldAuthority = (s: Situation, epoch: Epoch): HeldAuthority | undefined =>
  s.seen.held.find((authority) => authority.epoch === epoch)

/** The key of an authority in the bundle. Another key that was made for the same epoch is no key of it. */
export function keyOf(s: Situation, epoch: Epoch): HeldAuthority | undefined {
  const trusted = s.bundle.authorities.find((authority) => authority.epoch === epoch)
  return s.seen.held.find((held) => held.epoch === epoch && held.sha256 === trusted?.sha256)
}

/** When nobody may trust this authority any more: the end of its window, or of its certificate if that is sooner. */
export function endOf(s: Situation, epoch: Epoch): Instant {
  const window = epochEnd(s.schedule, epoch)
  return Math.min(window, keyOf(s, epoch)?.notAfter ?? window)
}

export const hasEnded = (s: Situation, epoch: Epoch): boolean => s.now >= endOf(s, epoch)

/** Why nothing can be issued until another authority signs, or null. */
export function signerLoss(s: Situation): string | null {
  const { active } = s.state
  const taint = s.state.tainted[active]
  if (taint !== undefined) return `epoch ${active}, which signs, is tainted by ${taint.by}: ${taint.reason}`
  return keyOf(s, active) === undefined ? `the key of epoch ${active}, which signs, is lost` : null
}

/** The earliest of these that lies ahead; null when none does. */
export function soonest(now: Instant, moments: readonly Instant[]): Instant | null {
  const ahead = moments.filter((moment) => moment > now && Number.isFinite(moment))
  return ahead.length === 0 ? null : Math.min(...ahead)
}
