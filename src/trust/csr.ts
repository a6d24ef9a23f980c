/** Certificate signing requests (PKCS #10, RFC 2986): made by a node, read by the issuer. */
import type { KeyObject } from 'node:crypto'
import { RotorError } from '../errors.ts'
import { MAX_CSR } from '../wire/requests.ts'
import { bitString, DerReader, der, sequence, TAG, wrapped } from './der.ts'
import { readExtensionList, writeExtension } from './extensions.ts'
import { encodeKey, type KeyPair, publicKeyFromDer, spkiSha256, weakness } from './keys.ts'
import {
  assertNames,
  isEmpty,
  type Names,
  NO_NAMES,
  readCommonName,
  readNames,
  SUBJECT_ALT_NAME,
  writeNames,
  writeSubject,
} from './names.ts'
import { decodePem, encodePem } from './pem.ts'
import { isSignedBy, signBytes, signingAlgorithm } from './signature.ts'

/** PKCS #10 version 1 has the number 0. */
const VERSION_1 = der(TAG.integer, Buffer.of(0))
/** id-extensionRequest, 1.2.840.113549.1.9.14 (RFC 2985 5.4.2). */
const EXTENSION_REQUEST = Buffer.from('06092a864886f70d01090e', 'hex')

export interface CsrSubject {
  /** Common name. */
  readonly subject: string
  readonly dns?: readonly string[]
  readonly ip?: readonly string[]
  readonly uri?: readonly string[]
}

export interface SigningRequest {
  /** As it came: for an authority that reads it itself. */
  readonly pem: string
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
  { publicKey, privateKey }: KeyPair,
  { subject, dns = [], ip = [], uri = [] }: CsrSubject,
): Promise<string> {
  const names = { dns, ip, uri }
  const wanted = isEmpty(names) ? [] : [writeExtension(SUBJECT_ALT_NAME, writeNames(names))]
  const signedPart = sequence(
    VERSION_1,
    writeSubject(subject),
    encodeKey(publicKey),
    der(wrapped(0), ...wanted.map((one) => sequence(EXTENSION_REQUEST, der(TAG.set, sequence(one))))),
  )
  const { der: algorithm } = signingAlgorithm(privateKey)
  const signature = await signBytes(signedPart, privateKey)
  return encodePem('CERTIFICATE REQUEST', sequence(signedPart, algorithm, bitString(signature)))
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
    return { pem, ...(await read(bytes)) }
  } catch (cause) {
    if (RotorError.is(cause)) throw cause
    throw malformed(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

async function read(bytes: Uint8Array): Promise<Omit<SigningRequest, 'pem'>> {
  const outside = new DerReader(bytes, 'request')
  const request = outside.sequence()
  outside.end()
  const signedPart = request.take(TAG.sequence)
  const algorithm = request.take(TAG.sequence).whole
  const signature = request.bits()
  request.end()

  const info = signedPart.reader('request')
  if (!info.take(TAG.integer).whole.equals(VERSION_1)) throw malformed('expected version 1 of PKCS #10')
  const subject = readCommonName(info.take(TAG.sequence).whole)
  const publicKeyDer = info.take(TAG.sequence).whole
  const names = requestedNames(info.inside(wrapped(0), 'attributes'))
  info.end()

  const publicKey = publicKeyFromDer(publicKeyDer)
  const problem = weakness(publicKey)
  if (problem !== null) throw new RotorError('ERR_SIGN_REFUSED', `signing request: ${problem}`)
  if (!(await isSignedBy(signedPart.whole, algorithm, signature, publicKey))) {
    throw malformed('the signature is not by the key of the request')
  }
  assertNames(names) // a name that could not be written into a certificate is refused here, with its text
  return { publicKey, publicKeyDer, spkiSha256: spkiSha256(publicKey), names, subject }
}

/** The names among the wanted extensions. The attributes are a SET, and each has a SET of values. */
function requestedNames(attributes: DerReader): Names {
  let wanted: Names | null = null
  while (attributes.more) {
    const attribute = attributes.sequence()
    const isRequest = attribute.take(TAG.objectId).whole.equals(EXTENSION_REQUEST)
    const values = attribute.inside(TAG.set)
    attribute.end()
    if (!isRequest) continue
    for (const { id, value } of readExtensionList(values)) {
      if (id !== SUBJECT_ALT_NAME) continue
      if (wanted !== null) throw malformed('subjectAltName appears twice')
      wanted = readNames(value)
    }
    values.end()
  }
  return wanted ?? NO_NAMES
}

const malformed = (message: string, cause?: unknown): RotorError =>
  new RotorError('ERR_SIGN_MALFORMED', `signing request: ${message}`, { cause })
