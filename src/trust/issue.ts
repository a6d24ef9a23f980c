/**
 * How are our certificates made? Root, authority of an epoch, leaf: RFC 5280 section 4, version 3. Dates are whole
 * seconds, rounded down.
 */
import { createHash, type KeyObject, randomBytes } from 'node:crypto'
import { RotorError } from '../errors.ts'
import type { Epoch } from '../schedule.ts'
import { formatInstant, type Instant } from '../time.ts'
import { type Certificate, encodedSubject } from './certificate.ts'
import { keyMatches, USAGE } from './chain.ts'
import type { KeyPair } from './keys.ts'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoKey,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  SubjectKeyIdentifierExtension,
  signingAlgorithm,
  X509CertificateGenerator,
} from './library.ts'
import { isEmpty, type Names, writeNames, writeSubject } from './names.ts'
import { encodePem } from './pem.ts'

export interface KeyedCertificate {
  readonly certificate: Certificate
  readonly privateKey: KeyObject
}

export interface Window {
  readonly notBefore: Instant
  readonly notAfter: Instant
}

export interface RootOptions extends Window {
  readonly domain: string
  readonly keyPair: KeyPair
}

export interface AuthorityOptions extends RootOptions {
  readonly epoch: Epoch
  readonly root: KeyedCertificate
}

export interface LeafOptions extends Window {
  readonly authority: KeyedCertificate
  readonly publicKey: KeyObject
  /** At most 64 characters. */
  readonly commonName: string
  readonly names: Names
}

/** A self-signed root in PEM. It may sign authorities, and they only leaves. */
export async function issueRoot({ domain, keyPair, notBefore, notAfter }: RootOptions): Promise<string> {
  const spki = encodeKey(keyPair.publicKey)
  const subject = writeSubject(fitted(domain, ` root ${suffix(spki)}`), domain)
  return await issue({
    subject,
    issuer: subject,
    spki,
    privateKey: keyPair.privateKey,
    notBefore,
    notAfter,
    extensions: [new BasicConstraintsExtension(true, 1, true), CA_USAGE, subjectKeyId(spki)],
  })
}

/**
 * The authority of an epoch in PEM, signed by the root; path length 0. Its name carries a part of its key's hash, so
 * a second try has another name. It ends with the root at the latest.
 */
export async function issueAuthority(options: AuthorityOptions): Promise<string> {
  const { domain, epoch, keyPair, root, notBefore } = options
  const notAfter = Math.min(options.notAfter, root.certificate.notAfter)
  const spki = encodeKey(keyPair.publicKey)
  const { name, authorityKeyId } = issuerOf(root)
  return await issue({
    subject: writeSubject(fitted(domain, ` authority epoch ${epoch} ${suffix(spki)}`), domain),
    issuer: name,
    spki,
    privateKey: root.privateKey,
    notBefore,
    notAfter,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      CA_USAGE,
      subjectKeyId(spki),
      ...authorityKeyId,
    ],
  })
}

/**
 * A leaf in PEM (without its chain), for TLS servers and clients. Its window is cut to that of the authority.
 * Throws ERR_SIGN_REFUSED when nothing is left of the window or a name can not stand in a certificate.
 */
export async function issueLeaf(options: LeafOptions): Promise<string> {
  const { authority, publicKey, commonName, names } = options
  const { name, authorityKeyId } = issuerOf(authority)
  const spki = encodeKey(publicKey)
  return await issue({
    subject: encoded(() => writeSubject(commonName)),
    issuer: name,
    spki,
    privateKey: authority.privateKey,
    notBefore: Math.max(options.notBefore, authority.certificate.notBefore),
    notAfter: Math.min(options.notAfter, authority.certificate.notAfter),
    extensions: [
      NO_CA,
      publicKey.asymmetricKeyType === 'rsa' ? RSA_USAGE : LEAF_USAGE,
      TLS_USAGES,
      ...(isEmpty(names) ? [] : [encoded(() => writeNames(names))]),
      subjectKeyId(spki),
      ...authorityKeyId,
    ],
  })
}

interface Parts extends Window {
  readonly subject: Name
  readonly issuer: Name
  readonly spki: Buffer
  readonly privateKey: KeyObject
  readonly extensions: Extension[]
}

async function issue(parts: Parts): Promise<string> {
  const notBefore = Math.floor(parts.notBefore / 1000) * 1000
  const notAfter = Math.floor(parts.notAfter / 1000) * 1000
  if (!(notBefore < notAfter)) {
    throw new RotorError(
      'ERR_SIGN_REFUSED',
      `expected a certificate window with a start before its end, found ${formatInstant(notBefore)} to ${formatInstant(notAfter)}`,
    )
  }
  const made = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: parts.subject,
    issuer: parts.issuer,
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
    publicKey: parts.spki,
    signingKey: cryptoKey(parts.privateKey),
    signingAlgorithm: signingAlgorithm(parts.privateKey),
    extensions: parts.extensions,
  })
  return encodePem('CERTIFICATE', Buffer.from(made.rawData))
}

/**
 * 126 random bits in hex. The first byte is 01xxxxxx: positive, and always 16 bytes (RFC 5280 4.1.2.2 allows 20);
 * without a number the library takes 16 random bytes, which in DER are one more or fewer at times.
 */
function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8() & 0x3f) | 0x40)
  return bytes.toString('hex')
}

const encodeKey = (publicKey: KeyObject): Buffer => publicKey.export({ type: 'spki', format: 'der' })

/** 160 bits of SHA-256 over the SubjectPublicKeyInfo (RFC 7093 section 2, method 4; RFC 5280 leaves it open). */
const keyId = (spki: Buffer): string => createHash('sha256').update(spki).digest('hex').slice(0, 40)

const suffix = (spki: Buffer): string => keyId(spki).slice(0, 8)

/** The common name with its end whole: ub-common-name is 64, and a domain alone may have 63. */
const fitted = (domain: string, end: string): string => domain.slice(0, 64 - end.length) + end

// Extensions that many certificates share are made once: each one is encoded and parsed by the library.
const NO_CA = new BasicConstraintsExtension(false, undefined, true)
const CA_USAGE = new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true)
const LEAF_USAGE = new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true)
/** RSA key exchange (TLS 1.2) also wants keyEncipherment. */
const RSA_USAGE = new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment, true)
const TLS_USAGES = new ExtendedKeyUsageExtension([USAGE.serverAuth, USAGE.clientAuth])

const subjectKeyId = (spki: Buffer): Extension => new SubjectKeyIdentifierExtension(keyId(spki))

interface Issuer {
  readonly privateKey: KeyObject
  readonly name: Name
  /** Names the key by the issuer's own subjectKeyId, if it has one: RFC 5280 4.2.1.1 wants them equal. */
  readonly authorityKeyId: readonly Extension[]
}

/** Issuers whose key was found to match: looked at once, not for every leaf. */
const issuers = new WeakMap<Certificate, Issuer>()

function issuerOf({ certificate, privateKey }: KeyedCertificate): Issuer {
  const known = issuers.get(certificate)
  if (known?.privateKey === privateKey) return known
  if (!keyMatches(certificate, privateKey)) {
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `the private key does not belong to "${certificate.subject}"`,
    )
  }
  const id = certificate.subjectKeyId
  const issuer = {
    privateKey,
    name: new Name(encodedSubject(certificate)),
    authorityKeyId: id === null ? [] : [new AuthorityKeyIdentifierExtension(id)],
  }
  issuers.set(certificate, issuer)
  return issuer
}

function encoded<T>(write: () => T): T {
  try {
    return write()
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_SIGN_REFUSED', 'certificate names')
  }
}
