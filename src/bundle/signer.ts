/** The keys that sign bundles, named by their thumbprint, which is always computed and never believed. */
import { createHash, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { RotorError } from '../errors.ts'
import { privateKeyFromPem, privateKeyToPem } from '../trust/keys.ts'
import { SIGNER_KINDS, type SignerKey, type SignerKind } from '../wire/bundle.ts'

export { SIGNER_KINDS, type SignerKind } from '../wire/bundle.ts'

/** `alg` of the JWS header, by the `kty` of the key: EdDSA (RFC 8037), ML-DSA-65 (RFC 9964). */
export const SIGNER_ALGS = { OKP: 'EdDSA', AKP: 'ML-DSA-65' } as const

/** `kty` of the keys of a kind. */
export const KTY = { ed25519: 'OKP', 'ml-dsa-65': 'AKP' } as const satisfies Record<
  SignerKind,
  SignerKey['kty']
>

/** The kind of a key. */
export const KIND_OF = { OKP: 'ed25519', AKP: 'ml-dsa-65' } as const satisfies Record<
  SignerKey['kty'],
  SignerKind
>

export interface Signer {
  /** Public: what agents pin and bundles list. */
  readonly key: SignerKey
  readonly privateKey: KeyObject
}

/** Throws ERR_CONFIG_INVALID when this Node can not make such a key. */
export async function generateSigner(kind: SignerKind = 'ed25519'): Promise<Signer> {
  const lack = whatLacks(KTY[kind])
  if (lack !== null) throw new RotorError('ERR_CONFIG_INVALID', `bundle signer: ${lack}`)
  // with the name of one kind after the other: each is an overload of its own
  const pair = await (kind === 'ed25519'
    ? promisify(generateKeyPair)(kind)
    : promisify(generateKeyPair)(kind))
  return signerOf(pair.privateKey)
}

/** Why this Node can not use a signer of this kind, or null. Old ones have neither the question nor ML-DSA. */
export function whatLacks(kty: SignerKey['kty']): string | null {
  const alg = SIGNER_ALGS[kty]
  if (alg === 'EdDSA') return null
  if (typeof SubtleCrypto.supports === 'function' && SubtleCrypto.supports('verify', alg)) return null
  return `${alg} needs Node 24.7 or newer, this is ${process.versions.node}`
}

/**
 * A signer from its PEM. Throws ERR_AUTHORITY_LOCKED when the passphrase is missing or wrong, ERR_IDENTITY_INVALID
 * when it is no key of a kind that signs bundles. `what` names the file in messages.
 */
export function signerFromPem(pem: string, passphrase?: string, what = 'bundle signer'): Signer {
  const privateKey = privateKeyFromPem(pem, passphrase, what)
  if (!SIGNER_KINDS.some((kind) => kind === privateKey.asymmetricKeyType)) {
    throw new RotorError(
      'ERR_IDENTITY_INVALID',
      `${what}: expected an Ed25519 or ML-DSA-65 key, found ${privateKey.asymmetricKeyType}`,
    )
  }
  return signerOf(privateKey)
}

/** PKCS #8 in PEM, encrypted when a passphrase is given. */
export const signerToPem = (signer: Signer, passphrase?: string): string =>
  privateKeyToPem(signer.privateKey, passphrase)

/**
 * True when the `kid` is the thumbprint of the key. The second condition: the last character of base64url may hold
 * more bits than the key has, and with those bits set the same key would have other thumbprints.
 */
export function isSignerKey(key: SignerKey): boolean {
  const text = key.kty === 'OKP' ? key.x : key.pub
  return key.kid === thumbprint(key) && Buffer.from(text, 'base64url').toString('base64url') === text
}

/** The key of a JWK from a bundle. Throws what node:crypto throws when it is none. */
export function publicKeyOf(key: SignerKey): KeyObject {
  const { kid, ...jwk } = key
  return createPublicKey({ key: jwk, format: 'jwk' })
}

function signerOf(privateKey: KeyObject): Signer {
  const { x = '', pub = '' } = createPublicKey(privateKey).export({ format: 'jwk' })
  const key =
    privateKey.asymmetricKeyType === 'ed25519'
      ? ({ kty: 'OKP', crv: 'Ed25519', x } as const)
      : ({ kty: 'AKP', alg: 'ML-DSA-65', pub: String(pub) } as const)
  return { key: { ...key, kid: thumbprint(key) }, privateKey }
}

type Unnamed<K> = K extends SignerKey ? Omit<K, 'kid'> : never

/** RFC 7638 section 3, with the members that RFC 8037 appendix A.3 and RFC 9964 require, in their fixed order. */
function thumbprint(key: Unnamed<SignerKey>): string {
  const members =
    key.kty === 'OKP'
      ? { crv: key.crv, kty: key.kty, x: key.x }
      : { alg: key.alg, kty: key.kty, pub: key.pub }
  return createHash('sha256').update(JSON.stringify(members)).digest('base64url')
}
