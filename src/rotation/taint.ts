/**
 * An authority whose key may be in other hands: until when it may still be in use for the sake of nodes that do not
 * follow, and what shows that nobody trusts it any more.
 */
import type { Epoch } from '../schedule.ts'
import type { Instant } from '../time.ts'
import type { BundleAuthority } from '../wire/bundle.ts'
import { agentStragglers, FORGOT_TAINTED, REFUSES_TAINTED, serverStragglers } from './checks.ts'
import { standingOn } from './connections.ts'
import { hasEnded, heldAuthority, type Situation } from './situation.ts'
import type { RotationState, Straggler, Taint } from './state.ts'

export const taintOf = (s: Situation, epoch: Epoch): Taint | undefined => s.state.tainted[epoch]

/** Until then a tainted authority stays in trust while somebody depends on it. */
export const removeBy = (s: Situation, epoch: Epoch, { at }: Taint): Instant =>
  Math.max(at, s.state.replaced[epoch]?.at ?? at) + s.policy.taintPatience

/** The authorities as a bundle shows them: one that is tainted says so, unless it still has to be called the signer. */
export const marked = (
  state: RotationState,
  authorities: readonly BundleAuthority[],
  signing: Epoch,
): BundleAuthority[] =>
  authorities.map((authority) =>
    state.tainted[authority.epoch] !== undefined && authority.epoch !== signing
      ? { ...authority, status: 'tainted' }
      : authority,
  )

/** Tainted authorities of which the bundle does not say so yet. */
export const unmarked = (s: Situation): Epoch[] =>
  s.bundle.authorities
    .filter(({ epoch, status }) => status !== 'tainted' && epoch !== s.state.active && taintOf(s, epoch))
    .map(({ epoch }) => epoch)

export const taintReason = (s: Situation, epochs: readonly Epoch[]): string =>
  epochs
    .map((epoch) => {
      const taint = taintOf(s, epoch)
      return `taint epoch ${epoch}: ordered by ${taint?.by}: ${taint?.reason}`
    })
    .join('; ')

/** What is known of taints after a bundle with these authorities. `cutOff`: who stood on one that leaves with it. */
export function taintsAfter(
  s: Situation,
  authorities: readonly BundleAuthority[],
  version: number,
  cutOff: Readonly<Record<Epoch, readonly string[]>>,
): RotationState['tainted'] {
  const trusted = (epoch: Epoch): boolean => authorities.some((authority) => authority.epoch === epoch)
  return Object.fromEntries(
    Object.entries(s.state.tainted).flatMap(([key, taint]) => {
      const epoch = Number(key)
      if (taint.removed !== null || trusted(epoch)) return [[key, taint]]
      const names = [...new Set(cutOff[epoch] ?? [])]
      return [[key, { ...taint, removed: { at: s.now, version, cutOff: names } }]]
    }),
  )
}

/** When the last listener began to refuse a leaf of it. */
const refusedSince = (s: Situation, epoch: Epoch, removed: Instant): Instant =>
  Math.max(
    removed,
    ...s.seen.servers.flatMap(({ listeners }) =>
      listeners.flatMap(({ proof }) => (proof?.refuses?.epoch === epoch ? [proof.refuses.since] : [])),
    ),
  )

export interface Distrust {
  readonly epoch: Epoch
  readonly taint: Taint
  readonly removed: NonNullable<Taint['removed']>
  /** Who may trust it still, or was not seen to refuse it. */
  readonly stragglers: readonly Straggler[]
}

/**
 * The oldest authority that has left trust and of which it is not proven yet, with what is missing; null when there is
 * none. Nobody is passed over here: the proof is complete or the authority has ended. Nothing else waits for it.
 */
export function openDistrust(s: Situation): Distrust | null {
  const epochs = Object.keys(s.state.tainted).map(Number)
  for (const epoch of epochs.sort((a, b) => a - b)) {
    const taint = taintOf(s, epoch)
    const removed = taint?.removed ?? null
    if (taint === undefined || removed === null) continue
    if (hasEnded(s, epoch)) return { epoch, taint, removed, stragglers: [] }
    const agents = agentStragglers(s, FORGOT_TAINTED(epoch, removed))
    // without the key no leaf can be made to try with
    const servers =
      heldAuthority(s, epoch) === undefined ? [] : serverStragglers(s, REFUSES_TAINTED(removed), epoch)
    const nodes = [...agents, ...servers]
    // as long as a server takes a leaf of it, a connection that was ended comes back
    const connections = nodes.length > 0 ? [] : standingOn(s, epoch, refusedSince(s, epoch, removed.at))
    return { epoch, taint, removed, stragglers: [...nodes, ...connections] }
  }
  return null
}
