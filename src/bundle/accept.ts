/**
 * Is this bundle one we may act on? The policy of docs/bundle.md, read from top to bottom: every rule has its own
 * error code, the first broken rule refuses, and nothing that a rule did not look at passes. Pure: what we hold,
 * pin and believe the time to be comes with the context, and nothing is changed here.
 */
import { RotorError } from '../errors.ts'
import type { Duration, Instant } from '../time.ts'
import type { Certificate } from '../trust/certificate.ts'
import type { AuthorityStatus, BundlePayload, SignerKey } from '../wire/bundle.ts'
import {
  assertDistinctKeys,
  assertDomain,
  assertFollows,
  assertFresh,
  assertNewer,
  assertSignedByPinned,
  assertSignerChange,
  assertSigningEpoch,
  readAuthorities,
  readPayload,
  readRoots,
} from './checks.ts'
import { openEnvelope } from './envelope.ts'
import { payloadDigest } from './payload.ts'
import { followed } from './succession.ts'

/** The bundle we hold. */
export interface HeldBundle {
  readonly version: number
  /** SHA-256 of its payload. */
  readonly digest: string
  /** Its roots in PEM: none may come back as another certificate with the same key. @default none */
  readonly roots?: readonly string[]
}

export interface AcceptContext {
  readonly domain: string
  /** Keys whose signature counts: those of the enrolment, later `signers` of the last accepted bundle. */
  readonly pinned: readonly SignerKey[]
  /** null before the first bundle. */
  readonly held: HeldBundle | null
  /** The highest version ever accepted; 0 before the first. May be above `held.version`. */
  readonly highest: number
  readonly now: Instant
  /** Milliseconds the clocks may differ. @default the lead of the bundle's schedule */
  readonly skew?: Duration
}

export interface AcceptedAuthority {
  readonly epoch: number
  readonly status: AuthorityStatus
  readonly certificate: Certificate
}

export interface AcceptedBundle {
  readonly payload: BundlePayload
  /** The exact payload bytes as text. */
  readonly text: string
  /** SHA-256 of these bytes. */
  readonly digest: string
  /** In the order of the bundle. */
  readonly authorities: readonly AcceptedAuthority[]
  readonly roots: readonly Certificate[]
  /** To be pinned from now on. */
  readonly signers: readonly SignerKey[]
}

/**
 * Accepts or refuses the bytes of an envelope from an untrusted source. Rejects only with RotorError: one of the
 * ERR_BUNDLE_* codes, or ERR_CLOCK_SKEW when the bundle is from the future. Where only our clock speaks against it, the
 * details of the error have `byClock`: true.
 */
export async function acceptBundle(bytes: Uint8Array, context: AcceptContext): Promise<AcceptedBundle> {
  try {
    return await accept(bytes, context)
  } catch (cause) {
    // A failure that no rule foresaw must refuse as well, and as a bundle error, or it would be tried for ever.
    throw RotorError.from(cause, 'ERR_BUNDLE_MALFORMED', 'bundle')
  }
}

async function accept(bytes: Uint8Array, context: AcceptContext): Promise<AcceptedBundle> {
  // 1. At most 256 KiB, then the forms of envelope and payload. Nothing is proven up to here: the values are only
  //    parsed, and the payload is needed to know whose signatures to look for.
  const envelope = openEnvelope(bytes)
  const { payload, text } = readPayload(envelope.payload)

  // 2. Signed by a key that we pinned, or that one of these vouched for. New signers prove that they exist.
  const known = await followed(payload, context.pinned)
  await assertSignedByPinned(envelope, known)
  await assertSignerChange(envelope, payload.signers, known)

  // 3. Ours, newer than all before, the successor of the one we hold, and neither stale nor from the future.
  assertDomain(payload, context.domain)
  assertNewer(payload, context.highest)
  assertFollows(payload, context.held)
  const skew = context.skew ?? payload.schedule.lead
  assertFresh(payload, context.now, skew)

  // 4. Every authority is a CA of now that leads to a root; no key serves twice; one of them signs.
  const authorities = readAuthorities(payload, context.now, skew)
  const roots = readRoots(payload, authorities, context.now, skew)
  assertDistinctKeys(authorities, roots, context.held?.roots ?? [])
  assertSigningEpoch(payload)

  return { payload, text, digest: payloadDigest(text), authorities, roots, signers: payload.signers }
}
