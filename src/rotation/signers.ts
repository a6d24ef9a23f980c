/**
 * Which key signs bundles, and which one is to come? A change goes beside every phase: the new key is introduced by the
 * old one and signs with it, and the old one leaves when every agent has shown that it knows the new one.
 */
import { extended, withoutLinksTo } from '../bundle/succession.ts'
import { formatDuration } from '../time.ts'
import type { SignerKey } from '../wire/bundle.ts'
import { agentStragglers, KNOWS_SIGNER } from './checks.ts'
import { inShort, isPaused, namesOf } from './hold.ts'
import type { Situation } from './situation.ts'
import type { Effect, HeldSigner, RotationState, Straggler } from './state.ts'

/** What a move writes about signers. */
export interface SignerStep {
  readonly move: 'introduce-signer' | 'retire-signer'
  readonly why: string
  /** Newest first. */
  readonly signers: readonly SignerKey[]
  readonly succession: readonly string[]
  /** `version` is that of the bundle with these signers. */
  readonly state: (version: number) => Pick<RotationState, 'signer' | 'newestSigner'>
}

/** The step that is due, or null. */
export function signerStep(s: Situation): SignerStep | null {
  const change = s.state.signer
  if (change === null) return null
  if (change.withdrawn) return takeBack(s)
  if (isPaused(s)) return null
  return change.introduced === null ? introduceSigner(s) : retireSigner(s)
}

function introduceSigner(s: Situation): SignerStep | null {
  const change = s.state.signer
  const coming = comingSigner(s)
  if (change === null || coming === null || coming.vouched === null) return null
  const { number, key } = coming
  return {
    move: 'introduce-signer',
    why: `introduce signer ${inBrief(key)}: ordered by ${change.by}: ${change.reason}`,
    signers: [key, ...s.bundle.signers],
    succession: extended(s.bundle.succession ?? [], coming.vouched),
    state: (version) => ({
      newestSigner: number,
      signer: { ...change, introduced: { at: s.now, version } },
    }),
  }
}

function retireSigner(s: Situation): SignerStep | null {
  const late = signerStragglers(s)
  const left = late.length === 0 ? '' : passedOver(s, late)
  const [newest, ...old] = s.bundle.signers
  if (left === null || newest === undefined) return null
  return {
    move: 'retire-signer',
    why: `retire signer ${old.map(inBrief).join(', ')}: ${inBrief(newest)} signs alone${left}`,
    signers: [newest],
    succession: s.bundle.succession ?? [],
    state: () => ({ signer: null, newestSigner: s.state.newestSigner }),
  }
}

/** The new one leaves again. Everybody knows the old one, so nobody is waited for. */
function takeBack(s: Situation): SignerStep | null {
  const change = s.state.signer
  const [newest, ...old] = s.bundle.signers
  if (change === null || newest === undefined || old.length === 0) return null
  return {
    move: 'retire-signer',
    why: `withdraw signer ${inBrief(newest)}: ordered by ${change.by}: ${change.reason}`,
    signers: old,
    succession: withoutLinksTo(s.bundle.succession ?? [], new Set([newest.kid])),
    state: () => ({ signer: null, newestSigner: s.state.newestSigner }),
  }
}

/** Agents that have not shown that they know the new signer. */
export function signerStragglers(s: Situation): Straggler[] {
  const introduced = s.state.signer?.introduced
  return introduced == null ? [] : agentStragglers(s, KNOWS_SIGNER(introduced.version))
}

/** In words, or null while the change has to hold: only the operator may go on, and those who are well get `patience`. */
function passedOver(s: Situation, late: readonly Straggler[]): string | null {
  const change = s.state.signer
  if (change?.force !== true || s.now < forcedAt(s)) return null
  return `; went on without ${inShort(namesOf(late))}: forced by ${change.by}: ${change.reason}`
}

/** From when on a forced change goes on; never for one that is not. */
export const forcedAt = ({ state, policy }: Situation): number =>
  state.signer?.force === true && state.signer.introduced !== null
    ? state.signer.introduced.at + policy.patience
    : Number.POSITIVE_INFINITY

/** The key to introduce, once it is in the store: a number that never was in a bundle, of the kind that was ordered. */
const comingSigner = ({ state, seen }: Situation): HeldSigner | null =>
  seen.signers?.find(({ number, kind }) => number > state.newestSigner && kind === state.signer?.kind) ?? null

/** Keys to make, and keys that left the bundle: a number is used once, as with roots. */
export function signerEffects(
  state: RotationState,
  signers: readonly SignerKey[],
  held: readonly HeldSigner[] = [],
): Effect[] {
  const trusted = new Set(signers.map(({ kid }) => kid))
  return held
    .filter(({ number, key }) => number <= state.newestSigner && !trusted.has(key.kid))
    .map(({ number }): Effect => ({ kind: 'delete-signer', number }))
}

/** The key that was ordered is not made yet. */
export function signerToMake(s: Situation): Effect[] {
  const change = s.state.signer
  if (change === null || change.introduced !== null || change.withdrawn || isPaused(s)) return []
  if (comingSigner(s) !== null) return []
  const numbers = (s.seen.signers ?? []).map(({ number }) => number)
  const number = Math.max(s.state.newestSigner, ...numbers) + 1
  return [{ kind: 'create-signer', number, signer: change.kind }]
}

/** What the change waits for, where the phase itself waits for nothing; null when there is none. */
export function signerWait(
  s: Situation,
): { reason: 'signer-not-created' | 'agents-do-not-know-signer'; late: Straggler[] } | null {
  if (s.state.signer === null) return null
  return s.state.signer.introduced === null
    ? { reason: 'signer-not-created', late: [] }
    : { reason: 'agents-do-not-know-signer', late: signerStragglers(s) }
}

/** For people: the first characters of a thumbprint, as `rotor signer status` shows them. */
const inBrief = ({ kid }: SignerKey): string => kid.slice(0, 8)

/** `since 3m` and so on, for refusals. */
export const describeChange = ({ signer }: RotationState, now: number): string =>
  signer === null
    ? 'no change of the signer is under way'
    : `ordered by ${signer.by} ${formatDuration(Math.max(0, now - signer.at))} ago: ${signer.reason}`
