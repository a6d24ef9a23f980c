/**
 * The signed wrapping of a bundle: JWS in the general JSON serialisation (RFC 7515 7.2.1), EdDSA with Ed25519
 * (RFC 8037) or ML-DSA-65 (RFC 9964), by jose. Who signed is answered here; whether that is enough is decided in
 * accept.ts.
 */
import { flattenedVerify, GeneralSign } from 'jose'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { MAX_BUNDLE_BYTES, type SignerKey, signerKid } from '../wire/bundle.ts'
import { decodeRecord, encodeRecord } from '../wire/record.ts'
import { isSignerKey, publicKeyOf, SIGNER_ALGS, type Signer } from './signer.ts'

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
const protectedHeader = z.strictObject({
  alg: z.enum(Object.values(SIGNER_ALGS)),
  kid: signerKid,
  typ: z.string(),
})
/** Characters of a signature in base64url: 64 bytes of Ed25519, 3309 of ML-DSA-65. */
const SIGNATURE_LENGTHS: ReadonlySet<number> = new Set([86, 4412])
const signature = base64url.refine(({ length }) => SIGNATURE_LENGTHS.has(length), 'expected a signature')
const envelope = z.strictObject({
  payload: base64url,
  signatures: z
    .array(z.strictObject({ protected: base64url.max(512), signature }))
    .min(1)
    .max(32),
})

export interface Envelope {
  /** The bytes that are signed. Nothing in them is proven before `verify` said so. */
  readonly payload: Uint8Array
  /** Who is said to have signed. */
  readonly kids: readonly string[]
  /** Written as `signBundle` writes it: no space, no other order of names or signatures. */
  readonly canonical: boolean
  /** Did this key sign these bytes? False too when the `kid` is not its thumbprint, or this Node knows no such key. */
  verify(key: SignerKey): Promise<boolean>
}

/**
 * Signs the exact text with every signer. Equal text and Ed25519 signers, in any order, give equal bytes; an ML-DSA
 * signature has randomness in it (FIPS 204 3.4) and is another one each time.
 * Throws ERR_BUNDLE_TOO_LARGE when the result is more than an agent takes, TypeError without signers.
 */
export const signBundle = (payloadText: string, signers: readonly Signer[]): Promise<Uint8Array> =>
  signText(payloadText, signers, TYP)

/** The same for another `typ`, so that nothing that is signed can be taken for something else. */
export async function signText(text: string, signers: readonly Signer[], typ: string): Promise<Uint8Array> {
  if (signers.length === 0) throw new TypeError('expected at least one signer')
  const jws = new GeneralSign(Buffer.from(text, 'utf8'))
  const byKid = new Map(signers.map((signer) => [signer.key.kid, signer]))
  for (const [kid, { privateKey, key }] of [...byKid].sort(byName)) {
    jws.addSignature(privateKey).setProtectedHeader({ alg: SIGNER_ALGS[key.kty], kid, typ })
  }
  const { payload, signatures } = await jws.sign()
  const bytes = written(payload, signatures)
  assertSize(bytes)
  return bytes
}

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number => (a < b ? -1 : 1)

const written = (
  payload: string,
  signatures: readonly { readonly protected?: string; readonly signature: string }[],
): Uint8Array =>
  encodeRecord({
    payload,
    signatures: signatures.map((one) => ({ protected: one.protected, signature: one.signature })),
  })

/**
 * Takes an envelope from an untrusted source apart. Throws ERR_BUNDLE_TOO_LARGE before anything is parsed, and
 * ERR_BUNDLE_MALFORMED for any other form than the one `signBundle` writes.
 */
export function openEnvelope(bytes: Uint8Array, typ = TYP): Envelope {
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
    if (header.typ !== typ) {
      throw new RotorError(
        'ERR_BUNDLE_MALFORMED',
        `bundle envelope: protected header of signature ${i + 1}: typ: expected ${typ}, found ${JSON.stringify(header.typ.slice(0, 100))}`,
      )
    }
    if (byKid.has(header.kid)) {
      throw new RotorError('ERR_BUNDLE_MALFORMED', `bundle envelope: two signatures by signer ${header.kid}`)
    }
    byKid.set(header.kid, signature)
  }
  return {
    payload: Buffer.from(payload, 'base64url'),
    kids: [...byKid.keys()],
    canonical:
      Buffer.compare(
        bytes,
        written(
          payload,
          [...byKid].sort(byName).map(([, one]) => one),
        ),
      ) === 0,
    verify: async (key) => {
      const signature = byKid.get(key.kid)
      return signature !== undefined && isSignerKey(key) && (await verifies({ payload, ...signature }, key))
    },
  }
}

async function verifies(
  jws: { payload: string; protected: string; signature: string },
  key: SignerKey,
): Promise<boolean> {
  try {
    // The key says how it signs; a header that says otherwise is not by it.
    await flattenedVerify(jws, publicKeyOf(key), { algorithms: [SIGNER_ALGS[key.kty]] })
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

export {
  generateSigner,
  SIGNER_KINDS,
  type Signer,
  type SignerKind,
  signerFromPem,
  signerToPem,
} from './signer.ts'
