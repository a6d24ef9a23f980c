/** Signatures over DER (RFC 5280 4.1.1): which algorithm a key signs with, and which ones we accept. */
import { type KeyObject, sign, verify } from 'node:crypto'
import { promisify } from 'node:util'
import { bitString, der, oid, readOid, readSequence, sequence, TAG } from './der.ts'

interface Algorithm {
  /** AlgorithmIdentifier in DER. */
  readonly identifier: Buffer
  /** Hash for node:crypto; null where the algorithm has its own (Ed25519). */
  readonly hash: string | null
  /** What node:crypto calls the kind of key. */
  readonly keyType: string
}

const ecdsa = (id: string, hash: string): Algorithm => ({
  identifier: sequence(oid(id)), // RFC 5758 3.2: no parameters
  hash,
  keyType: 'ec',
})
const rsa = (id: string, hash: string): Algorithm => ({
  identifier: sequence(oid(id), der(TAG.null)), // RFC 4055 5: parameters are NULL
  hash,
  keyType: 'rsa',
})

/** By object identifier. SHA-1 is not here, so nothing signed with it verifies. */
const ALGORITHMS: Readonly<Record<string, Algorithm>> = {
  '1.2.840.10045.4.3.2': ecdsa('1.2.840.10045.4.3.2', 'sha256'),
  '1.2.840.10045.4.3.3': ecdsa('1.2.840.10045.4.3.3', 'sha384'),
  '1.2.840.10045.4.3.4': ecdsa('1.2.840.10045.4.3.4', 'sha512'),
  '1.2.840.113549.1.1.11': rsa('1.2.840.113549.1.1.11', 'sha256'),
  '1.2.840.113549.1.1.12': rsa('1.2.840.113549.1.1.12', 'sha384'),
  '1.2.840.113549.1.1.13': rsa('1.2.840.113549.1.1.13', 'sha512'),
  // RFC 8410 3: no parameters
  '1.3.101.112': { identifier: sequence(oid('1.3.101.112')), hash: null, keyType: 'ed25519' },
}

/** The algorithm a key signs with, by curve as RFC 5656 pairs them. */
const SIGNS_WITH: Readonly<Record<string, string>> = {
  'ec prime256v1': '1.2.840.10045.4.3.2',
  'ec secp384r1': '1.2.840.10045.4.3.3',
  'ec secp521r1': '1.2.840.10045.4.3.4',
  rsa: '1.2.840.113549.1.1.11',
  ed25519: '1.3.101.112',
}

/** Kind and curve of a key in the words of node:crypto: `ec prime256v1`, `rsa`, `ed25519`. */
function kindOf(key: KeyObject): string {
  const curve = key.asymmetricKeyDetails?.namedCurve
  return curve === undefined ? `${key.asymmetricKeyType}` : `${key.asymmetricKeyType} ${curve}`
}

/** Why this public key is too weak or of no kind we use; null when it is good. RSA needs 2048 to 8192 bits. */
export function weakness(publicKey: KeyObject): string | null {
  const kind = kindOf(publicKey)
  if (SIGNS_WITH[kind] === undefined)
    return `expected a P-256, P-384, P-521, Ed25519 or RSA key, found ${kind}`
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 2048
  return bits < 2048 || bits > 8192 ? `expected an RSA key of 2048 to 8192 bits, found ${bits}` : null
}

function algorithmOf(privateKey: KeyObject): Algorithm {
  const algorithm = ALGORITHMS[SIGNS_WITH[kindOf(privateKey)] ?? '']
  if (algorithm === undefined) throw new TypeError(`no signature algorithm for a ${kindOf(privateKey)} key`)
  return algorithm
}

/** AlgorithmIdentifier of what `privateKey` signs: it stands inside the signed part of a certificate too. */
export const algorithmIdentifier = (privateKey: KeyObject): Buffer => algorithmOf(privateKey).identifier

const signAsync = promisify(sign)

/** `SEQUENCE { body, algorithm, signature }`: the frame of certificates and of requests. */
export async function signed(body: Buffer, privateKey: KeyObject): Promise<Buffer> {
  const { hash, identifier } = algorithmOf(privateKey)
  return sequence(body, identifier, bitString(await signAsync(hash, body, privateKey)))
}

const verifyAsync = promisify(
  (hash: string | null, data: Uint8Array, key: KeyObject, signature: Uint8Array, done: VerifyDone) =>
    verify(hash, data, key, signature, done),
)
type VerifyDone = (error: Error | null, result: boolean) => void

/**
 * Is this the signature of `publicKey` over `body`? `bits` is the content of the BIT STRING. False also for an
 * algorithm that we do not accept, and for one that is encoded in another way than its RFC says.
 */
export async function isSignedBy(
  publicKey: KeyObject,
  body: Uint8Array,
  identifier: Uint8Array,
  bits: Uint8Array,
): Promise<boolean> {
  const algorithm = ALGORITHMS[readOid(readSequence(identifier).next(TAG.oid).content)]
  if (algorithm === undefined || !algorithm.identifier.equals(identifier)) return false
  if (algorithm.keyType !== publicKey.asymmetricKeyType || bits[0] !== 0) return false
  return await verifyAsync(algorithm.hash, body, publicKey, bits.subarray(1))
}
