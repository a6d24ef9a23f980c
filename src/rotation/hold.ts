/** How long a phase holds for stragglers, and what is written down when it goes on without them. */

import type { Epoch } from '../schedule.ts'
import { formatDuration, formatInstant, type Instant } from '../time.ts'
import { endOf, type Situation, signerLoss } from './situation.ts'
import type { Straggler, Waiver } from './state.ts'

/** More names than this are counted, so that a reason stays readable. */
const NAMES_TOLD = 10

/**
 * From when on stragglers may be passed over: the operator forces it, or the signer is about to end and waiting on
 * would end every leaf of the domain. Even then each phase lasts `patience` first, or a forced rotation would overrun
 * the nodes that are well and only need a moment. A signer that has ended, or lost its key, leaves nothing to wait for.
 */
export function passOverAt(s: Situation): Instant {
  const end = endOf(s, s.state.active)
  const { patience, taintPatience } = s.policy
  const epoch = taintedUnderPhase(s)
  if (epoch !== null) {
    const since = Math.max(s.state.since, s.state.tainted[epoch]?.at ?? 0)
    return Math.min(since + Math.min(patience, taintPatience), end)
  }
  const allowed = s.state.order?.force ? s.state.since : end - s.policy.goOnBelow
  return Math.min(Math.max(s.state.since + s.policy.patience, allowed), end)
}

/** A tainted authority on which the phase stands: every moment of a hold is one more for whoever has its key. */
function taintedUnderPhase({ state }: Situation): Epoch | null {
  const stood = state.phase === 'converging' ? [state.active, state.previous] : [state.active]
  return stood.find((epoch) => state.tainted[epoch] !== undefined) ?? null
}

/** The record of going on without these stragglers, or null while the rotation has to hold for them. */
export function waive(s: Situation, stragglers: readonly Straggler[]): Waiver | null {
  // nobody can be issued a leaf any more: waiting for leaves would last until the domain ends
  const loss = s.state.phase === 'converging' ? signerLoss(s) : null
  if (loss === null && s.now < passOverAt(s)) return null
  return { names: namesOf(stragglers), reason: loss ?? passOverReason(s), at: s.now }
}

function passOverReason(s: Situation): string {
  const { order, active } = s.state
  if (order?.force) return `forced by ${order.by}: ${order.reason}`
  const tainted = taintedUnderPhase(s)
  if (tainted !== null) return `epoch ${tainted} is tainted`
  const end = endOf(s, active)
  return s.now < end
    ? `epoch ${active} signs and ends in ${formatDuration(end - s.now)}`
    : `epoch ${active} signed and ended at ${formatInstant(end)}`
}

export const namesOf = (stragglers: readonly Straggler[]): string[] => [
  ...new Set(stragglers.map((straggler) => straggler.name)),
]

/** `; went on without a, b and 3 more: why`, or nothing. */
export function waiverText(waiver: Waiver | null): string {
  if (waiver === null) return ''
  return `; went on without ${inShort(waiver.names)}: ${waiver.reason}`
}

/** `a, b and 3 more`. */
export function inShort(names: readonly string[]): string {
  const rest = names.length - NAMES_TOLD
  return names.slice(0, NAMES_TOLD).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
}

/**
 * Is the rotation stopped by the operator? A pause that was forgotten counts no more when the signer is about to end,
 * and never when nothing can sign.
 */
export const isPaused = (s: Situation): boolean =>
  s.state.paused !== null && signerLoss(s) === null && s.now < pausedUntil(s)

/** The end of a pause that nobody ends. */
export const pausedUntil = (s: Situation): Instant => endOf(s, s.state.active) - s.policy.goOnBelow
