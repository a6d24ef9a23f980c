/**
 * What does this certificate say? The only place that reads certificates. OpenSSL (through node:crypto) parses and
 * checks the structure; the extensions, of which it shows few, are read from the same bytes by extensions.ts.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import { RotorError, type RotorErrorCode } from '../errors.ts'
import type { Instant } from '../time.ts'
import { type Extensions, readExtensions } from './extensions.ts'
import { readFrom, spkiSha256 } from './keys.ts'
import { type CertificateParts, readParts } from './parts.ts'
import { decodePem, encodePem } from './pem.ts'

export interface Certificate extends Extensions {
  /** 64 columns, ends with a newline, so PEMs can be joined. */
  readonly pem: string
  readonly der: Uint8Array
  /** SHA-256 of the DER form in hex: the fingerprint used everywhere. */
  readonly sha256: string
  readonly publicKey: KeyObject
  /** SHA-256 of the SubjectPublicKeyInfo in hex. */
  readonly spkiSha256: string
  /** `CN=..., O=...` in the order of the certificate. For people; chains compare the encoded names. */
  readonly subject: string
  readonly issuer: string
  /** Lower-case hex. */
  readonly serial: string
  readonly notBefore: Instant
  /** The last second it is valid in. */
  readonly notAfter: Instant
  readonly x509: X509Certificate
}

/** Bytes of one certificate in DER; ours have about 600. */
const MAX_DER = 64 * 1024

/** Exactly one certificate, as PEM text or DER bytes. `what` names the source in messages. Throws `code`. */
export function parseCertificate(
  pemOrDer: string | Uint8Array,
  what: string,
  code: RotorErrorCode = 'ERR_IDENTITY_INVALID',
): Certificate {
  if (typeof pemOrDer !== 'string') return fromDer(pemOrDer, what, code)
  const [first, ...others] = parseCertificates(pemOrDer, what, code)
  if (first === undefined || others.length > 0) {
    throw new RotorError(code, `${what}: expected one certificate, found ${others.length + 1}`)
  }
  return first
}

/**
 * All certificates of a PEM text, at least one, in order. Every block must parse and nothing but blank lines and
 * `#` comments may stand between them: Go loads the readable part of a truncated file without a word, which would
 * silently drop trust anchors.
 */
export function parseCertificates(
  pem: string,
  what: string,
  code: RotorErrorCode = 'ERR_IDENTITY_INVALID',
): Certificate[] {
  const blocks = decodePem(pem, 'CERTIFICATE', what, code)
  return blocks.map((der, i) =>
    fromDer(der, blocks.length === 1 ? what : `${what}, certificate ${i + 1}`, code),
  )
}

/** Those that were read last, by fingerprint: the same few authorities are read again and again. */
const known = new Map<string, Certificate>()
const MAX_KNOWN = 512

function fromDer(bytes: Uint8Array, what: string, code: RotorErrorCode): Certificate {
  if (bytes.length > MAX_DER) throw new RotorError(code, `${what}: expected at most ${MAX_DER} bytes of DER`)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const found = known.get(sha256)
  if (found !== undefined) return found
  try {
    const certificate = read(new Uint8Array(bytes), sha256)
    const [oldest] = known.keys()
    if (known.size >= MAX_KNOWN && oldest !== undefined) known.delete(oldest)
    known.set(sha256, certificate)
    return certificate
  } catch (cause) {
    throw new RotorError(code, `${what}: expected an X.509 certificate: ${messageOf(cause)}`, { cause })
  }
}

function read(der: Uint8Array, sha256: string): Certificate {
  const x509 = new X509Certificate(der)
  // X509Certificate also takes PEM, and passes over what follows the certificate.
  if (!x509.raw.equals(der)) throw new SyntaxError('expected the certificate in DER and nothing else')
  const parts = readParts(der)
  const publicKey = readFrom(parts.spki, x509.publicKey)
  const certificate: Certificate = Object.freeze({
    pem: encodePem('CERTIFICATE', der),
    der,
    sha256,
    publicKey,
    spkiSha256: spkiSha256(publicKey),
    subject: oneLine(x509.subject),
    issuer: oneLine(x509.issuer),
    serial: x509.serialNumber.toLowerCase(),
    notBefore: instant(x509.validFromDate),
    notAfter: instant(x509.validToDate),
    ...readExtensions(parts.extensions),
    x509,
  })
  taken.set(certificate, parts)
  return certificate
}

const taken = new WeakMap<Certificate, CertificateParts>()

/** What it is made of, taken apart once. */
export const partsOf = (certificate: Certificate): CertificateParts =>
  taken.get(certificate) ?? readParts(certificate.der)

/** The subject as it is encoded: the issuer field of what this certificate signs has the same bytes. */
export const encodedSubject = (certificate: Certificate): Uint8Array => partsOf(certificate).subject

function instant(date: Date): Instant {
  const value = date.getTime()
  if (!Number.isFinite(value)) throw new SyntaxError('expected a date')
  return value
}

const oneLine = (name: string | undefined): string => (name ?? '').split('\n').join(', ')
const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
