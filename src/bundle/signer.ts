/** The keys that sign bundles: Ed25519, named by their thumbprint, which is always computed and never believed. */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import { RotorError } from '../errors.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem } from '../trust/keys.ts'
import type { SignerKey } from '../wire/bundle.ts'

export interface Signer {
  /** Public: what agents pin and bundles list. */
  readonly key: SignerKey
  readonly privateKey: KeyObject
}

export async function generateSigner(): Promise<Signer> {
  return signerOf((await generateKeyPair('Ed25519')).privateKey)
}

/**
 * A signer from its PEM. Throws ERR_AUTHORITY_LOCKED when the passphrase is missing or wrong, ERR_IDENTITY_INVALID
 * when it is no Ed25519 key. `what` names the file in messages.
 */
export function signerFromPem(pem: string, passphrase?: string, what = 'bundle signer'): Signer {
  const privateKey = privateKeyFromPem(pem, passphrase, what)
  if (privateKey.asymmetricKeyType !== 'ed25519') {
    throw new RotorError(
      'ERR_IDENTITY_INVALID',
      `${what}: expected an Ed25519 key, found ${privateKey.asymmetricKeyType}`,
    )
  }
  return signerOf(privateKey)
}

/** PKCS #8 in PEM, encrypted when a passphrase is given. */
export const signerToPem = (signer: Signer, passphrase?: string): string =>
  privateKeyToPem(signer.privateKey, passphrase)

/**
 * True when the `kid` is the thumbprint of the key. The second condition: 43 base64url characters hold two bits more
 * than 32 bytes, and with those bits set the same key would have other thumbprints.
 */
export const isSignerKey = ({ x, kid }: SignerKey): boolean =>
  kid === thumbprint(x) && Buffer.from(x, 'base64url').toString('base64url') === x

function signerOf(privateKey: KeyObject): Signer {
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' })
  return { key: { kty: 'OKP', crv: 'Ed25519', x, kid: thumbprint(x) }, privateKey }
}

/** RFC 7638 section 3, with the members RFC 8037 appendix A.3 requires, in their fixed order. */
const thumbprint = (x: string): string =>
  createHash('sha256')
    .update(JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x }))
    .digest('base64url')
