/**
 * With what does a key of each kind sign, and did this key sign these bytes? By OpenSSL, in a thread of the pool: an
 * issuer has other requests to look at meanwhile. The way to that thread and back takes as much of the processors as a
 * P-256 signature, so where they have no time to spare it is looked at here and now.
 */
import { type KeyObject, type SigningOptions, sign, type VerifyKeyObjectInput, verify } from 'node:crypto'
import { promisify } from 'node:util'
import { positiveInteger, sequence } from './der.ts'
import { kindOf } from './keys.ts'

interface Algorithm {
  /** AlgorithmIdentifier in DER: RFC 5758 3.2 and RFC 8410 3 without parameters, RFC 4055 5 with NULL. */
  readonly der: Buffer
  /** As node:crypto calls it. */
  readonly keyType: string
  readonly hash: string | null
}

const algorithm = (keyType: string, hash: string | null, hex: string): Algorithm => ({
  der: Buffer.from(hex, 'hex'),
  keyType,
  hash,
})

const ECDSA_SHA256 = algorithm('ec', 'sha256', '300a06082a8648ce3d040302')
const ECDSA_SHA384 = algorithm('ec', 'sha384', '300a06082a8648ce3d040303')
const ECDSA_SHA512 = algorithm('ec', 'sha512', '300a06082a8648ce3d040304')
const RSA_SHA256 = algorithm('rsa', 'sha256', '300d06092a864886f70d01010b0500')
const RSA_SHA384 = algorithm('rsa', 'sha384', '300d06092a864886f70d01010c0500')
const RSA_SHA512 = algorithm('rsa', 'sha512', '300d06092a864886f70d01010d0500')
const ED25519 = algorithm('ed25519', null, '300506032b6570')

/** What we accept. SHA-1 is not among the hashes. */
const ACCEPTED = new Map(
  [ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512, RSA_SHA256, RSA_SHA384, RSA_SHA512, ED25519].map((one) => [
    one.der.toString('hex'),
    one,
  ]),
)

/** What a key signs with, by its kind; curve and hash as RFC 5656 6.2.1 pairs them. */
const SIGNS_WITH: Readonly<Record<string, Algorithm>> = {
  'ec prime256v1': ECDSA_SHA256,
  'ec secp384r1': ECDSA_SHA384,
  'ec secp521r1': ECDSA_SHA512,
  rsa: RSA_SHA256,
  ed25519: ED25519,
}

/** What this key signs with. Throws TypeError for a kind of key that we do not use. */
export function signingAlgorithm(key: KeyObject): Algorithm {
  const found = SIGNS_WITH[kindOf(key)]
  if (found === undefined) throw new TypeError(`no signature algorithm for a ${kindOf(key)} key`)
  return found
}

export const signBytes = async (data: Uint8Array, key: KeyObject): Promise<Buffer> =>
  await signAsync(signingAlgorithm(key).hash, data, key)

/** Did this key sign these bytes, with an algorithm that we accept? `identifier` is an AlgorithmIdentifier in DER. */
export async function isSignedBy(
  data: Uint8Array,
  identifier: Buffer,
  signature: Uint8Array,
  publicKey: KeyObject,
): Promise<boolean> {
  const hash = hashOf(identifier, publicKey)
  return hash !== undefined && (await verifyBytes(data, publicKey, signature, { hash }))
}

/** The same here and now: for P-256, which takes 0.1 ms. P-384 takes 0.9. */
export function isSignedByNow(
  data: Uint8Array,
  identifier: Buffer,
  signature: Uint8Array,
  publicKey: KeyObject,
): boolean {
  const hash = hashOf(identifier, publicKey)
  try {
    return hash !== undefined && verify(hash, data, publicKey, signature)
  } catch {
    return false
  }
}

/** What this algorithm hashes with; undefined when we do not accept it, or it is for another kind of key. */
function hashOf(identifier: Buffer, { asymmetricKeyType }: KeyObject): string | null | undefined {
  const found = ACCEPTED.get(identifier.toString('hex'))
  return found?.keyType === asymmetricKeyType ? found?.hash : undefined
}

const signAsync = promisify(
  (
    hash: string | null,
    data: Uint8Array,
    key: KeyObject,
    done: (error: Error | null, made: Buffer) => void,
  ) => sign(hash, data, key, done),
)

/** How a signature was made, besides the key. */
export interface SignatureForm {
  readonly hash: string | null
  /** ECDSA as two numbers of this many bytes each (RFC 7518 3.4). @default in DER, as certificates have it */
  readonly pairOf?: number
  /** RSA. @default PKCS #1 v1.5, as certificates have it */
  readonly rsa?: SigningOptions
}

/** Did this key sign these bytes? A signature that is none, of a wrong size too, is just not by it. */
export async function verifyBytes(
  data: Uint8Array,
  key: KeyObject,
  signature: Uint8Array,
  { hash, pairOf, rsa }: SignatureForm,
): Promise<boolean> {
  if (pairOf !== undefined && signature.length !== 2 * pairOf) return false
  const inDer = pairOf === undefined ? signature : pairInDer(signature, pairOf)
  // the key as it is: to find one in an object, or to turn the numbers around, takes Node longer than the rest
  const given = rsa === undefined ? key : { key, ...rsa }
  return await verifyAsync(hash, data, given, inDer).catch(() => false)
}

/** ECDSA-Sig-Value (RFC 3279 2.2.3). */
const pairInDer = (pair: Uint8Array, size: number): Buffer =>
  sequence(positiveInteger(pair.subarray(0, size)), positiveInteger(pair.subarray(size)))

const verifyAsync = promisify(
  (
    hash: string | null,
    data: Uint8Array,
    key: KeyObject | VerifyKeyObjectInput,
    signature: Uint8Array,
    done: (error: Error | null, result: boolean) => void,
  ) => verify(hash, data, key, signature, done),
)
