/** Which authority is next, when it is due, and when it may sign: time only says when a step may be tried. */
import { RotorError } from '../errors.ts'
import { comingEpoch, type Epoch, epochEnd, epochStart } from '../schedule.ts'
import { formatInstant, type Instant } from '../time.ts'
import type { Order } from '../wire/requests.ts'
import { signingRoot } from './roots.ts'
import { endOf, heldAuthority, type In, keyOf, type Situation, signerLoss } from './situation.ts'
import type { HeldAuthority } from './state.ts'
import { taintOf } from './taint.ts'

/** Why the next authority is due, or null. Only asked in steady: one rotation at a time (I5). */
export function prepareReason(s: In<'steady'>): string | null {
  const { order, active, newest } = s.state
  const next = nextEpoch(s)
  const loss = signerLoss(s)
  if (order?.kind === 'rotate') return `prepare epoch ${next}: ${ordered(order)}`
  if (loss !== null) return `prepare epoch ${next}: ${loss}`
  if (s.now >= wornOutAt(s)) return `prepare epoch ${next}: epoch ${active} signs again and ends soon`
  if (comingEpoch(s.schedule, s.now) <= newest) return null
  return `prepare epoch ${next}, which starts at ${formatInstant(epochStart(s.schedule, next))}`
}

export const ordered = ({ by, reason }: Order): string => `ordered by ${by}: ${reason}`

/** When later epochs were given up the clock may take long to reach a new one: the signer must not end before. */
const wornOutAt = (s: Situation): Instant =>
  s.state.newest > s.state.active ? endOf(s, s.state.active) - s.policy.goOnBelow : Number.POSITIVE_INFINITY

/**
 * Never an epoch that was used before, and never one that is over; epochs an issuer slept through are skipped, and one
 * for which the store has an authority of another root than the one that signs now.
 */
export function nextEpoch(s: Situation): Epoch {
  let epoch = Math.max(comingEpoch(s.schedule, s.now), s.state.newest + 1)
  while (isOfOtherRoot(s, epoch)) epoch += 1
  return epoch
}

function isOfOtherRoot(s: Situation, epoch: Epoch): boolean {
  const held = heldAuthority(s, epoch)
  return held !== undefined && s.seen.signedBy[held.sha256] !== signingRoot(s)
}

export const prepareAt = (s: Situation): Instant =>
  Math.min(epochStart(s.schedule, s.state.newest + 1) - s.schedule.lead, wornOutAt(s))

/** At the start of its epoch; at once when it was ordered or nothing else can sign; before the old signer ends. */
export function activateAt(s: In<'distributing'>): Instant {
  if (s.state.order?.kind === 'rotate' || signerLoss(s) !== null) return s.state.since
  return Math.min(epochStart(s.schedule, s.state.next), endOf(s, s.state.active) - s.schedule.lead)
}

/** Why an authority of the bundle can not become the signer any more, or null. */
export function whyUnusable(s: Situation, epoch: Epoch): string | null {
  const taint = taintOf(s, epoch)
  if (taint !== undefined) return `it is tainted by ${taint.by}: ${taint.reason}`
  if (keyOf(s, epoch) === undefined) return 'its key is lost'
  const end = endOf(s, epoch)
  return s.now >= end - s.schedule.lead ? `it was not used until ${formatInstant(end)}, when it ends` : null
}

/** The held authority of a new epoch; null while there is none, or while its certificate is not valid yet. */
export function usable(s: Situation, epoch: Epoch): HeldAuthority | null {
  const authority = heldAuthority(s, epoch)
  if (authority === undefined) return null
  if (authority.notAfter - s.schedule.lead <= s.now) {
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `key store: expected the authority of epoch ${epoch} to last until ` +
        `${formatInstant(epochEnd(s.schedule, epoch))}, found one that ends at ${formatInstant(authority.notAfter)}`,
      { details: { epoch } },
    )
  }
  return authority.notBefore <= s.now ? authority : null
}
