/**
 * Proof of possession of the current leaf key: a compact JWS (RFC 7515) over the claims, with the leaf chain in its
 * `x5c` header. Whoever holds a valid leaf of an agent, and its key, speaks for that agent.
 */
import { constants, type KeyObject } from 'node:crypto'
import { CompactSign } from 'jose'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import type { Duration, Instant } from '../time.ts'
import { decodeRecord } from '../wire/record.ts'
import { type SignClaims, signClaims } from '../wire/requests.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { readySignatures, verifyLeaf } from './chain.ts'
import { kindOf } from './keys.ts'
import { type SignatureForm, verifyBytes } from './signature.ts'

const TYPE = 'rotor-sign+jws'
/** A chain of four certificates of 20 kB and a request, in base64 twice; NATS takes 1 MiB unless told otherwise. */
export const MAX_PROOF_BYTES = 256 * 1024
const MAX_CHAIN = 4

/** `alg` (RFC 7518 3.1, RFC 8037 3.1) and the form of its signature, by the kind of the key. */
const SIGNS_WITH: Readonly<Record<string, { readonly alg: string } & SignatureForm>> = {
  'ec prime256v1': { alg: 'ES256', hash: 'sha256', pairOf: 32 },
  'ec secp384r1': { alg: 'ES384', hash: 'sha384', pairOf: 48 },
  ed25519: { alg: 'EdDSA', hash: null },
  rsa: {
    alg: 'PS256',
    hash: 'sha256',
    rsa: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST },
  },
}

/** Nothing beyond these members: `crit` or `b64` (RFC 7797) would change what the signature covers. */
const protectedHeader = z.strictObject({
  alg: z.string(),
  typ: z.literal(TYPE),
  x5c: z.array(z.string()).min(1).max(MAX_CHAIN),
})

/** Signs the claims with the current leaf key. `chain` is leaf first. */
export async function proveClaims(
  claims: SignClaims,
  key: KeyObject,
  chain: readonly Certificate[],
): Promise<string> {
  const alg = SIGNS_WITH[kindOf(key)]?.alg
  if (alg === undefined) throw new TypeError(`no JWS algorithm for a ${kindOf(key)} key`)
  const x5c = chain.map((certificate) => Buffer.from(certificate.der).toString('base64'))
  return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg, typ: TYPE, x5c })
    .sign(key)
}

/** Claims and the leaf that proves them. Throws ERR_SIGN_MALFORMED or ERR_SIGN_PROOF; says nothing more to a stranger. */
export async function openProof(
  proof: Uint8Array,
  anchors: readonly Certificate[],
  now: Instant,
  skew: Duration,
): Promise<{ claims: SignClaims; leaf: Certificate }> {
  if (proof.byteLength > MAX_PROOF_BYTES) {
    throw new RotorError(
      'ERR_SIGN_MALFORMED',
      `expected at most ${MAX_PROOF_BYTES} bytes, found ${proof.byteLength}`,
    )
  }
  const { signedPart, header, payload, signature } = takeApart(proof)
  const chain = header.x5c.map((text) =>
    parseCertificate(Buffer.from(text, 'base64'), 'x5c', 'ERR_SIGN_MALFORMED'),
  )
  const [leaf] = chain
  if (leaf === undefined) throw new RotorError('ERR_SIGN_MALFORMED', 'expected the leaf chain in x5c')
  // the key says how it signs: of what the header names, nothing else is accepted
  const { alg, ...how } = SIGNS_WITH[kindOf(leaf.publicKey)] ?? { alg: null, hash: null }
  // at once: to go to the threads of the pool and back for each one takes as long as to look at it
  const isProven = alg === header.alg && verifyBytes(signedPart, leaf.publicKey, signature, how)
  const [proven] = await Promise.all([isProven, readySignatures(chain)])
  if (!proven) {
    throw new RotorError('ERR_SIGN_PROOF', 'the signature is not by the key of the leaf in x5c')
  }
  try {
    verifyLeaf(chain, anchors, now, { skew })
  } catch (cause) {
    throw new RotorError('ERR_SIGN_PROOF', 'the leaf in x5c is not valid under the trusted authorities', {
      cause,
    })
  }
  return { claims: decodeRecord(signClaims, payload, 'signing request', 'ERR_SIGN_MALFORMED'), leaf }
}

interface Opened {
  readonly signedPart: Buffer
  readonly header: z.infer<typeof protectedHeader>
  readonly payload: Buffer
  readonly signature: Buffer
}

/** A compact JWS (RFC 7515 7.1), as `proveClaims` writes it: three texts in base64url, without spare bits. */
function takeApart(proof: Uint8Array): Opened {
  const text = Buffer.from(proof.buffer, proof.byteOffset, proof.byteLength).toString('latin1')
  const parts = text.split('.', 4)
  const [header, payload, signature] = parts.map((part) => {
    const bytes = Buffer.from(part, 'base64url')
    return bytes.toString('base64url') === part ? bytes : undefined
  })
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined) {
    throw new RotorError('ERR_SIGN_MALFORMED', 'expected a compact JWS')
  }
  return {
    signedPart: Buffer.from(text.slice(0, text.lastIndexOf('.')), 'latin1'),
    header: decodeRecord(protectedHeader, header, 'signing request: header', 'ERR_SIGN_MALFORMED'),
    payload,
    signature,
  }
}
