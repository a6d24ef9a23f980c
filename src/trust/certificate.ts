/**
 * What does this certificate say? The only place that reads certificates. OpenSSL (through node:crypto) parses and
 * checks the structure; the extensions it does not show are read here from the same bytes.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { RotorError, type RotorErrorCode } from '../errors.ts'
import type { Instant } from '../time.ts'
import { context, DerReader, readBoolean, readDer, readOid, readSequence, readUnsigned, TAG } from './der.ts'
import { spkiSha256 } from './keys.ts'
import { type Names, NO_NAMES, readNames } from './names.ts'
import { decodePem, encodePem } from './pem.ts'

export interface Certificate {
  /** 64 columns, ends with a newline, so PEMs can be joined. */
  readonly pem: string
  readonly der: Uint8Array
  /** SHA-256 of the DER form in hex: the fingerprint used everywhere. */
  readonly sha256: string
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
  readonly ca: boolean
  /** How many CA certificates may follow below; null without a limit. */
  readonly pathLength: number | null
  /** False also without a keyUsage extension: a CA of ours always has one. */
  readonly keyCertSign: boolean
  /** OIDs of extendedKeyUsage; empty without one. */
  readonly usages: readonly string[]
  readonly names: Names
  /** Hex, null when absent. */
  readonly subjectKeyId: string | null
  readonly authorityKeyId: string | null
  /** OIDs of critical extensions that nobody here understands: such a certificate verifies nowhere (RFC 5280 4.2). */
  readonly unknownCritical: readonly string[]
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

function fromDer(bytes: Uint8Array, what: string, code: RotorErrorCode): Certificate {
  if (bytes.length > MAX_DER) throw new RotorError(code, `${what}: expected at most ${MAX_DER} bytes of DER`)
  try {
    // X509Certificate also takes PEM: the first byte decides that these bytes are DER.
    if (bytes[0] !== TAG.sequence) throw new SyntaxError('DER: expected a sequence')
    const x509 = new X509Certificate(bytes)
    const der = new Uint8Array(bytes)
    if (!x509.raw.equals(der)) throw new SyntaxError('DER: unexpected bytes after the certificate')
    return Object.freeze({
      pem: encodePem('CERTIFICATE', der),
      der,
      sha256: createHash('sha256').update(der).digest('hex'),
      spkiSha256: spkiSha256(x509.publicKey),
      subject: oneLine(x509.subject),
      issuer: oneLine(x509.issuer),
      serial: x509.serialNumber.toLowerCase(),
      notBefore: instant(x509.validFromDate),
      notAfter: instant(x509.validToDate),
      ...readExtensions(der),
      x509,
    })
  } catch (cause) {
    throw new RotorError(code, `${what}: expected an X.509 certificate: ${messageOf(cause)}`, { cause })
  }
}

/** The subject as it is encoded: the issuer field of what this certificate signs has the same bytes. */
export function encodedSubject(certificate: Certificate): Uint8Array {
  const tbs = new DerReader(readSequence(certificate.der).next(TAG.sequence).content)
  tbs.optional(context(0)) // version
  tbs.next(TAG.integer) // serialNumber
  tbs.next(TAG.sequence) // signature
  tbs.next(TAG.sequence) // issuer
  tbs.next(TAG.sequence) // validity
  return tbs.next(TAG.sequence).raw
}

type Extensions = Pick<
  Certificate,
  | 'ca'
  | 'pathLength'
  | 'keyCertSign'
  | 'usages'
  | 'names'
  | 'subjectKeyId'
  | 'authorityKeyId'
  | 'unknownCritical'
>

/** Bit 5 of KeyUsage, counted from the highest bit (RFC 5280 4.2.1.3). */
const KEY_CERT_SIGN = 0x04

function readExtensions(certificate: Uint8Array): Extensions {
  const found: { -readonly [K in keyof Extensions]: Extensions[K] } = {
    ca: false,
    pathLength: null,
    keyCertSign: false,
    usages: [],
    names: NO_NAMES,
    subjectKeyId: null,
    authorityKeyId: null,
    unknownCritical: [],
  }
  const tbs = new DerReader(readSequence(certificate).next(TAG.sequence).content)
  const list = tbs.rest().find(({ tag }) => tag === context(3))
  if (list === undefined) return found
  const seen = new Set<string>()
  for (const extension of readSequence(list.content).rest()) {
    const fields = readSequence(extension.raw)
    const id = readOid(fields.next(TAG.oid).content)
    const flag = fields.optional(TAG.boolean)
    const critical = flag !== undefined && readBoolean(flag.content)
    const value = fields.next(TAG.octetString).content
    fields.end()
    // RFC 5280 4.2: at most one instance of each; two readers could pick different ones.
    if (seen.has(id)) throw new SyntaxError(`extension ${id} appears twice`)
    seen.add(id)
    if (id === '2.5.29.19') Object.assign(found, readBasicConstraints(value))
    else if (id === '2.5.29.15')
      found.keyCertSign = ((readDer(value, TAG.bitString).content[1] ?? 0) & KEY_CERT_SIGN) !== 0
    else if (id === '2.5.29.37')
      found.usages = readSequence(value)
        .rest()
        .map((usage) => readOid(usage.content))
    else if (id === '2.5.29.17') found.names = readNames(value)
    else if (id === '2.5.29.14') found.subjectKeyId = hex(readDer(value, TAG.octetString).content)
    else if (id === '2.5.29.35') found.authorityKeyId = readAuthorityKeyId(value)
    else if (critical) found.unknownCritical = [...found.unknownCritical, id]
  }
  return found
}

function readBasicConstraints(value: Uint8Array): Pick<Extensions, 'ca' | 'pathLength'> {
  const fields = readSequence(value)
  const flag = fields.optional(TAG.boolean)
  const ca = flag !== undefined && readBoolean(flag.content)
  const limit = fields.optional(TAG.integer)
  fields.end()
  return { ca, pathLength: limit === undefined ? null : readUnsigned(limit.content) }
}

function readAuthorityKeyId(value: Uint8Array): string | null {
  const keyId = readSequence(value).optional(context(0, false))
  return keyId === undefined ? null : hex(keyId.content)
}

function instant(date: Date): Instant {
  const value = date.getTime()
  if (!Number.isFinite(value)) throw new SyntaxError('expected a date')
  return value
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const oneLine = (name: string | undefined): string => (name ?? '').split('\n').join(', ')
const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
