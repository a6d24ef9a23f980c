/** What a bundle says, as text: the exact bytes that are signed and hashed, and the trust file made from them. */
import { createHash } from 'node:crypto'
import { RotorError } from '../errors.ts'
import { parseCertificate } from '../trust/certificate.ts'
import { type BundlePayload, bundlePayload } from '../wire/bundle.ts'
import { describeIssues } from '../wire/record.ts'

/**
 * JSON without spaces, keys in the order of the schema, so equal payloads give equal text whoever built them.
 * Throws ERR_BUNDLE_MALFORMED when the payload does not fit the schema.
 */
export function encodePayload(payload: BundlePayload): string {
  const parsed = bundlePayload.safeParse(payload) // its output has the keys of the schema, in that order
  if (!parsed.success) {
    throw new RotorError('ERR_BUNDLE_MALFORMED', `bundle payload: ${describeIssues(parsed.error)}`)
  }
  return JSON.stringify(parsed.data)
}

/** SHA-256 of the payload bytes in hex: what `previous` of the next bundle holds. */
export const payloadDigest = (text: string | Uint8Array): string =>
  createHash('sha256').update(text).digest('hex')

/**
 * The certificates of all authorities in PEM, newest epoch first, whatever their status: being in the bundle is
 * being trusted. The order does not depend on the status, so a mere change of status changes no trust file and
 * makes no server reload.
 */
export function trustedCertificates(payload: Pick<BundlePayload, 'authorities'>): string[] {
  return [...payload.authorities]
    .sort((a, b) => b.epoch - a.epoch)
    .map(({ certificate, epoch }) => canonical(certificate, `authority of epoch ${epoch}`))
}

/**
 * The text of ca.pem. `authorities`: the intermediates are the anchors, so leaving the bundle is revocation.
 * `root`: for TLS clients that do not verify partial chains; only expiry ends trust in an authority there.
 */
export function caFile(
  payload: Pick<BundlePayload, 'authorities' | 'roots'>,
  anchors: 'authorities' | 'root' = 'authorities',
): string {
  return anchors === 'root'
    ? payload.roots.map((root, i) => canonical(root, `root ${i + 1}`)).join('')
    : trustedCertificates(payload).join('')
}

/** The same certificate always gives the same bytes, however its PEM was wrapped. */
const canonical = (pem: string, what: string): string =>
  parseCertificate(pem, what, 'ERR_BUNDLE_AUTHORITY').pem
