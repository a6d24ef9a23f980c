/**
 * What does this certificate say? The only place that reads certificates. OpenSSL (through node:crypto) parses and
 * checks the structure; the extensions, of which it shows few, are read with the X.509 library from the same bytes.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { RotorError, type RotorErrorCode } from '../errors.ts'
import type { Instant } from '../time.ts'
import { spkiSha256 } from './keys.ts'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  ParsedCertificate,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
} from './library.ts'
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
  return Object.freeze({
    pem: encodePem('CERTIFICATE', der),
    der,
    sha256,
    spkiSha256: spkiSha256(x509.publicKey),
    subject: oneLine(x509.subject),
    issuer: oneLine(x509.issuer),
    serial: x509.serialNumber.toLowerCase(),
    notBefore: instant(x509.validFromDate),
    notAfter: instant(x509.validToDate),
    ...readExtensions(new ParsedCertificate(der).extensions),
    x509,
  })
}

/** The subject as it is encoded: the issuer field of what this certificate signs has the same bytes. */
export function encodedSubject(certificate: Certificate): Uint8Array {
  return new Uint8Array(new ParsedCertificate(certificate.der).subjectName.toArrayBuffer())
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

function readExtensions(extensions: readonly Extension[]): Extensions {
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
  const seen = new Set<string>()
  for (const each of extensions) {
    // RFC 5280 4.2: at most one instance of each; two readers could pick different ones.
    if (seen.has(each.type)) throw new SyntaxError(`extension ${each.type} appears twice`)
    seen.add(each.type)
    if (each instanceof BasicConstraintsExtension) {
      found.ca = each.ca
      found.pathLength = pathLengthOf(each)
      assertSame(each, new BasicConstraintsExtension(each.ca, each.pathLength, each.critical))
    } else if (each instanceof KeyUsagesExtension) {
      found.keyCertSign = (each.usages & KeyUsageFlags.keyCertSign) !== 0
      assertSame(each, new KeyUsagesExtension(each.usages, each.critical))
    } else if (each instanceof ExtendedKeyUsageExtension) {
      found.usages = Array.from(each.usages, String)
      assertSame(each, new ExtendedKeyUsageExtension(each.usages, each.critical))
    } else if (each instanceof SubjectAlternativeNameExtension) found.names = readNames(each)
    else if (each instanceof SubjectKeyIdentifierExtension) {
      found.subjectKeyId = each.keyId
      assertSame(each, new SubjectKeyIdentifierExtension(each.keyId, each.critical))
    } else if (each instanceof AuthorityKeyIdentifierExtension) {
      found.authorityKeyId = each.keyId ?? null
      // With name and serial number of the issuer too the library can not write it again.
      if (each.keyId !== undefined && each.certId === undefined) {
        assertSame(each, new AuthorityKeyIdentifierExtension(each.keyId, each.critical))
      }
    } else if (each.critical) found.unknownCritical = [...found.unknownCritical, each.type]
  }
  return found
}

function pathLengthOf({ pathLength }: BasicConstraintsExtension): number | null {
  if (pathLength === undefined) return null
  // The library also gives a negative number, and one over 32 bits as text.
  if (!Number.isInteger(pathLength) || pathLength < 0) throw new SyntaxError('expected a small path length')
  return pathLength
}

/** The library reads BER and passes over bytes after the value: what was read must be all that stands there. */
function assertSame(read: Extension, written: Extension): void {
  if (!Buffer.from(read.value).equals(Buffer.from(written.value))) {
    throw new SyntaxError(`expected extension ${read.type} in DER`)
  }
}

function instant(date: Date): Instant {
  const value = date.getTime()
  if (!Number.isFinite(value)) throw new SyntaxError('expected a date')
  return value
}

const oneLine = (name: string | undefined): string => (name ?? '').split('\n').join(', ')
const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
