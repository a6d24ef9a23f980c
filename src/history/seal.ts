/**
 * Is this stored record as an issuer wrote it? Its last member is a signature over every byte before it. Readers that only
 * want the record pass it over; `rotor history --verify` looks at it.
 */
import { openEnvelope, type Signer, signText } from '../bundle/envelope.ts'
import { payloadDigest } from '../bundle/payload.ts'
import { RotorError } from '../errors.ts'
import type { SignerKey } from '../wire/bundle.ts'

/** `typ` of the JWS: a seal is never taken for a bundle. */
const TYP = 'rotor-seal+json'
const MEMBER = ',"seal":'

/** The record as JSON with its seal. */
export async function sealed(record: object, signers: readonly Signer[]): Promise<Uint8Array> {
  const text = JSON.stringify(record)
  const seal = Buffer.from(await signText(payloadDigest(text), signers, TYP)).toString('utf8')
  return Buffer.from(`${text.slice(0, -1)}${MEMBER}${JSON.stringify(seal)}}`)
}

/** What is wrong with the seal; null when one of these signers has sealed exactly these bytes. */
export async function problemOfSeal(data: Uint8Array, signers: readonly SignerKey[]): Promise<string | null> {
  const text = Buffer.from(data).toString('utf8')
  const at = text.lastIndexOf(MEMBER)
  if (at === -1) return 'it has no seal'
  try {
    const envelope = openEnvelope(Buffer.from(JSON.parse(text.slice(at + MEMBER.length, -1))), TYP)
    const said = Buffer.from(envelope.payload).toString('utf8')
    if (said !== payloadDigest(`${text.slice(0, at)}}`) || !text.endsWith('}') || !envelope.canonical) {
      return 'it was changed since an issuer sealed it'
    }
    for (const key of signers) if (await envelope.verify(key)) return null
    return 'its seal is by none of the signers'
  } catch (cause) {
    return `its seal can not be read: ${RotorError.from(cause).message.slice(0, 200)}`
  }
}
