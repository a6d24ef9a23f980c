/**
 * Which X.509 library do we use, and in which form does it get our keys? The only file that imports `@peculiar/x509`,
 * and so the only one that has to know that `reflect-metadata` comes first.
 */
import 'reflect-metadata'
import { type KeyObject, verify, webcrypto } from 'node:crypto'
import { promisify } from 'node:util'
import { cryptoProvider, Pkcs10CertificateRequest } from '@peculiar/x509'
import { kindOf } from './keys.ts'

export {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  ExtensionsAttribute,
  GeneralNames,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate as ParsedCertificate,
  X509CertificateGenerator,
} from '@peculiar/x509'

cryptoProvider.set(webcrypto)

type SigningAlgorithm = webcrypto.EcKeyImportParams & webcrypto.RsaHashedImportParams

const ecdsa = (namedCurve: string, hash: string) => ({ name: 'ECDSA', namedCurve, hash })

/** What a key signs with, by its kind; curve and hash as RFC 5656 6.2.1 pairs them. */
const SIGNS_WITH: Readonly<Record<string, Partial<SigningAlgorithm> & { readonly name: string }>> = {
  'ec prime256v1': ecdsa('P-256', 'SHA-256'),
  'ec secp384r1': ecdsa('P-384', 'SHA-384'),
  'ec secp521r1': ecdsa('P-521', 'SHA-512'),
  rsa: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  ed25519: { name: 'Ed25519' },
}

/** What this key signs with. Throws TypeError for a kind of key that we do not use. */
export function signingAlgorithm(key: KeyObject): { readonly name: string } {
  const algorithm = SIGNS_WITH[kindOf(key)]
  if (algorithm === undefined) throw new TypeError(`no signature algorithm for a ${kindOf(key)} key`)
  return algorithm
}

const converted = new WeakMap<KeyObject, webcrypto.CryptoKey>()

/** The key as Web Crypto wants it; converted once, for an authority signs with the same key all the time. */
export function cryptoKey(key: KeyObject): webcrypto.CryptoKey {
  const known = converted.get(key)
  if (known !== undefined) return known
  // The generator of requests exports the public key again.
  const isPublic = key.type === 'public'
  const made = key.toCryptoKey(signingAlgorithm(key), isPublic, [isPublic ? 'verify' : 'sign'])
  converted.set(key, made)
  return made
}

/** What node:crypto calls the signatures that we accept, by their names here. SHA-1 is not among the hashes. */
const KEY_TYPES: Readonly<Record<string, string>> = {
  ECDSA: 'ec',
  'RSASSA-PKCS1-v1_5': 'rsa',
  Ed25519: 'ed25519',
}
const HASHES: Readonly<Record<string, string>> = {
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
}

/** A request as the library reads it, with the questions that it leaves open. */
export class CertificateRequest extends Pkcs10CertificateRequest {
  /** The library reads BER. Are these the bytes that DER has for what it read, with nothing before or after? */
  get isDer(): boolean {
    const written = new Pkcs10CertificateRequest(this.asn).rawData
    return Buffer.from(written).equals(Buffer.from(this.rawData))
  }

  /** PKCS #10 version 1 has the number 0. */
  get version(): number {
    return this.asn.certificationRequestInfo.version
  }

  /**
   * Did this key sign the request, with an algorithm that we accept? By OpenSSL: `verify` of the library also takes
   * signatures that are not in DER, and reads the key twice more.
   */
  async isSignedBy(publicKey: KeyObject): Promise<boolean> {
    const { name, hash }: SignatureAlgorithm = this.signatureAlgorithm
    const { parameters } = this.asn.signatureAlgorithm
    const digest = name === 'Ed25519' ? null : HASHES[hash?.name ?? '']
    const signedPart = this.asn.certificationRequestInfoRaw
    if (digest === undefined || signedPart === undefined) return false
    if (KEY_TYPES[name ?? ''] !== publicKey.asymmetricKeyType) return false
    // RFC 4055 5: NULL, which the library reads as null; RFC 5758 3.2, RFC 8410 3: no parameters
    if (parameters !== (publicKey.asymmetricKeyType === 'rsa' ? null : undefined)) return false
    return await verifyAsync(digest, Buffer.from(signedPart), publicKey, Buffer.from(this.signature))
  }
}

interface SignatureAlgorithm {
  readonly name?: string
  readonly hash?: { readonly name?: string }
}

type Verified = (error: Error | null, result: boolean) => void

/** In a thread, for a slow kind of key. */
const verifyAsync = promisify(
  (hash: string | null, data: Buffer, key: KeyObject, signature: Buffer, done: Verified) =>
    verify(hash, data, key, signature, done),
)
