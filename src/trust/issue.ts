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
import { bitString, context, der, oid, readSequence, sequence, TAG, time } from './der.ts'
import type { KeyPair } from './keys.ts'
import { isEmpty, type Names, writeNames, writeSubject } from './names.ts'
import { encodePem } from './pem.ts'
import { algorithmIdentifier, signed } from './signature.ts'

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
    extensions: [caConstraints(1), caUsage(), subjectKeyId(keyId(spki))],
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
  assertKeyOf(root)
  return await issue({
    subject: writeSubject(fitted(domain, ` authority epoch ${epoch} ${suffix(spki)}`), domain),
    issuer: encodedSubject(root.certificate),
    spki,
    privateKey: root.privateKey,
    notBefore,
    notAfter,
    extensions: [caConstraints(0), caUsage(), subjectKeyId(keyId(spki)), authorityKeyId(root.certificate)],
  })
}

/**
 * A leaf in PEM (without its chain), for TLS servers and clients. Its window is cut to that of the authority.
 * Throws ERR_SIGN_REFUSED when nothing is left of the window or a name can not stand in a certificate.
 */
export async function issueLeaf(options: LeafOptions): Promise<string> {
  const { authority, publicKey, commonName, names } = options
  assertKeyOf(authority)
  const spki = encodeKey(publicKey)
  return await issue({
    subject: encoded(() => writeSubject(commonName)),
    issuer: encodedSubject(authority.certificate),
    spki,
    privateKey: authority.privateKey,
    notBefore: Math.max(options.notBefore, authority.certificate.notBefore),
    notAfter: Math.min(options.notAfter, authority.certificate.notAfter),
    extensions: [
      extension('2.5.29.19', true, sequence()), // basicConstraints; CA FALSE is the default and not encoded
      // RSA key exchange (TLS 1.2) also wants keyEncipherment
      keyUsage(publicKey.asymmetricKeyType === 'rsa' ? 0b1010_0000 : 0b1000_0000),
      extension('2.5.29.37', false, sequence(oid(USAGE.serverAuth), oid(USAGE.clientAuth))),
      ...(isEmpty(names)
        ? []
        : [
            extension(
              '2.5.29.17',
              false,
              encoded(() => writeNames(names)),
            ),
          ]),
      subjectKeyId(keyId(spki)),
      authorityKeyId(authority.certificate),
    ],
  })
}

interface Parts extends Window {
  readonly subject: Uint8Array
  readonly issuer: Uint8Array
  readonly spki: Uint8Array
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
  const body = sequence(
    der(context(0), der(TAG.integer, Buffer.of(2))), // version 3
    der(TAG.integer, serialNumber()),
    algorithmIdentifier(parts.privateKey),
    parts.issuer,
    sequence(time(notBefore), time(notAfter)),
    parts.subject,
    parts.spki,
    der(context(3), sequence(...parts.extensions)),
  )
  return encodePem('CERTIFICATE', await signed(body, parts.privateKey))
}

/**
 * 126 random bits. The first byte is 01xxxxxx: positive, and 16 bytes without leading zeros, so the integer is
 * minimal (RFC 5280 4.1.2.2 allows 20).
 */
function serialNumber(): Buffer {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8() & 0x3f) | 0x40)
  return bytes
}

const encodeKey = (publicKey: KeyObject): Buffer => publicKey.export({ type: 'spki', format: 'der' })

/** RFC 7093 section 2, method 1: the first 160 bits of SHA-256 over the key bits. */
function keyId(spki: Uint8Array): Buffer {
  const fields = readSequence(spki)
  fields.next(TAG.sequence)
  const bits = fields.next(TAG.bitString).content.subarray(1)
  return createHash('sha256').update(bits).digest().subarray(0, 20)
}

const suffix = (spki: Uint8Array): string => keyId(spki).toString('hex', 0, 4)

/** The common name with its end whole: ub-common-name is 64, and a domain alone may have 63. */
const fitted = (domain: string, end: string): string => domain.slice(0, 64 - end.length) + end

function extension(id: string, critical: boolean, value: Uint8Array): Buffer {
  const flag = critical ? [der(TAG.boolean, Buffer.of(0xff))] : [] // FALSE is the default and not encoded
  return sequence(oid(id), ...flag, der(TAG.octetString, value))
}

const caConstraints = (pathLength: number): Buffer =>
  extension(
    '2.5.29.19',
    true,
    sequence(der(TAG.boolean, Buffer.of(0xff)), der(TAG.integer, Buffer.of(pathLength))),
  )

/** DER drops the zero bits at the end of a named bit list (X.690 11.2.2). */
const keyUsage = (bits: number): Buffer => {
  let unused = 0
  while (((bits >> unused) & 1) === 0) unused += 1
  return extension('2.5.29.15', true, bitString(Buffer.of(bits), unused))
}

/** keyCertSign (bit 5) and cRLSign (bit 6). */
const caUsage = (): Buffer => keyUsage(0b0000_0110)

const subjectKeyId = (id: Uint8Array): Buffer => extension('2.5.29.14', false, der(TAG.octetString, id))

/** Names the key by the issuer's own subjectKeyId: RFC 5280 4.2.1.1 wants them equal. */
function authorityKeyId(issuer: Certificate): Buffer {
  const id = issuer.subjectKeyId === null ? Buffer.alloc(0) : Buffer.from(issuer.subjectKeyId, 'hex')
  return extension('2.5.29.35', false, sequence(...(id.length === 0 ? [] : [der(context(0, false), id)])))
}

/** Pairs that were found to match: looked at once, not for every leaf. */
const matching = new WeakMap<Certificate, KeyObject>()

function assertKeyOf({ certificate, privateKey }: KeyedCertificate): void {
  if (matching.get(certificate) === privateKey) return
  if (!keyMatches(certificate, privateKey)) {
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `the private key does not belong to "${certificate.subject}"`,
    )
  }
  matching.set(certificate, privateKey)
}

function encoded(write: () => Buffer): Buffer {
  try {
    return write()
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_SIGN_REFUSED', 'certificate names')
  }
}
