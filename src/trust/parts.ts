/** What is a certificate made of? TBSCertificate (RFC 5280 4.1) taken apart, each part as its bytes; nothing is judged. */
import type { Instant } from '../time.ts'
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

const Z = 0x5a

/** Year of two digits from 1950 to 2049, or of four; with seconds and in UTC: the only forms that RFC 5280 allows. */
function readTime(times: DerReader): Instant {
  const { tag, content } = times.any()
  // digits of the year; NaN comes through all sums and comparisons
  const size = tag === TAG.utcTime ? 2 : tag === TAG.generalizedTime ? 4 : Number.NaN
  if (content.length === size + 11 && content.at(-1) === Z) {
    const short = twoDigits(content, 0)
    const year = size === 4 ? short * 100 + twoDigits(content, 2) : short + (short < 50 ? 2000 : 1900)
    const month = twoDigits(content, size) - 1
    const day = twoDigits(content, size + 2)
    const hour = twoDigits(content, size + 4)
    const minute = twoDigits(content, size + 6)
    const second = twoDigits(content, size + 8)
    const instant = Date.UTC(year, month, day, hour, minute, second)
    const date = new Date(instant)
    // Date takes the 30th of February for the 2nd of March, and the year 50 for 1950
    const exists = date.getUTCFullYear() === year && date.getUTCMonth() === month && date.getUTCDate() === day
    if (exists && hour < 24 && minute < 60 && second < 60) return instant
  }
  throw new SyntaxError('validity: expected a time as RFC 5280 writes it')
}

/** NaN where none are. */
function twoDigits(text: Buffer, at: number): number {
  const [tens, ones] = [digit(text[at]), digit(text[at + 1])]
  return tens * 10 + ones
}

const digit = (character = 0): number =>
  character >= 0x30 && character <= 0x39 ? character - 0x30 : Number.NaN
