/**
 * The trust bundle: which authorities to trust and which one signs. Full state, never a delta, so a newer one
 * always replaces an older one and skipping is safe. `docs/bundle.md` has the format for other implementations.
 */
import { z } from 'zod'
import type { Schedule } from '../schedule.ts'

export const BUNDLE_FORMAT = 1
/** Bytes of the envelope; larger ones are refused before they are parsed. */
export const MAX_BUNDLE_BYTES = 256 * 1024

/** Changes of the signer that a bundle tells of. */
export const MAX_LINKS = 8
/** Characters of one. */
export const MAX_LINK = 32 * 1024

export const instantText = z.iso.datetime({ precision: 3 })
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits')
const pem = z
  .string()
  .max(64 * 1024)
  .startsWith('-----BEGIN CERTIFICATE-----')
const milliseconds = z.int().positive()

/**
 * prepared: trusted, does not sign yet. active: signs. retiring: trusted, no longer signs.
 * tainted: not to be relied on; trusted only until everything it issued is replaced.
 */
export const authorityStatus = z.enum(['prepared', 'active', 'retiring', 'tainted'])

export const bundleAuthority = z.object({
  epoch: z.int(),
  status: authorityStatus,
  /** PEM, one certificate. */
  certificate: pem,
  /** SHA-256 over the DER form. */
  sha256: sha256Hex,
})

/** What a signer may be; the names of node:crypto. ML-DSA-65 is made to hold against quantum computers. */
export const SIGNER_KINDS = ['ed25519', 'ml-dsa-65'] as const
export type SignerKind = (typeof SIGNER_KINDS)[number]

/** The name of a signer. */
export const signerKid = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'expected a SHA-256 thumbprint in base64url')

/**
 * A public key that may sign bundles, as JWK: Ed25519 (RFC 8037), or ML-DSA-65 of FIPS 204 (RFC 9964). `kid` is its
 * RFC 7638 thumbprint (SHA-256, base64url).
 */
export const signerKey = z.discriminatedUnion('kty', [
  z.object({
    kty: z.literal('OKP'),
    crv: z.literal('Ed25519'),
    x: z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'expected 32 bytes in base64url'),
    kid: signerKid,
  }),
  z.object({
    kty: z.literal('AKP'),
    alg: z.literal('ML-DSA-65'),
    pub: z.string().regex(/^[A-Za-z0-9_-]{2603}$/, 'expected 1952 bytes in base64url'),
    kid: signerKid,
  }),
])

export const bundleSchedule = z.object({
  epochZero: instantText,
  /** Milliseconds, like all durations here. */
  epochDuration: milliseconds,
  validity: milliseconds,
  lead: milliseconds,
})

const names = z.array(z.string().max(63)).max(256)
/** An order as it was taken. */
export const toldOrder = z.object({
  kind: z.string().max(40),
  epoch: z.int().optional(),
  force: z.boolean(),
  by: z.string().max(200),
  reason: z.string().max(500),
  at: instantText,
})
/** A move that published nothing. */
export const toldMove = z.object({
  move: z.string().max(40),
  at: instantText,
  reason: z.string().max(1000),
  /** Whom it went on without. */
  waived: names,
})

/** What led to a bundle since the one before: for auditors; agents do not look at it. */
export const bundleRecord = z.object({
  /** The move that published it. */
  move: z.string().max(40),
  /** Whom it went on without. */
  waived: names,
  orders: z.array(toldOrder).max(16),
  moves: z.array(toldMove).max(16),
  /** How many more orders and moves there were. */
  left: z.int().nonnegative(),
  /** Versions the agents had applied and proven by their own word, 0 for none; `agents` may not name all `count`. */
  acks: z
    .array(z.object({ version: z.int().nonnegative(), count: z.int().positive(), agents: names }))
    .max(16),
})
export type BundleRecord = z.infer<typeof bundleRecord>

export const bundlePayload = z.object({
  v: z.literal(BUNDLE_FORMAT),
  domain: z.string(),
  version: z.int().positive(),
  /** The signing epoch. */
  epoch: z.int(),
  issuedAt: instantText,
  expiresAt: instantText,
  /** SHA-256 of the payload bytes of version - 1; null in version 1 only. */
  previous: sha256Hex.nullable(),
  reason: z.string().max(1000),
  authorities: z.array(bundleAuthority).min(1).max(64),
  roots: z.array(pem).min(1).max(16),
  signers: z.array(signerKey).min(1).max(16),
  schedule: bundleSchedule,
  /**
   * Who vouched for which signer, oldest first: JWS texts, see src/bundle/succession.ts. Absent until the signer is
   * changed the first time; nodes of before this field ignore it.
   */
  succession: z.array(z.string().max(MAX_LINK)).max(MAX_LINKS).optional(),
  /** Absent in version 1. */
  record: bundleRecord.optional(),
})

export type AuthorityStatus = z.infer<typeof authorityStatus>
export type BundleAuthority = z.infer<typeof bundleAuthority>
export type SignerKey = z.infer<typeof signerKey>
export type BundlePayload = z.infer<typeof bundlePayload>

/** The schedule of a bundle with its instants as numbers. */
export const scheduleOf = (bundle: Pick<BundlePayload, 'schedule'>): Schedule => ({
  ...bundle.schedule,
  epochZero: Date.parse(bundle.schedule.epochZero),
})
