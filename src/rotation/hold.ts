/** How long a phase holds for stragglers, and what is written down when it goes on without them. */
import { formatDuration, formatInstant, type Instant } from '../time.ts'
import { endOf, type Situation, signerIsLost } from './situation.ts'
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
  const allowed = s.state.order?.force ? s.state.since : end - s.policy.goOnBelow
  return Math.min(Math.max(s.state.since + s.policy.patience, allowed), end)
}

/** The record of going on without these stragglers, or null while the rotation has to hold for them. */
export function waive(s: Situation, stragglers: readonly Straggler[]): Waiver | null {
  const lost = s.state.phase === 'converging' && signerIsLost(s)
  if (!lost && s.now < passOverAt(s)) return null
  return { names: namesOf(stragglers), reason: lost ? lostReason(s) : passOverReason(s), at: s.now }
}

/** Nobody can be issued a leaf any more: waiting for leaves would last until the domain ends. */
const lostReason = (s: Situation): string => `the key of epoch ${s.state.active}, which signs, is lost`

function passOverReason(s: Situation): string {
  const { order, active } = s.state
  if (order?.force) return `forced by ${order.by}: ${order.reason}`
  const end = endOf(s, active)
  return s.now < end
    ? `epoch ${active} signs and ends in ${formatDuration(end - s.now)}`
    : `epoch ${active} signed and ended at ${formatInstant(end)}`
}

const namesOf = (stragglers: readonly Straggler[]): string[] => [
  ...new Set(stragglers.map((straggler) => straggler.name)),
]

/** `; went on without a, b and 3 more: why`, or nothing. */
export function waiverText(waiver: Waiver | null): string {
  if (waiver === null) return ''
  const told = waiver.names.slice(0, NAMES_TOLD).join(', ')
  const rest = waiver.names.length - NAMES_TOLD
  return `; went on without ${told}${rest > 0 ? ` and ${rest} more` : ''}: ${waiver.reason}`
}
