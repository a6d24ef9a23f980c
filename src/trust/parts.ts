/** What is a certificate made of? TBSCertificate (RFC 5280 4.1) taken apart, each part as its bytes; nothing is judged. */
import { formatInstant, type Instant } from '../time.ts'
import { DerReader, TAG, tagged, wrapped } from './der.ts'
import { type RawExtension, readExtensionList } from './extensions.ts'

export interface CertificateParts {
  /** What the signature covers. */
  readonly signedPart: Buffer
  /** AlgorithmIdentifier. */
  readonly algorithm: Buffer
  readonly signature: Buffer
  /** Encoded names: the issuer of a certificate has the same bytes as the subject of the one that signed it. */
  readonly issuer: Buffer
  readonly subject: Buffer
  /** SEQUENCE of two times. */
  readonly validity: Buffer
  /** SubjectPublicKeyInfo. */
  readonly spki: Buffer
  readonly extensions: readonly RawExtension[]
}

/** Throws SyntaxError for anything but one certificate in DER. */
export function readParts(bytes: Uint8Array): CertificateParts {
  const outside = new DerReader(bytes, 'certificate')
  const whole = outside.sequence()
  outside.end()
  const tbs = whole.take(TAG.sequence)
  const algorithm = whole.take(TAG.sequence).whole
  const signature = whole.bits()
  whole.end()

  const fields = tbs.reader('certificate')
  fields.optional(wrapped(0)) // version
  fields.integer() // serial number
  // RFC 5280 4.1.1.2: only the inner one is signed
  if (!fields.take(TAG.sequence).whole.equals(algorithm)) {
    throw new SyntaxError('certificate: expected the same signature algorithm twice')
  }
  const issuer = fields.take(TAG.sequence).whole
  const validity = fields.take(TAG.sequence).whole
  const subject = fields.take(TAG.sequence).whole
  const spki = fields.take(TAG.sequence).whole
  fields.optional(tagged(1)) // unique identifiers
  fields.optional(tagged(2))
  const extensions = fields.more ? readExtensionList(fields.inside(wrapped(3))) : []
  fields.end()
  return { signedPart: tbs.whole, algorithm, signature, issuer, subject, validity, spki, extensions }
}

/** Both ends of a validity (RFC 5280 4.1.2.5). Throws SyntaxError. */
export function readValidity(validity: Uint8Array): { notBefore: Instant; notAfter: Instant } {
  const outside = new DerReader(validity, 'validity')
  const times = outside.sequence()
  outside.end()
  const notBefore = readTime(times)
  const notAfter = readTime(times)
  times.end()
  return { notBefore, notAfter }
}

/** With seconds and in UTC, in the only form that RFC 5280 allows. */
function readTime(times: DerReader): Instant {
  const { tag, content } = times.any()
  const text = content.toString('latin1')
  // two digits: 1950 to 2049
  const full = tag === TAG.utcTime ? `${text < '5' ? '20' : '19'}${text}` : text
  const at = (from: number): string => full.slice(from, from + 2)
  const iso = `${full.slice(0, 4)}-${at(4)}-${at(6)}T${at(8)}:${at(10)}:${at(12)}.000Z`
  const instant = Date.parse(iso)
  const isTime = tag === TAG.utcTime || tag === TAG.generalizedTime
  const fits = full.length === 15 && full.endsWith('Z')
  // Date takes the 30th of February for the 2nd of March
  if (!isTime || !fits || Number.isNaN(instant) || formatInstant(instant) !== iso) {
    throw new SyntaxError('validity: expected a time as RFC 5280 writes it')
  }
  return instant
}
