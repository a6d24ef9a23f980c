/** Is what the engine signed what we asked for? Nothing is used that is not: a role or a mount may say otherwise. */
import { RotorError } from '../../../src/errors.ts'
import { type Duration, formatInstant, type Instant } from '../../../src/time.ts'
import { type Certificate, encodedSubject, parseCertificate } from '../../../src/trust/certificate.ts'
import { assertIssuedBy, USAGE } from '../../../src/trust/chain.ts'
import { readExtensions } from '../../../src/trust/extensions.ts'
import type { Window } from '../../../src/trust/issue.ts'
import { encodeKey } from '../../../src/trust/keys.ts'
import { describePermitted, type Permitted } from '../../../src/trust/name-constraints.ts'
import { isOnlyCommonName, type Names } from '../../../src/trust/names.ts'
import { readParts, readValidity } from '../../../src/trust/parts.ts'
import { decodePem, encodePem } from '../../../src/trust/pem.ts'
import { isSignedByNow } from '../../../src/trust/signature.ts'
import type { LeafRequest } from '../authority.ts'
import { type Attempt, attemptOf, commonName } from './names.ts'

/** How far the clocks of issuer and engine may be apart: an authority begins by this much sooner than asked for. */
export const CLOCKS: Duration = 30_000

/**
 * The window a certificate can have: whole seconds, both ends rounded down, as the embedded authority does. Throws
 * ERR_SIGN_REFUSED when nothing is left of it.
 */
export function windowOf(asked: Window): Window {
  const notBefore = Math.floor(asked.notBefore / 1000) * 1000
  const notAfter = Math.floor(asked.notAfter / 1000) * 1000
  if (notBefore < notAfter) return { notBefore, notAfter }
  throw new RotorError(
    'ERR_SIGN_REFUSED',
    `expected a certificate window with a start before its end, found ${formatInstant(notBefore)} to ${formatInstant(notAfter)}`,
  )
}

/** The engine takes no fractions of a second. */
export const rfc3339 = (instant: Instant): string => formatInstant(instant).replace('.000Z', 'Z')

export const certificateIn = (pem: string, path: string): Certificate =>
  parseCertificate(pem, path, 'ERR_AUTHORITY_ANSWER')

/** Throws ERR_AUTHORITY_ANSWER unless it is the authority of this try, in exactly this window, under this root. */
export function assertAuthority(
  certificate: Certificate,
  asked: Window & {
    readonly domain: string
    readonly attempt: Attempt
    readonly root: Certificate
    readonly permitted: Permitted
  },
  path: string,
): void {
  const { domain, attempt, root } = asked
  const made = attemptOf(domain, certificate)
  expect(
    made?.epoch === attempt.epoch && made.suffix === attempt.suffix,
    path,
    `the subject "CN=${commonName(domain, attempt)}, O=${domain}"`,
    `"${certificate.subject}"`,
  )
  const problem = problemOfAuthority(certificate)
  expect(problem === null, path, 'a CA that signs leaves only', problem ?? '')
  const limits = describePermitted(asked.permitted)
  const found = describePermitted(certificate.permitted)
  expect(
    found === limits,
    path,
    `the name constraints ${limits}`,
    `${found}; does this engine know those of each kind? (docs/openbao.md, "Name constraints")`,
  )
  assertCovers(certificate, asked, path)
  assertIssued(certificate, root, path)
}

/** Why this can not be an authority of ours, whatever its name; null when it can. */
export function problemOfAuthority(certificate: Certificate): string | null {
  const { ca, keyCertSign, pathLength, subjectKeyId, authorityKeyId, unknownCritical } = certificate
  if (!ca || !keyCertSign) return 'one that is no CA, or may not sign certificates'
  if (pathLength !== 0) return `one with the path length ${pathLength ?? 'without a limit'}`
  if (subjectKeyId === null || authorityKeyId === null) return 'one without key identifiers'
  return unknownCritical.length === 0 ? null : `the critical extensions ${unknownCritical.join(', ')}`
}

/**
 * The leaf in PEM. Throws ERR_AUTHORITY_ANSWER unless it is the one that was asked for, under this authority and not
 * beyond it. Read from its bytes: to have OpenSSL read it, too, takes as long as the rest of our side of a call. In our
 * thread: what the engine leaves us of the processors is little, and every authority there has a P-256 key (making.ts).
 */
export function assertLeaf(
  pem: string,
  asked: Pick<LeafRequest, 'csr' | 'commonName' | 'names'> &
    Window & {
      readonly usages: LeafRequest['usages'] | undefined
      readonly authority: Certificate
      /** Its signature, too: all else is compared in any case. */
      readonly verify: boolean
    },
  path: string,
): string {
  const [bytes = Buffer.alloc(0), ...others] = decodePem(pem, 'CERTIFICATE', path, 'ERR_AUTHORITY_ANSWER')
  expect(others.length === 0, path, 'one certificate', `${others.length + 1}`)
  const { parts, validity, extensions } = readLeaf(bytes, path)
  const { csr, commonName, names, usages = USAGES, authority } = asked
  expect(parts.spki.equals(encodeKey(csr.publicKey)), path, 'the key of the request', 'another one')
  const { ca, keyCertSign, unknownCritical } = extensions
  expect(!ca && !keyCertSign && unknownCritical.length === 0, path, 'a leaf', 'a CA, or unknown extensions')
  const { subject } = parts
  expect(isOnlyCommonName(subject, commonName), path, `the subject "CN=${commonName}"`, 'another one')
  assertSameNames(extensions.names, names, path)
  const wanted = usages.map((usage) => USAGE[usage])
  const found = extensions.usages
  if (!isSame(found, wanted)) throw unexpected(path, `the usages ${sorted(wanted)}`, sorted(found) || 'none')
  assertCovers(validity, asked, path)
  const by = `a leaf of "${authority.subject}"`
  expect(parts.issuer.equals(encodedSubject(authority)), path, by, 'one of another issuer')
  expect(extensions.authorityKeyId === authority.subjectKeyId, path, by, 'one of another key')
  const { signedPart, algorithm, signature } = parts
  const isSigned = !asked.verify || isSignedByNow(signedPart, algorithm, signature, authority.publicKey)
  expect(isSigned, path, by, 'a signature by another key')
  return encodePem('CERTIFICATE', bytes)
}

function readLeaf(bytes: Uint8Array, path: string) {
  try {
    const parts = readParts(bytes)
    return { parts, validity: readValidity(parts.validity), extensions: readExtensions(parts.extensions) }
  } catch (cause) {
    const { message } = RotorError.from(cause)
    throw new RotorError('ERR_AUTHORITY_ANSWER', `${path}: ${message}`, { cause })
  }
}

const USAGES = ['serverAuth', 'clientAuth'] as const
const sorted = (all: readonly string[]): string => [...all].sort().join(', ')

/** The same ones; they mostly are in the same order, too. */
function isSame(one: readonly string[], other: readonly string[]): boolean {
  const isEqual = (left: readonly string[], right: readonly string[]) =>
    left.every((value, i) => value === right[i])
  return one.length === other.length && (isEqual(one, other) || isEqual(one.toSorted(), other.toSorted()))
}

function assertSameNames(found: Names, wanted: Names, path: string): void {
  const { dns, ip, uri } = wanted
  if (isSame(found.dns, dns) && isSame(found.ip, ip) && isSame(found.uri, uri)) return
  // an address that was asked for may be written in another way
  expect(textOf(found) === textOf(wanted), path, textOf(wanted), textOf(found))
}

function assertCovers({ notBefore, notAfter }: Window, asked: Window, path: string): void {
  if (!(notBefore <= asked.notBefore)) {
    throw unexpected(
      path,
      `a certificate that is valid from ${formatInstant(asked.notBefore)} on`,
      `${formatInstant(notBefore)}; is the clock of the engine ahead, or not_before_duration of the role too short?`,
    )
  }
  if (notAfter !== asked.notAfter) {
    throw unexpected(
      path,
      `one that ends at ${formatInstant(asked.notAfter)}`,
      `${formatInstant(notAfter)}; look at max_ttl of the mount and at not_after of the role`,
    )
  }
}

function assertIssued(certificate: Certificate, issuer: Certificate, path: string): void {
  try {
    assertIssuedBy(certificate, issuer)
  } catch (cause) {
    throw RotorError.is(cause)
      ? new RotorError('ERR_AUTHORITY_ANSWER', `${path}: ${cause.message}`, { cause })
      : cause
  }
}

function textOf({ dns, ip, uri }: Names): string {
  const all = [
    ...dns.map((name) => `DNS:${name}`),
    ...ip.map((address) => `IP:${canonical(address)}`),
    ...uri.map((name) => `URI:${name}`),
  ]
  return `the names ${sorted(all) || '(none)'}`
}

/** RFC 5952, as certificates are read. */
const canonical = (address: string): string =>
  address.includes(':') ? new URL(`tls://[${address}]`).hostname.slice(1, -1) : address

function expect(holds: boolean, path: string, expected: string, found: string): void {
  if (!holds) throw unexpected(path, expected, found)
}

const unexpected = (path: string, expected: string, found: string): RotorError =>
  new RotorError('ERR_AUTHORITY_ANSWER', `${path}: expected ${expected}, found ${found}`)
