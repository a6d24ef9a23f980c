/** Key pairs: which kinds we make and accept, how they are kept as PEM, and the one fingerprint of a public key. */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair as generate,
  type KeyObject,
} from 'node:crypto'
import { promisify } from 'node:util'
import { RotorError } from '../errors.ts'
import { encodePem } from './pem.ts'

/** What we make ourselves. Go and OpenSSL verify all four; P-256 is the fastest to sign and the smallest. */
export const KEY_ALGORITHMS = ['P-256', 'P-384', 'Ed25519', 'RSA-3072'] as const
export type KeyAlgorithm = (typeof KEY_ALGORITHMS)[number]

export interface KeyPair {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

/** Bytes of a PEM file with one private key; an RSA-16384 key needs 13 KiB. */
const MAX_KEY_PEM = 64 * 1024

const generateEc = promisify(generate)

/** A fresh key pair, made off the main thread. */
export async function generateKeyPair(algorithm: KeyAlgorithm = 'P-256'): Promise<KeyPair> {
  switch (algorithm) {
    case 'P-256':
    case 'P-384':
      return await generateEc('ec', { namedCurve: algorithm })
    case 'Ed25519':
      return await generateEc('ed25519', {})
    case 'RSA-3072':
      return await generateEc('rsa', { modulusLength: 3072 })
    default:
      throw new TypeError(`key algorithm: expected P-256, P-384, Ed25519 or RSA-3072, found ${algorithm}`)
  }
}

/** PKCS #8 in PEM (RFC 5958); encrypted with AES-256-CBC when a passphrase is given. */
export function privateKeyToPem(key: KeyObject, passphrase?: string): string {
  const pem =
    passphrase === undefined
      ? key.export({ type: 'pkcs8', format: 'pem' })
      : key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase })
  return pem.toString()
}

/**
 * A private key from PEM (PKCS #8, SEC 1 or PKCS #1). `what` names the file in messages.
 * Throws ERR_AUTHORITY_LOCKED when it is encrypted and the passphrase is missing or wrong, ERR_IDENTITY_INVALID
 * when it is no private key.
 */
export function privateKeyFromPem(pem: string, passphrase?: string, what = 'private key'): KeyObject {
  if (pem.length > MAX_KEY_PEM) {
    throw new RotorError('ERR_IDENTITY_INVALID', `${what}: expected at most ${MAX_KEY_PEM} bytes`)
  }
  // The labels of RFC 7468 section 11 and of the older OpenSSL form; the error codes of OpenSSL differ by version.
  const encrypted = /^-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(pem)
  if (encrypted && passphrase === undefined) {
    throw new RotorError('ERR_AUTHORITY_LOCKED', `${what}: the key is encrypted and no passphrase was given`)
  }
  try {
    return createPrivateKey(passphrase === undefined ? pem : { key: pem, passphrase })
  } catch (cause) {
    if (encrypted) {
      throw new RotorError('ERR_AUTHORITY_LOCKED', `${what}: the passphrase does not open the key`, { cause })
    }
    throw new RotorError('ERR_IDENTITY_INVALID', `${what}: expected one private key in PEM`, { cause })
  }
}

interface Known {
  readonly kind: string
  /** SubjectPublicKeyInfo. */
  readonly der: Buffer
}

/** OpenSSL takes 0.1 ms to say either: too much for what an issuer asks of every key. */
const known = new WeakMap<KeyObject, Known>()

/** Kinds of keys with one encoding: everything before the key itself is fixed (RFC 5480 2, RFC 8410 4). */
const FIXED_FORMS = [
  { kind: 'ec prime256v1', head: '3059301306072a8648ce3d020106082a8648ce3d03010703420004', key: 64 },
  { kind: 'ec secp384r1', head: '3076301006072a8648ce3d020106052b8104002203620004', key: 96 },
  { kind: 'ed25519', head: '302a300506032b6570032100', key: 32 },
].map(({ kind, head, key }) => ({ kind, head: Buffer.from(head, 'hex'), key }))

/** Remembers that `key` was read from this SubjectPublicKeyInfo, if that is the one encoding it has; gives the key. */
export function readFrom(spki: Uint8Array, key: KeyObject): KeyObject {
  const form = FIXED_FORMS.find(
    ({ head, key: length }) =>
      spki.length === head.length + length && head.equals(spki.subarray(0, head.length)),
  )
  if (form !== undefined) known.set(key, { kind: form.kind, der: Buffer.from(spki) })
  return key
}

/**
 * A public key from its SubjectPublicKeyInfo. Throws what node:crypto throws when it is none. As PEM, because Node takes
 * twice as long for bytes.
 */
export const publicKeyFromDer = (spki: Buffer): KeyObject =>
  readFrom(spki, createPublicKey(encodePem('PUBLIC KEY', spki)))

/** The SubjectPublicKeyInfo in DER, in the one form that OpenSSL writes. */
export const encodeKey = (publicKey: KeyObject): Buffer => whatIs(publicKey).der

/** SHA-256 over the SubjectPublicKeyInfo in DER, as hex: equal if and only if the keys are equal. */
export const spkiSha256 = (publicKey: KeyObject): string =>
  createHash('sha256').update(encodeKey(publicKey)).digest('hex')

function whatIs(publicKey: KeyObject): Known {
  const found = known.get(publicKey)
  if (found !== undefined) return found
  const asked = { kind: askedKind(publicKey), der: publicKey.export({ type: 'spki', format: 'der' }) }
  known.set(publicKey, asked)
  return asked
}

/** Kind and curve of a key in the words of node:crypto: `ec prime256v1`, `rsa`, `ed25519`. */
export const kindOf = (key: KeyObject): string => known.get(key)?.kind ?? askedKind(key)

function askedKind(key: KeyObject): string {
  const curve = key.asymmetricKeyDetails?.namedCurve
  return curve === undefined ? `${key.asymmetricKeyType}` : `${key.asymmetricKeyType} ${curve}`
}

const ALGORITHM_OF: Readonly<Record<string, KeyAlgorithm>> = {
  'ec prime256v1': 'P-256',
  'ec secp384r1': 'P-384',
  ed25519: 'Ed25519',
}

/** Which of our kinds this key is; a longer RSA key counts as RSA-3072. Null for any other. */
export function algorithmOfKey(key: KeyObject): KeyAlgorithm | null {
  if (kindOf(key) === 'rsa') return (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 3072 ? 'RSA-3072' : null
  return ALGORITHM_OF[kindOf(key)] ?? null
}

const ACCEPTED_KINDS = new Set(['ec prime256v1', 'ec secp384r1', 'ec secp521r1', 'rsa', 'ed25519'])

/** Why this public key is too weak or of no kind we use; null when it is good. RSA needs 2048 to 8192 bits. */
export function weakness(publicKey: KeyObject): string | null {
  const kind = kindOf(publicKey)
  if (!ACCEPTED_KINDS.has(kind)) return `expected a P-256, P-384, P-521, Ed25519 or RSA key, found ${kind}`
  if (kind !== 'rsa') return null
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0
  return bits < 2048 || bits > 8192 ? `expected an RSA key of 2048 to 8192 bits, found ${bits}` : null
}
