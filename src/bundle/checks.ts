/** The rules of accept.ts, one function each, in the order they are used. Each throws its own code. */
import { RotorError, type RotorErrorCode } from '../errors.ts'
import { makeSchedule } from '../schedule.ts'
import { type Duration, formatInstant, type Instant } from '../time.ts'
import { type Certificate, parseCertificate } from '../trust/certificate.ts'
import { assertCurrent, assertIssuedBy, assertUnderstood } from '../trust/chain.ts'
import { weakness } from '../trust/keys.ts'
import {
  BUNDLE_FORMAT,
  type BundlePayload,
  bundlePayload,
  type SignerKey,
  scheduleOf,
} from '../wire/bundle.ts'
import { decodeRecord } from '../wire/record.ts'
import type { AcceptedAuthority, HeldBundle } from './accept.ts'
import type { Envelope } from './envelope.ts'
import { isSignerKey, whatLacks } from './signer.ts'

/** `ignoreBOM`: the mark stays and JSON refuses it, so text and bytes are the same thing. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Details of a refusal that another time would not have given. */
const BY_CLOCK = { byClock: true }

/**
 * The payload and its text. Another format version is recognised before the schema is applied, because its schema
 * is not known. ERR_BUNDLE_MALFORMED, ERR_BUNDLE_VERSION_UNKNOWN.
 */
export function readPayload(bytes: Uint8Array): { payload: BundlePayload; text: string } {
  const malformed = (problem: string, cause?: unknown) =>
    new RotorError('ERR_BUNDLE_MALFORMED', `bundle payload: ${problem}`, { cause })
  let text: string
  let value: unknown
  try {
    text = decoder.decode(bytes)
    value = JSON.parse(text)
  } catch (cause) {
    throw malformed('expected JSON in UTF-8', cause)
  }
  const format = typeof value === 'object' && value !== null && 'v' in value ? value.v : undefined
  if (typeof format === 'number' && format !== BUNDLE_FORMAT) {
    throw new RotorError(
      'ERR_BUNDLE_VERSION_UNKNOWN',
      `bundle payload: expected format ${BUNDLE_FORMAT}, found ${format}`,
    )
  }
  const payload = decodeRecord(bundlePayload, text, 'bundle payload', 'ERR_BUNDLE_MALFORMED')
  if ((payload.version === 1) !== (payload.previous === null)) {
    throw malformed('previous: expected null in version 1 and a digest in every other')
  }
  try {
    makeSchedule(scheduleOf(payload))
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : String(cause), cause)
  }
  return { payload, text }
}

/** ERR_BUNDLE_SIGNATURE unless one of the pinned keys signed these bytes. */
export async function assertSignedByPinned(envelope: Envelope, pinned: readonly SignerKey[]): Promise<void> {
  for (const key of pinned) if (await envelope.verify(key)) return
  const names = pinned.map(({ kid, kty }) => [kid, whatLacks(kty)].filter((part) => part !== null).join(': '))
  throw new RotorError(
    'ERR_BUNDLE_SIGNATURE',
    `bundle: expected a signature by one of ${names.join(', ') || 'no pinned signers'}, found none`,
  )
}

/**
 * As in TUF (root rotation): a key becomes a signer only with the word of an old signer, checked before, and its own
 * signature, so nobody can name a key that is lost or belongs to someone else. ERR_BUNDLE_SIGNER_CHANGE.
 */
export async function assertSignerChange(
  envelope: Envelope,
  signers: readonly SignerKey[],
  pinned: readonly SignerKey[],
): Promise<void> {
  const refuse = (problem: string) => new RotorError('ERR_BUNDLE_SIGNER_CHANGE', `bundle signers: ${problem}`)
  const known = new Set(pinned.map((key) => key.kid))
  const seen = new Set<string>()
  for (const key of signers) {
    if (!isSignerKey(key)) throw refuse(`kid ${key.kid} is not the thumbprint of its key`)
    if (seen.has(key.kid)) throw refuse(`${key.kid} is listed twice`)
    seen.add(key.kid)
    if (!known.has(key.kid) && !(await envelope.verify(key))) {
      throw refuse(`the new signer ${key.kid} has not signed this bundle`)
    }
  }
}

/** ERR_BUNDLE_DOMAIN. */
export function assertDomain(payload: BundlePayload, domain: string): void {
  if (payload.domain === domain) return
  throw new RotorError(
    'ERR_BUNDLE_DOMAIN',
    `bundle: expected domain ${JSON.stringify(domain)}, found ${JSON.stringify(payload.domain)}`,
  )
}

/** ERR_BUNDLE_REPLAYED unless the version is above the highest ever accepted. */
export function assertNewer(payload: BundlePayload, highest: number): void {
  if (payload.version > highest) return
  throw new RotorError(
    'ERR_BUNDLE_REPLAYED',
    `bundle: expected a version above ${highest}, found ${payload.version}`,
  )
}

/** ERR_BUNDLE_FORKED when we hold the predecessor and `previous` names another one. */
export function assertFollows(payload: BundlePayload, held: HeldBundle | null): void {
  if (held === null || held.version !== payload.version - 1 || held.digest === payload.previous) return
  throw new RotorError(
    'ERR_BUNDLE_FORKED',
    `bundle ${payload.version}: expected previous ${held.digest}, found ${payload.previous}`,
  )
}

/** ERR_BUNDLE_EXPIRED past its end, ERR_CLOCK_SKEW when it was issued in our future, give or take `skew`. */
export function assertFresh(payload: BundlePayload, now: Instant, skew: Duration): void {
  const { issuedAt, expiresAt, version } = payload
  if (!(now - skew < Date.parse(expiresAt))) {
    throw new RotorError(
      'ERR_BUNDLE_EXPIRED',
      `bundle ${version}: expired at ${expiresAt}, now is ${formatInstant(now)}`,
      { details: BY_CLOCK },
    )
  }
  if (!(Date.parse(issuedAt) <= now + skew)) {
    throw new RotorError(
      'ERR_CLOCK_SKEW',
      `bundle ${version}: issued at ${issuedAt}, now is ${formatInstant(now)}: one of the clocks is wrong`,
      { details: BY_CLOCK },
    )
  }
}

/** The authorities as certificates: CA, keyCertSign, of now, each epoch once, one active. ERR_BUNDLE_AUTHORITY. */
export function readAuthorities(payload: BundlePayload, now: Instant, skew: Duration): AcceptedAuthority[] {
  const refuse = (problem: string) => new RotorError('ERR_BUNDLE_AUTHORITY', `bundle: ${problem}`)
  const epochs = new Set<number>()
  const authorities = payload.authorities.map(({ epoch, status, certificate: pem, sha256 }) => {
    const what = `authority of epoch ${epoch}`
    const certificate = parseCertificate(pem, `bundle: ${what}`, 'ERR_BUNDLE_AUTHORITY')
    if (certificate.sha256 !== sha256) {
      throw refuse(`${what}: expected the certificate ${sha256}, found ${certificate.sha256}`)
    }
    assertCa('ERR_BUNDLE_AUTHORITY', `bundle: ${what}`, certificate, now, skew)
    if (epochs.has(epoch)) throw refuse(`two authorities of epoch ${epoch}`)
    epochs.add(epoch)
    return { epoch, status, certificate }
  })
  const active = authorities.filter(({ status }) => status === 'active')
  if (active.length > 1) {
    throw refuse(`expected one active authority, found epochs ${active.map(({ epoch }) => epoch).join(', ')}`)
  }
  return authorities
}

/** The roots as certificates; every authority was issued by one of them. ERR_BUNDLE_CHAIN. */
export function readRoots(
  payload: BundlePayload,
  authorities: readonly AcceptedAuthority[],
  now: Instant,
  skew: Duration,
): Certificate[] {
  const roots = payload.roots.map((pem, i) => {
    const what = `bundle: root ${i + 1}`
    const root = parseCertificate(pem, what, 'ERR_BUNDLE_CHAIN')
    assertCa('ERR_BUNDLE_CHAIN', what, root, now, skew)
    within('ERR_BUNDLE_CHAIN', what, () => {
      assertIssuedBy(root, root)
      // RFC 5280 4.2.1.9: one CA, the authority, stands between a root and a leaf.
      if (root.pathLength === 0)
        throw new Error(`"${root.subject}" allows no authority below it (path length 0)`)
    })
    return root
  })
  for (const { epoch, certificate } of authorities) {
    // By name first: verifying every pair would be a thousand signatures at worst.
    const named = roots.filter((root) => root.subject === certificate.issuer)
    within('ERR_BUNDLE_CHAIN', `bundle: authority of epoch ${epoch}`, () =>
      assertIssuedByOne(certificate, named),
    )
  }
  return roots
}

/**
 * ERR_BUNDLE_KEY_REUSED when two certificates share a key, or a root is replaced by another certificate for the key
 * of a root that we hold: what one of them signed would verify under the other, so taking one away revokes nothing.
 */
export function assertDistinctKeys(
  authorities: readonly AcceptedAuthority[],
  roots: readonly Certificate[],
  heldRoots: readonly string[],
): void {
  const refuse = (problem: string) => new RotorError('ERR_BUNDLE_KEY_REUSED', `bundle: ${problem}`)
  const owners = new Map<string, string>()
  for (const { subject, spkiSha256 } of [...roots, ...authorities.map(({ certificate }) => certificate)]) {
    const other = owners.get(spkiSha256)
    if (other !== undefined) throw refuse(`"${subject}" has the key of "${other}"`)
    owners.set(spkiSha256, subject)
  }
  for (const pem of heldRoots) {
    const held = parseCertificate(pem, 'held root', 'ERR_IDENTITY_INVALID')
    const again = roots.find((root) => root.spkiSha256 === held.spkiSha256 && root.sha256 !== held.sha256)
    if (again !== undefined) {
      throw refuse(`root "${again.subject}" (${again.sha256}) replaces ${held.sha256} with the same key`)
    }
  }
}

/** ERR_BUNDLE_SIGNING_EPOCH unless the authority of the signing epoch is there and active. */
export function assertSigningEpoch({ epoch, authorities }: BundlePayload): void {
  const signing = authorities.find((authority) => authority.epoch === epoch)
  if (signing?.status === 'active') return
  throw new RotorError(
    'ERR_BUNDLE_SIGNING_EPOCH',
    `bundle: expected an active authority of the signing epoch ${epoch}, found ${signing?.status ?? 'none'}`,
  )
}

function assertCa(
  code: RotorErrorCode,
  what: string,
  certificate: Certificate,
  now: Instant,
  skew: Duration,
): void {
  within(code, what, () => {
    const { ca, keyCertSign, subject, publicKey } = certificate
    if (!ca) throw new Error(`"${subject}" is no CA (basicConstraints)`)
    if (!keyCertSign) throw new Error(`"${subject}" may not sign certificates (keyUsage)`)
    const problem = weakness(publicKey)
    if (problem !== null) throw new Error(`"${subject}": ${problem}`)
    assertUnderstood(certificate)
  })
  within(code, what, () => assertCurrent(certificate, now, skew), BY_CLOCK)
}

function assertIssuedByOne(child: Certificate, issuers: readonly Certificate[]): void {
  let reason: unknown = new Error(`"${child.issuer}" is not among the roots`)
  for (const issuer of issuers) {
    try {
      assertIssuedBy(child, issuer)
      return
    } catch (cause) {
      reason = cause
    }
  }
  throw reason
}

/** Runs a check and gives its failure the code of the rule. */
function within(code: RotorErrorCode, what: string, check: () => void, details = {}): void {
  try {
    check()
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError(code, `${what}: ${problem}`, { cause, details })
  }
}
