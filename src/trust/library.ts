/**
 * Which X.509 library do we use, and in which form does it get our keys? The only file that imports `@peculiar/x509`,
 * and so the only one that has to know that `reflect-metadata` comes first.
 */
import 'reflect-metadata'
import { type KeyObject, webcrypto } from 'node:crypto'
import { cryptoProvider, type HashedAlgorithm, Pkcs10CertificateRequest } from '@peculiar/x509'
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

/** SHA-1 is not here, so nothing that was signed with it is accepted. */
const ACCEPTED_HASHES: readonly (string | undefined)[] = ['SHA-256', 'SHA-384', 'SHA-512']

/** A request as the library reads it, with the two questions that it leaves open. */
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

  /** Is the signature made with an algorithm that we accept, without parameters of its own? */
  get hasAcceptedAlgorithm(): boolean {
    const { name, hash }: Pick<HashedAlgorithm, 'name'> & Partial<HashedAlgorithm> = this.signatureAlgorithm
    // RFC 5758 3.2, RFC 8410 3: no parameters; RFC 4055 5: NULL, which the library reads as null
    const { parameters } = this.asn.signatureAlgorithm
    if (name === 'Ed25519') return parameters === undefined
    if (!ACCEPTED_HASHES.includes(hash?.name)) return false
    if (name === 'ECDSA') return parameters === undefined
    return name === 'RSASSA-PKCS1-v1_5' && parameters === null
  }
}
