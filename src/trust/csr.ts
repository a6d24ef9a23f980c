/** Certificate signing requests (PKCS #10, RFC 2986): made by a node, read by the issuer. */
import { createPublicKey, type KeyObject } from 'node:crypto'
import { RotorError } from '../errors.ts'
import { context, DerReader, der, oid, readOid, readSequence, readUnsigned, sequence, TAG } from './der.ts'
import { type KeyPair, spkiSha256 } from './keys.ts'
import {
  isEmpty,
  type Names,
  NO_NAMES,
  readCommonName,
  readNames,
  writeNames,
  writeSubject,
} from './names.ts'
import { decodePem, encodePem } from './pem.ts'
import { isSignedBy, signed, weakness } from './signature.ts'

/** Characters of a request in PEM. An RSA-8192 one with 50 names has 5 KiB. */
const MAX_CSR = 16 * 1024
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14' // RFC 2985 5.4.2
const SUBJECT_ALT_NAME = '2.5.29.17'

export interface CsrSubject {
  /** Common name. */
  readonly subject: string
  readonly dns?: readonly string[]
  readonly ip?: readonly string[]
  readonly uri?: readonly string[]
}

export interface SigningRequest {
  readonly publicKey: KeyObject
  /** SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array
  readonly spkiSha256: string
  /** What the node asks for; the issuer's policy decides. */
  readonly names: Names
  /** Common name, "" without one. */
  readonly subject: string
}

/** A signed request in PEM. Throws TypeError for a name that is none. */
export async function makeCsr(
  keyPair: KeyPair,
  { subject, dns = [], ip = [], uri = [] }: CsrSubject,
): Promise<string> {
  const names = { dns, ip, uri }
  const extensions = sequence(sequence(oid(SUBJECT_ALT_NAME), der(TAG.octetString, writeNames(names))))
  const attributes = isEmpty(names) ? [] : [sequence(oid(EXTENSION_REQUEST), der(TAG.set, extensions))]
  const info = sequence(
    der(TAG.integer, Buffer.of(0)),
    writeSubject(subject),
    keyPair.publicKey.export({ type: 'spki', format: 'der' }),
    der(context(0), ...attributes),
  )
  return encodePem('CERTIFICATE REQUEST', await signed(info, keyPair.privateKey))
}

/**
 * Reads a request from an untrusted source and checks that its key signed it. Only the key, the common name and the
 * DNS, IP and URI names are read; any other wish is ignored. Throws ERR_SIGN_MALFORMED when it is no request or its
 * signature is wrong, ERR_SIGN_REFUSED when the key is too weak.
 */
export async function parseCsr(pem: string): Promise<SigningRequest> {
  if (pem.length > MAX_CSR) throw malformed(`expected at most ${MAX_CSR} characters`)
  const [bytes, ...others] = decodePem(pem, 'CERTIFICATE REQUEST', 'signing request', 'ERR_SIGN_MALFORMED')
  if (bytes === undefined || others.length > 0) throw malformed(`expected one, found ${others.length + 1}`)
  try {
    return await read(bytes)
  } catch (cause) {
    if (RotorError.is(cause)) throw cause
    throw malformed(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

async function read(bytes: Uint8Array): Promise<SigningRequest> {
  const request = readSequence(bytes)
  const info = request.next(TAG.sequence)
  const algorithm = request.next(TAG.sequence)
  const signature = request.next(TAG.bitString)
  request.end()

  const fields = new DerReader(info.content)
  if (readUnsigned(fields.next(TAG.integer).content) !== 0) throw malformed('expected version 1 of PKCS #10')
  const subject = readCommonName(fields.next(TAG.sequence).raw)
  const publicKeyDer = fields.next(TAG.sequence).raw
  const attributes = fields.optional(context(0))
  fields.end()

  const publicKey = createPublicKey({ key: Buffer.from(publicKeyDer), format: 'der', type: 'spki' })
  const problem = weakness(publicKey)
  if (problem !== null) throw new RotorError('ERR_SIGN_REFUSED', `signing request: ${problem}`)
  if (!(await isSignedBy(publicKey, info.raw, algorithm.raw, signature.content))) {
    throw malformed('the signature is not by the key of the request')
  }
  const names = attributes === undefined ? NO_NAMES : requestedNames(attributes.content)
  writeNames(names) // a name that could not be written into a certificate is refused here, with its text
  return { publicKey, publicKeyDer, spkiSha256: spkiSha256(publicKey), names, subject }
}

function requestedNames(attributes: Uint8Array): Names {
  let names: Names | null = null
  for (const attribute of new DerReader(attributes).rest()) {
    const fields = readSequence(attribute.raw)
    if (readOid(fields.next(TAG.oid).content) !== EXTENSION_REQUEST) continue
    const extensions = new DerReader(fields.next(TAG.set).content).next(TAG.sequence)
    for (const extension of new DerReader(extensions.content).rest()) {
      const parts = readSequence(extension.raw)
      if (readOid(parts.next(TAG.oid).content) !== SUBJECT_ALT_NAME) continue
      parts.optional(TAG.boolean)
      if (names !== null) throw malformed('subjectAltName appears twice')
      names = readNames(parts.next(TAG.octetString).content)
    }
  }
  return names ?? NO_NAMES
}

const malformed = (message: string, cause?: unknown): RotorError =>
  new RotorError('ERR_SIGN_MALFORMED', `signing request: ${message}`, { cause })
