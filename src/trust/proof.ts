/**
 * Proof of possession of the current leaf key: a compact JWS (RFC 7515) over the claims, with the leaf chain in its
 * `x5c` header. Whoever holds a valid leaf of an agent, and its key, speaks for that agent.
 */
import type { KeyObject } from 'node:crypto'
import { CompactSign, compactVerify, errors } from 'jose'
import { RotorError } from '../errors.ts'
import type { Duration, Instant } from '../time.ts'
import { decodeRecord } from '../wire/record.ts'
import { type SignClaims, signClaims } from '../wire/requests.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { verifyLeaf } from './chain.ts'

const TYPE = 'rotor-sign+jws'
const MAX_PROOF_BYTES = 128 * 1024
const MAX_CHAIN = 4
const ALGORITHMS = ['ES256', 'ES384', 'EdDSA', 'PS256']

/** Signs the claims with the current leaf key. `chain` is leaf first. */
export async function proveClaims(
  claims: SignClaims,
  key: KeyObject,
  chain: readonly Certificate[],
): Promise<string> {
  const x5c = chain.map((certificate) => Buffer.from(certificate.der).toString('base64'))
  return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg: algorithmOf(key), typ: TYPE, x5c })
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
  let chain: Certificate[] = []
  const verified = await compactVerify(
    proof,
    (header) => {
      if (header.typ !== TYPE) throw new RotorError('ERR_SIGN_MALFORMED', `expected typ ${TYPE}`)
      chain = chainOf(header.x5c)
      const leaf = chain[0]
      if (leaf === undefined) throw new RotorError('ERR_SIGN_MALFORMED', 'expected the leaf chain in x5c')
      return leaf.x509.publicKey
    },
    { algorithms: ALGORITHMS },
  ).catch((cause) => {
    if (RotorError.is(cause)) throw cause
    if (cause instanceof errors.JWSInvalid) {
      throw new RotorError('ERR_SIGN_MALFORMED', 'expected a compact JWS', { cause })
    }
    throw new RotorError('ERR_SIGN_PROOF', 'the signature is not by the key of the leaf in x5c', { cause })
  })
  const leaf = chain[0]
  if (leaf === undefined) throw new RotorError('ERR_SIGN_MALFORMED', 'expected the leaf chain in x5c')
  try {
    verifyLeaf(chain, anchors, now, { skew })
  } catch (cause) {
    throw new RotorError('ERR_SIGN_PROOF', 'the leaf in x5c is not valid under the trusted authorities', {
      cause,
    })
  }
  return { claims: decodeRecord(signClaims, verified.payload, 'signing request', 'ERR_SIGN_MALFORMED'), leaf }
}

function chainOf(x5c: unknown): Certificate[] {
  if (!Array.isArray(x5c) || x5c.length === 0 || x5c.length > MAX_CHAIN) {
    throw new RotorError('ERR_SIGN_MALFORMED', `expected 1 to ${MAX_CHAIN} certificates in x5c`)
  }
  return x5c.map((text) => parseCertificate(Buffer.from(String(text), 'base64'), 'x5c', 'ERR_SIGN_MALFORMED'))
}

function algorithmOf(key: KeyObject): string {
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA'
  if (key.asymmetricKeyType === 'rsa') return 'PS256'
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ES384' : 'ES256'
}
