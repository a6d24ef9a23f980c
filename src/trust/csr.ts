/** Certificate signing requests (PKCS #10, RFC 2986): made by a node, read by the issuer. */
import { createPublicKey, type KeyObject } from 'node:crypto'
import { RotorError } from '../errors.ts'
import { type KeyPair, spkiSha256, weakness } from './keys.ts'
import {
  CertificateRequest,
  cryptoKey,
  ExtensionsAttribute,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  signingAlgorithm,
} from './library.ts'
import {
  assertNames,
  isEmpty,
  type Names,
  NO_NAMES,
  readCommonName,
  readNames,
  writeNames,
  writeSubject,
} from './names.ts'
import { decodePem, encodePem } from './pem.ts'

/** Characters of a request in PEM. An RSA-8192 one with 50 names has 5 KiB. */
const MAX_CSR = 16 * 1024

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
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: writeSubject(subject),
    keys: { publicKey: cryptoKey(publicKey), privateKey: cryptoKey(privateKey) },
    signingAlgorithm: signingAlgorithm(privateKey),
    extensions: isEmpty(names) ? [] : [writeNames(names)],
  })
  return encodePem('CERTIFICATE REQUEST', Buffer.from(request.rawData))
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
  const request = new CertificateRequest(bytes)
  if (!request.isDer) throw malformed('expected DER')
  if (request.version !== 0) throw malformed('expected version 1 of PKCS #10')
  const subject = readCommonName(request.subjectName)

  const publicKeyDer = new Uint8Array(request.publicKey.rawData)
  const publicKey = createPublicKey({ key: Buffer.from(publicKeyDer), format: 'der', type: 'spki' })
  const problem = weakness(publicKey)
  if (problem !== null) throw new RotorError('ERR_SIGN_REFUSED', `signing request: ${problem}`)
  if (!(await request.isSignedBy(publicKey))) {
    throw malformed('the signature is not by the key of the request')
  }
  const names = requestedNames(request)
  assertNames(names) // a name that could not be written into a certificate is refused here, with its text
  return { publicKey, publicKeyDer, spkiSha256: spkiSha256(publicKey), names, subject }
}

function requestedNames(request: CertificateRequest): Names {
  const [wanted, ...others] = request.attributes
    .flatMap((attribute) => (attribute instanceof ExtensionsAttribute ? attribute.items : []))
    .filter((extension) => extension instanceof SubjectAlternativeNameExtension)
  if (others.length > 0) throw malformed('subjectAltName appears twice')
  return wanted === undefined ? NO_NAMES : readNames(wanted)
}

const malformed = (message: string, cause?: unknown): RotorError =>
  new RotorError('ERR_SIGN_MALFORMED', `signing request: ${message}`, { cause })
