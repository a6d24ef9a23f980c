/** Which root signs the next authority, which one is to come, and which may leave: trust first, use later, remove last. */
import { RotorError } from '../errors.ts'
import { formatInstant } from '../time.ts'
import type { BundleAuthority } from '../wire/bundle.ts'
import { endOf, type Situation } from './situation.ts'
import type { HeldRoot } from './state.ts'

/** Of a new root: ten years, as `rotor init` gives the first one. */
const ROOT_LIFETIME = 10 * 365 * 86_400_000

const heldRoot = (s: Situation, sha256: string): HeldRoot | undefined =>
  s.seen.roots.find((root) => root.sha256 === sha256)

/**
 * The root that signs new authorities: the newest one of the bundle whose key we hold, but never one that agents are
 * still learning. A new root whose key is lost before its first use so leaves the old one in its place.
 */
export function signingRoot(s: Situation): string {
  const known = s.state.phase === 'introducing' ? s.roots.slice(1) : s.roots
  const usable = known.find((sha256) => {
    const held = heldRoot(s, sha256)
    return held !== undefined && held.notAfter - s.schedule.lead > s.now
  })
  return usable ?? known[0] ?? ''
}

/** The key of the newest root of the bundle is in the store. */
export const holdsNewestRoot = (s: Situation): boolean => heldRoot(s, s.roots[0] ?? '') !== undefined

/**
 * The root after the newest one, once its key is in the store. Throws ERR_AUTHORITY_MISSING for one that ends too
 * soon to sign for a whole validity.
 */
export function comingRoot(s: Situation): HeldRoot | null {
  const root = s.seen.roots.find(({ number }) => number === s.state.newestRoot + 1)
  if (root === undefined) return null
  if (root.notAfter <= s.now + s.schedule.validity) {
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `key store: expected root ${root.number} to last until ${formatInstant(s.now + s.schedule.validity)} at least, ` +
        `found one that ends at ${formatInstant(root.notAfter)}; remove it, and a new one is made`,
    )
  }
  return root
}

/** What the coming root has to be. */
export function wantedRoot(s: Situation) {
  const ends = s.bundle.authorities.map(({ epoch }) => endOf(s, epoch))
  return {
    number: s.state.newestRoot + 1,
    notBefore: s.now - s.schedule.lead,
    notAfter: s.now + ROOT_LIFETIME,
    // Whoever trusts the new root trusts through the cross-certificate what the old key signs, also after the old root
    // left the bundle. So it ends with the last authority that needs it.
    cross: s.state.order?.crossSign ? { root: signingRoot(s), notAfter: Math.max(...ends) } : null,
  }
}

/**
 * The roots of a bundle with these authorities, newest first. One leaves when none of its authorities is left and it
 * is neither about to sign nor being learned. A root whose authorities can not be told apart keeps all.
 */
export function remainingRoots(
  s: Situation,
  authorities: readonly BundleAuthority[],
  added: HeldRoot | null = null,
): string[] {
  const learned = s.state.phase === 'introducing' ? s.roots.slice(0, 1) : []
  const signers = authorities.map(({ sha256 }) => s.seen.signedBy[sha256])
  const needed = new Set([signingRoot(s), ...learned, ...signers])
  const kept = s.bundle.roots.filter((_, i) => needed.has(undefined) || needed.has(s.roots[i] ?? ''))
  return added === null ? kept : [added.certificate, ...kept]
}

/** The bundle has a root that nothing needs any more. */
export const hasSpareRoot = (s: Situation): boolean =>
  remainingRoots(s, s.bundle.authorities).length < s.bundle.roots.length

/** `remove root 3f5a9c01, under which no authority is left`, or nothing. */
export function removalReason(s: Situation, remaining: readonly string[]): string {
  return s.bundle.roots
    .flatMap((root, i) => (remaining.includes(root) ? [] : [s.roots[i]?.slice(0, 8)]))
    .map((name) => `remove root ${name}, under which no authority is left`)
    .join('; ')
}
