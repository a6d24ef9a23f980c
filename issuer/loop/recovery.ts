/**
 * Is the state that we read the one the fleet is at? Agents refuse versions they have seen, so an issuer that lost its
 * records must not begin again: what was kept of the bundles, in the history or on the stream, is put in force again.
 */
import { RotorError } from '../../src/errors.ts'
import { bootstrap } from '../../src/rotation/advance.ts'
import { rebuild } from '../../src/rotation/rebuild.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import type { Instant } from '../../src/time.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import type { Authority } from '../authority/authority.ts'
import type { BundleHistory } from '../history/history.ts'
import { type OwnBundle, openOwn } from '../own.ts'
import type { SignerStore } from '../signers.ts'
import type { PublishedBundle } from '../store.ts'
import { heldRoots, Signers } from './roots.ts'

export interface RecoveryOptions {
  readonly domain: string
  readonly authority: Authority
  readonly signers: SignerStore
  readonly history: BundleHistory
  /** Payload text of version 1. */
  readonly genesis: string
}

export interface Recovered {
  readonly state: RotationState
  /** True when it was made from kept bundles, and not the first state of a domain. */
  readonly rebuilt: boolean
}

/**
 * The state to go on with instead of `stored`; null when that one is right. Throws ERR_RECORD_INVALID when the newest
 * kept bundle can not be read or is not by our signer: nobody may guess then.
 */
export async function recover(
  stored: RotationState | null,
  published: PublishedBundle | null,
  options: RecoveryOptions,
  now: Instant,
): Promise<Recovered | null> {
  const { domain, signers, history, genesis } = options
  const newest = await newestKept(published, options)
  const fence = stored?.fence ?? 0
  if (newest === null) {
    if (stored !== null) return null
    return { state: bootstrap({ domain, payload: genesis, fence }, now), rebuilt: false }
  }
  if (stored !== null && isSame(stored, newest)) return null
  const older = await Promise.all((await history.list()).map((version) => history.read(version)))
  const known = signers.known(newest.bundle)
  const opened = await Promise.all(
    older.map((envelope) => (envelope === null ? null : openOwn(envelope, domain, known))),
  )
  const payloads = [newest, ...opened].flatMap((one) => (one === null ? [] : [one.text]))
  const state = rebuild({ domain, payloads, fence, ...(await seenKeys(options, newest.bundle)) }, now)
  return { state, rebuilt: true }
}

/** A state that is ahead is a move whose bundle was not kept yet. */
const isSame = (stored: RotationState, newest: OwnBundle): boolean =>
  stored.version > newest.bundle.version ||
  (stored.version === newest.bundle.version && stored.payload === newest.text)

/** Of history and stream; of one version that of the history, because it was kept before it was published. */
async function newestKept(
  published: PublishedBundle | null,
  { domain, signers, history }: RecoveryOptions,
): Promise<OwnBundle | null> {
  const kept = await history.newest()
  const own = published?.own ?? null
  if (kept === null || (own !== null && own.bundle.version > kept.version)) return own
  const opened = await openOwn(kept.envelope, domain, signers.held)
  if (opened !== null && opened.bundle.version === kept.version) return opened
  throw new RotorError(
    'ERR_RECORD_INVALID',
    `history of bundles of ${domain}: expected version ${kept.version} by our signer, found something else; put it right, or remove it when the stream has this version`,
  )
}

async function seenKeys({ authority, signers }: RecoveryOptions, bundle: BundlePayload) {
  const roots = await heldRoots(authority, bundle, 1)
  const signedBy = new Signers().of(bundle, [], roots)
  return { roots, signedBy, signers: await signers.observe(bundle) }
}
