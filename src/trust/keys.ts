/** Key pairs: which kinds we make and accept, how they are kept as PEM, and the one fingerprint of a public key. */
import { createHash, createPrivateKey, generateKeyPair as generate, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { RotorError } from '../errors.ts'

/** What we make ourselves. Go and OpenSSL verify all four; P-256 is the fastest to sign and the smallest. */
export type KeyAlgorithm = 'P-256' | 'P-384' | 'Ed25519' | 'RSA-3072'

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

/** SHA-256 over the SubjectPublicKeyInfo in DER, as hex: equal if and only if the keys are equal. */
export function spkiSha256(publicKey: KeyObject): string {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}

/** Kind and curve of a key in the words of node:crypto: `ec prime256v1`, `rsa`, `ed25519`. */
export function kindOf(key: KeyObject): string {
  const curve = key.asymmetricKeyDetails?.namedCurve
  return curve === undefined ? `${key.asymmetricKeyType}` : `${key.asymmetricKeyType} ${curve}`
}

const ACCEPTED_KINDS = new Set(['ec prime256v1', 'ec secp384r1', 'ec secp521r1', 'rsa', 'ed25519'])

/** Why this public key is too weak or of no kind we use; null when it is good. RSA needs 2048 to 8192 bits. */
export function weakness(publicKey: KeyObject): string | null {
  const kind = kindOf(publicKey)
  if (!ACCEPTED_KINDS.has(kind)) return `expected a P-256, P-384, P-521, Ed25519 or RSA key, found ${kind}`
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 2048
  return bits < 2048 || bits > 8192 ? `expected an RSA key of 2048 to 8192 bits, found ${bits}` : null
}
