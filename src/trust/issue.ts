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
import { bitString, der, sequence, TAG, tagged, wrapped } from './der.ts'
import { AUTHORITY_KEY_ID, SUBJECT_KEY_ID, writeExtension } from './extensions.ts'
import { encodeKey, type KeyPair } from './keys.ts'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
} from './library.ts'
import { assertPermitted, NAME_CONSTRAINTS, type Permitted, writePermitted } from './name-constraints.ts'
import { isEmpty, type Names, NO_NAMES, SUBJECT_ALT_NAME, writeNames, writeSubject } from './names.ts'
import { encodePem } from './pem.ts'
import { signBytes, signingAlgorithm } from './signature.ts'

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
  /** @default 2 */
  readonly pathLength?: number
}

export interface AuthorityOptions extends Omit<RootOptions, 'pathLength'> {
  readonly epoch: Epoch
  readonly root: KeyedCertificate
  /** What it may certify (name constraints). @default every name */
  readonly permitted?: Permitted | undefined
}

export interface LeafOptions extends Window {
  readonly authority: KeyedCertificate
  readonly publicKey: KeyObject
  /** At most 64 characters. */
  readonly commonName: string
  readonly names: Names
  /** What it is for. @default both */
  readonly usages?: readonly (keyof typeof USAGE)[]
}

export interface CrossOptions extends Window {
  /** Whose name and key. */
  readonly subject: Certificate
  /** Who signs it. */
  readonly root: KeyedCertificate
}

/** A self-signed root in PEM. It may sign authorities, they only leaves; and the key of another root, as `issueCross` does. */
export async function issueRoot(options: RootOptions): Promise<string> {
  const { domain, keyPair, notBefore, notAfter, pathLength = CROSS_PATH_LENGTH } = options
  const spki = encodeKey(keyPair.publicKey)
  const subject = writeSubject(fitted(domain, ` root ${suffix(spki)}`), domain)
  return await issue({
    subject,
    issuer: subject,
    spki,
    privateKey: keyPair.privateKey,
    notBefore,
    notAfter,
    extensions: [constraints(pathLength), CA_USAGE, subjectKeyId(spki)],
  })
}

/**
 * The name and key of one root, signed by another one, in PEM: whoever trusts only that one verifies what the first one
 * signed (RFC 4949, cross-certificate). It ends with both at the latest. Throws ERR_SIGN_REFUSED when the path length
 * of the signer leaves no room for it and an authority below it.
 */
export async function issueCross({ subject, root, ...window }: CrossOptions): Promise<string> {
  const { pathLength } = root.certificate
  if (pathLength !== null && pathLength < CROSS_PATH_LENGTH) {
    throw new RotorError(
      'ERR_SIGN_REFUSED',
      `"${root.certificate.subject}": expected a path length of ${CROSS_PATH_LENGTH} or more to sign another root, found ${pathLength}`,
    )
  }
  const { name, authorityKeyId } = issuerOf(root)
  const spki = encodeKey(subject.publicKey)
  return await issue({
    subject: Buffer.from(encodedSubject(subject)),
    issuer: name,
    spki,
    privateKey: root.privateKey,
    notBefore: Math.max(window.notBefore, root.certificate.notBefore),
    notAfter: Math.min(window.notAfter, root.certificate.notAfter, subject.notAfter),
    extensions: [CROSS_CONSTRAINTS, CA_USAGE, subjectKeyId(spki), ...authorityKeyId],
  })
}

/**
 * The authority of an epoch in PEM, signed by the root; path length 0. Its name carries a part of its key's hash, so
 * a second try has another name. It ends with the root at the latest.
 */
export async function issueAuthority(options: AuthorityOptions): Promise<string> {
  const { domain, epoch, keyPair, root, notBefore, permitted = NO_NAMES } = options
  const notAfter = Math.min(options.notAfter, root.certificate.notAfter)
  const spki = encodeKey(keyPair.publicKey)
  const limits = writePermitted(permitted)
  const { name, authorityKeyId } = issuerOf(root)
  return await issue({
    subject: writeSubject(fitted(domain, ` authority epoch ${epoch} ${suffix(spki)}`), domain),
    issuer: name,
    spki,
    privateKey: root.privateKey,
    notBefore,
    notAfter,
    extensions: [
      AUTHORITY_CONSTRAINTS,
      CA_USAGE,
      ...(limits === null ? [] : [writeExtension(NAME_CONSTRAINTS, limits, true)]),
      subjectKeyId(spki),
      ...authorityKeyId,
    ],
  })
}

/**
 * A leaf in PEM (without its chain), for TLS servers and clients. Its window is cut to that of the authority.
 * Throws ERR_SIGN_REFUSED when nothing is left of the window, or for a name that can not stand in a certificate or is
 * outside of the name constraints of the authority.
 */
export async function issueLeaf(options: LeafOptions): Promise<string> {
  const { authority, publicKey, commonName, names } = options
  assertPermitted(names, authority.certificate)
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
      usagesExtension(options.usages),
      ...(isEmpty(names)
        ? []
        : [
            writeExtension(
              SUBJECT_ALT_NAME,
              encoded(() => writeNames(names)),
            ),
          ]),
      subjectKeyId(spki),
      ...authorityKeyId,
    ],
  })
}

/** All in DER. */
interface Parts extends Window {
  readonly subject: Buffer
  readonly issuer: Buffer
  readonly spki: Buffer
  readonly privateKey: KeyObject
  readonly extensions: readonly Buffer[]
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
  const { der: algorithm } = signingAlgorithm(parts.privateKey)
  const signedPart = sequence(
    VERSION_3,
    der(TAG.integer, serialNumber()),
    algorithm,
    parts.issuer,
    sequence(time(notBefore), time(notAfter)),
    parts.subject,
    parts.spki,
    der(wrapped(3), sequence(...parts.extensions)),
  )
  const signature = await signBytes(signedPart, parts.privateKey)
  return encodePem('CERTIFICATE', sequence(signedPart, algorithm, bitString(signature)))
}

/** RFC 5280 4.1.2.1: version 3 has the number 2. */
const VERSION_3 = der(wrapped(0), der(TAG.integer, Buffer.of(2)))

/** RFC 5280 4.1.2.5: UTCTime has two digits for the year and is for 1950 to 2049. */
function time(instant: Instant): Buffer {
  const text = `${formatInstant(instant).replace(/\.\d+|\D/g, '')}Z`
  const year = Number(text.slice(0, 4))
  return year >= 1950 && year < 2050
    ? der(TAG.utcTime, Buffer.from(text.slice(2)))
    : der(TAG.generalizedTime, Buffer.from(text))
}

/** 126 random bits. The first byte is 01xxxxxx: positive, and always 16 bytes (RFC 5280 4.1.2.2 allows 20). */
function serialNumber(): Buffer {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8() & 0x3f) | 0x40)
  return bytes
}

/** 160 bits of SHA-256 over the SubjectPublicKeyInfo (RFC 7093 section 2, method 4; RFC 5280 leaves it open). */
const keyId = (spki: Buffer): Buffer => createHash('sha256').update(spki).digest().subarray(0, 20)

const suffix = (spki: Buffer): string => keyId(spki).toString('hex').slice(0, 8)

/** The common name with its end whole: ub-common-name is 64, and a domain alone may have 63. */
const fitted = (domain: string, end: string): string => domain.slice(0, 64 - end.length) + end

// Extensions that many certificates share are encoded once, by the library.
const shared = (extension: Extension): Buffer => Buffer.from(extension.rawData)
/** Between a root and a leaf stand an authority and, while another root follows this one, a cross-certificate. */
export const CROSS_PATH_LENGTH = 2
const constraints = (pathLength: number): Buffer =>
  shared(new BasicConstraintsExtension(true, pathLength, true))
const CROSS_CONSTRAINTS = constraints(CROSS_PATH_LENGTH - 1)
const AUTHORITY_CONSTRAINTS = constraints(0)
const NO_CA = shared(new BasicConstraintsExtension(false, undefined, true))
const CA_USAGE = shared(new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true))
const LEAF_USAGE = shared(new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true))
/** RSA key exchange (TLS 1.2) also wants keyEncipherment. */
const RSA_USAGE = shared(
  new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment, true),
)
const TLS_USAGES = shared(new ExtendedKeyUsageExtension([USAGE.serverAuth, USAGE.clientAuth]))

/** extendedKeyUsage with these; both are encoded already. */
function usagesExtension(usages: LeafOptions['usages'] = ['serverAuth', 'clientAuth']): Buffer {
  const wanted = [...new Set(usages)].map((usage) => USAGE[usage])
  return wanted.length === 2 ? TLS_USAGES : shared(new ExtendedKeyUsageExtension(wanted))
}

const subjectKeyId = (spki: Buffer): Buffer =>
  writeExtension(SUBJECT_KEY_ID, der(TAG.octetString, keyId(spki)))

interface Issuer {
  readonly privateKey: KeyObject
  /** Encoded. */
  readonly name: Buffer
  /** Names the key by the issuer's own subjectKeyId, if it has one: RFC 5280 4.2.1.1 wants them equal. */
  readonly authorityKeyId: readonly Buffer[]
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
    name: Buffer.from(encodedSubject(certificate)),
    authorityKeyId:
      id === null ? [] : [writeExtension(AUTHORITY_KEY_ID, sequence(der(tagged(0), Buffer.from(id, 'hex'))))],
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
