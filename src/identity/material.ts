/** Are this key, this certificate chain and this trust file one working set? Pure: text in, certificates out. */
import type { KeyObject } from 'node:crypto'
import { RotorError } from '../errors.ts'
import type { Duration, Instant } from '../time.ts'
import { type Certificate, parseCertificates } from '../trust/certificate.ts'
import { keyMatches, verifyLeaf } from '../trust/chain.ts'
import { privateKeyFromPem } from '../trust/keys.ts'
import { isEmpty } from '../trust/names.ts'
import { FILES, type FileNames } from './layout.ts'

/** What a node holds, as the text of its three files. */
export interface IdentityMaterial {
  /** PEM, one private key without a passphrase. Secret. */
  readonly key: string
  /** PEM, the chain: leaf first. */
  readonly certificate: string
  /** PEM, the trusted authorities. */
  readonly ca: string
}

export interface ParsedMaterial {
  readonly leaf: Certificate
  /** Leaf first. */
  readonly chain: readonly Certificate[]
  readonly trusted: readonly Certificate[]
}

export interface CheckedMaterial extends ParsedMaterial {
  /** The authority that issued the leaf. */
  readonly issuer: Certificate
}

export interface CheckOptions {
  /** Milliseconds the clock may be off. @default 0 */
  readonly skew?: Duration
  /** What messages call the files. @default those of an identity directory */
  readonly names?: FileNames
}

/**
 * The set without asking a clock: every part can be read, the key is the leaf's, the leaf has names. This is what
 * tells a torn read from a whole one. Throws ERR_IDENTITY_INVALID naming the file.
 */
export function parseMaterial(material: IdentityMaterial, names: FileNames = FILES): ParsedMaterial {
  const key = readKey(material.key, names.key)
  const chain = parseCertificates(material.certificate, names.certificate, 'ERR_IDENTITY_INVALID')
  const trusted = parseCertificates(material.ca, names.ca, 'ERR_IDENTITY_INVALID')
  const [leaf] = chain
  if (leaf === undefined) throw invalid(`${names.certificate}: expected a certificate, found none`)
  if (!keyMatches(leaf, key)) {
    throw invalid(
      `${names.key} and ${names.certificate}: the key is not the one of "${leaf.subject}" (${leaf.sha256})`,
    )
  }
  if (isEmpty(leaf.names)) {
    throw invalid(`${names.certificate}: expected a DNS name, IP address or URI, found a leaf without names`)
  }
  return { leaf, chain, trusted }
}

/**
 * Everything a set must fulfil before it is served: `parseMaterial`, and the chain leads to a certificate of the
 * trust file at `now`. Throws ERR_IDENTITY_INVALID naming the part that is wrong.
 */
export function checkMaterial(
  material: IdentityMaterial,
  now: Instant,
  options: CheckOptions = {},
): CheckedMaterial {
  const names = options.names ?? FILES
  const parsed = parseMaterial(material, names)
  const { chain, trusted } = parsed
  try {
    const anchor = verifyLeaf(chain, trusted, now, options)
    return { ...parsed, issuer: chain[1] ?? anchor }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw invalid(`${names.certificate} against ${names.ca}: ${reason}`, cause)
  }
}

function readKey(pem: string, name: string): KeyObject {
  try {
    return privateKeyFromPem(pem, undefined, name)
  } catch (cause) {
    // An encrypted key is fine for a key store, not for files that a server has to load by itself.
    throw invalid(cause instanceof Error ? cause.message : `${name}: expected a private key`, cause)
  }
}

const invalid = (message: string, cause?: unknown): RotorError =>
  new RotorError('ERR_IDENTITY_INVALID', message, { cause })
