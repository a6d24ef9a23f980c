/**
 * The signed wrapping of a bundle: JWS in the general JSON serialisation (RFC 7515 7.2.1), EdDSA with Ed25519
 * (RFC 8037), by jose. Who signed is answered here; whether that is enough is decided in accept.ts.
 */
import { createPublicKey } from 'node:crypto'
import { flattenedVerify, GeneralSign } from 'jose'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { MAX_BUNDLE_BYTES, type SignerKey, signerKey } from '../wire/bundle.ts'
import { decodeRecord, encodeRecord } from '../wire/record.ts'
import { isSignerKey, type Signer } from './signer.ts'

const ALG = 'EdDSA'
const TYP = 'rotor-bundle+json'

const base64url = z
  .string()
  .min(1)
  .refine(
    (text) => Buffer.from(text, 'base64url').toString('base64url') === text,
    'expected base64url (RFC 4648)',
  )

/**
 * Nothing beyond these members: an unprotected header would not be signed, and `crit` or `b64` (RFC 7797) would
 * change what the signature covers.
 */
const protectedHeader = z.strictObject({ alg: z.literal(ALG), kid: signerKey.shape.kid, typ: z.literal(TYP) })
const envelope = z.strictObject({
  payload: base64url,
  signatures: z
    .array(z.strictObject({ protected: base64url.max(512), signature: base64url.length(86) }))
    .min(1)
    .max(32),
})

export interface Envelope {
  /** The bytes that are signed. Nothing in them is proven before `verify` said so. */
  readonly payload: Uint8Array
  /** Did this key sign these bytes? False too when the `kid` is not the thumbprint of the key. */
  verify(key: SignerKey): Promise<boolean>
}

/**
 * Signs the exact text with every signer. Equal text and signers, in any order, give equal bytes.
 * Throws ERR_BUNDLE_TOO_LARGE when the result is more than an agent takes, TypeError without signers.
 */
export async function signBundle(payloadText: string, signers: readonly Signer[]): Promise<Uint8Array> {
  if (signers.length === 0) throw new TypeError('expected at least one signer')
  const jws = new GeneralSign(Buffer.from(payloadText, 'utf8'))
  const byKid = new Map(signers.map((signer) => [signer.key.kid, signer]))
  for (const [kid, { privateKey }] of [...byKid].sort(([a], [b]) => (a < b ? -1 : 1))) {
    jws.addSignature(privateKey).setProtectedHeader({ alg: ALG, kid, typ: TYP })
  }
  const { payload, signatures } = await jws.sign()
  const bytes = encodeRecord({
    payload,
    signatures: signatures.map((one) => ({ protected: one.protected, signature: one.signature })),
  })
  assertSize(bytes)
  return bytes
}

/**
 * Takes an envelope from an untrusted source apart. Throws ERR_BUNDLE_TOO_LARGE before anything is parsed, and
 * ERR_BUNDLE_MALFORMED for any other form than the one `signBundle` writes.
 */
export function openEnvelope(bytes: Uint8Array): Envelope {
  assertSize(bytes)
  const { payload, signatures } = decodeRecord(envelope, bytes, 'bundle envelope', 'ERR_BUNDLE_MALFORMED')
  const byKid = new Map<string, { protected: string; signature: string }>()
  for (const [i, signature] of signatures.entries()) {
    const header = decodeRecord(
      protectedHeader,
      Buffer.from(signature.protected, 'base64url'),
      `bundle envelope: protected header of signature ${i + 1}`,
      'ERR_BUNDLE_MALFORMED',
    )
    if (byKid.has(header.kid)) {
      throw new RotorError('ERR_BUNDLE_MALFORMED', `bundle envelope: two signatures by signer ${header.kid}`)
    }
    byKid.set(header.kid, signature)
  }
  return {
    payload: Buffer.from(payload, 'base64url'),
    verify: async (key) => {
      const signature = byKid.get(key.kid)
      return signature !== undefined && isSignerKey(key) && (await verifies({ payload, ...signature }, key))
    },
  }
}

async function verifies(
  jws: { payload: string; protected: string; signature: string },
  { kty, crv, x }: SignerKey,
): Promise<boolean> {
  try {
    await flattenedVerify(jws, createPublicKey({ key: { kty, crv, x }, format: 'jwk' }), {
      algorithms: [ALG],
    })
    return true
  } catch {
    return false // any failure, also a key that is no point of the curve: not signed
  }
}

function assertSize(bytes: Uint8Array): void {
  if (bytes.byteLength <= MAX_BUNDLE_BYTES) return
  throw new RotorError(
    'ERR_BUNDLE_TOO_LARGE',
    `bundle: expected at most ${MAX_BUNDLE_BYTES} bytes, found ${bytes.byteLength}`,
  )
}

export { generateSigner, type Signer, signerFromPem, signerToPem } from './signer.ts'
