/**
 * Does this chain lead to something we trust? Trust anchors are normally the intermediates themselves (a partial
 * chain, as Go and Node with `allowPartialTrustChain` verify it), so that taking one away is a true revocation.
 */
import type { KeyObject } from 'node:crypto'
import { RotorError } from '../errors.ts'
import { type Duration, formatInstant, type Instant } from '../time.ts'
import { type Certificate, partsOf } from './certificate.ts'
import { namesOutside } from './name-constraints.ts'
import { isSignedBy } from './signature.ts'

/** id-kp-serverAuth and id-kp-clientAuth (RFC 5280 4.2.1.12). */
export const USAGE = { serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' } as const
const ANY_USAGE = '2.5.29.37.0'

export interface VerifyOptions {
  /** Milliseconds a clock may be off. @default 0 */
  readonly skew?: Duration
  /** What the leaf is to be used for; not checked when absent. */
  readonly usage?: keyof typeof USAGE
}

/** Throws ERR_IDENTITY_INVALID with the reason when `issuer` did not, or may not, issue `child`. */
export function assertIssuedBy(child: Certificate, issuer: Certificate): void {
  if (!issuer.ca) throw invalid(`"${issuer.subject}" is no CA, it can not issue "${child.subject}"`)
  if (!issuer.keyCertSign) throw invalid(`"${issuer.subject}" may not sign certificates (keyUsage)`)
  const { authorityKeyId } = child
  if (authorityKeyId !== null && issuer.subjectKeyId !== null && authorityKeyId !== issuer.subjectKeyId) {
    throw invalid(
      `"${child.subject}" was issued by the key ${authorityKeyId}, "${issuer.subject}" has ${issuer.subjectKeyId}`,
    )
  }
  // X509_check_issued: the encoded names, key identifiers and key usage once more.
  if (!child.x509.checkIssued(issuer.x509)) {
    throw invalid(`"${child.subject}" was issued by "${child.issuer}", not by "${issuer.subject}"`)
  }
  if (!signedBy(child, issuer)) {
    throw invalid(`the signature of "${child.subject}" is not by the key of "${issuer.subject}"`)
  }
}

/** The first of these that issued `child`. */
export function issuerAmong(child: Certificate, issuers: readonly Certificate[]): Certificate | undefined {
  return issuers.find((issuer) => {
    try {
      assertIssuedBy(child, issuer)
      return true
    } catch {
      return false
    }
  })
}

/**
 * Verifies a chain (leaf first, then its issuers) at `now` and returns the anchor it leads to: a certificate of the
 * chain that is itself an anchor, or the anchor that issued the last one. Every link, also one above the anchor,
 * must fit. Throws ERR_IDENTITY_INVALID with the reason.
 */
export function verifyLeaf(
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  now: Instant,
  options: VerifyOptions = {},
): Certificate {
  const [leaf] = chain
  if (leaf === undefined) throw invalid('expected a certificate chain, found an empty one')
  if (leaf.ca) throw invalid(`the first certificate "${leaf.subject}" is a CA, expected a leaf`)
  for (const [i, issuer] of chain.slice(1).entries()) assertIssuedBy(chain[i] ?? leaf, issuer)
  const path = pathToAnchor(chain, anchors)
  for (const [depth, certificate] of path.entries()) {
    assertCurrent(certificate, now, options.skew ?? 0)
    assertUnderstood(certificate)
    // RFC 5280 4.2.1.9: CA certificates between this one and the leaf.
    if (certificate.pathLength !== null && depth - 1 > certificate.pathLength) {
      throw invalid(
        `"${certificate.subject}" allows a path length of ${certificate.pathLength}, found ${depth - 1}`,
      )
    }
    if (options.usage !== undefined) assertUsage(certificate, options.usage)
    const outside = certificate.permitted === null ? [] : namesOutside(leaf.names, certificate.permitted)
    if (outside.length > 0) {
      throw invalid(`"${certificate.subject}" may not certify ${outside.join(', ')} (its name constraints)`)
    }
  }
  return path[path.length - 1] ?? leaf
}

/**
 * The chain from the leaf up to and with its anchor. The chain may go on above that one, with a certificate that leads
 * to another root.
 */
function pathToAnchor(chain: readonly Certificate[], anchors: readonly Certificate[]): Certificate[] {
  const trusted = new Set(anchors.map((anchor) => anchor.sha256))
  const at = chain.findIndex((certificate, i) => i > 0 && trusted.has(certificate.sha256))
  if (at > 0) return chain.slice(0, at + 1)
  let reason: unknown
  for (const [i, certificate] of chain.entries()) {
    for (const anchor of anchors) {
      try {
        assertIssuedBy(certificate, anchor)
        return [...chain.slice(0, i + 1), anchor]
      } catch (cause) {
        reason = cause
      }
    }
  }
  const last = chain[chain.length - 1]
  throw new RotorError(
    'ERR_IDENTITY_INVALID',
    `"${last?.subject}" was issued by "${last?.issuer}", which is none of the ${anchors.length} trust anchors`,
    { cause: reason },
  )
}

/** Throws ERR_IDENTITY_INVALID when `now` is outside the validity of the certificate, give or take `skew`. */
export function assertCurrent(certificate: Certificate, now: Instant, skew: Duration = 0): void {
  const { subject, notBefore, notAfter } = certificate
  if (now + skew < notBefore) {
    throw invalid(`"${subject}" is valid from ${formatInstant(notBefore)}, now is ${formatInstant(now)}`)
  }
  if (now - skew > notAfter) {
    throw invalid(`"${subject}" ended ${formatInstant(notAfter)}, now is ${formatInstant(now)}`)
  }
}

/** RFC 5280 4.2: a certificate with a critical extension that is not understood must be refused. */
export function assertUnderstood({ subject, unknownCritical }: Certificate): void {
  if (unknownCritical.length > 0) {
    throw invalid(
      `"${subject}" has critical extensions that are not understood: ${unknownCritical.join(', ')}`,
    )
  }
}

/** Like Go and OpenSSL: every certificate that restricts its usages must allow this one. */
function assertUsage(certificate: Certificate, usage: keyof typeof USAGE): void {
  if (isFor(certificate, usage)) return
  throw invalid(`"${certificate.subject}" is not for ${usage}, only for ${certificate.usages.join(', ')}`)
}

/** A certificate that says nothing of its usages is for all of them. */
export const isFor = ({ usages }: Pick<Certificate, 'usages'>, usage: keyof typeof USAGE): boolean =>
  usages.length === 0 || usages.includes(USAGE[usage]) || usages.includes(ANY_USAGE)

/** True when the certificate is for this private key. */
export function keyMatches(certificate: Certificate, privateKey: KeyObject): boolean {
  try {
    return certificate.x509.checkPrivateKey(privateKey)
  } catch {
    return false
  }
}

/** Whose key was found to have signed a certificate (SHA-256): it stays so, and to look takes 0.1 to 0.9 ms. */
const signers = new WeakMap<Certificate, string>()

function signedBy(child: Certificate, issuer: Certificate): boolean {
  if (signers.get(child) === issuer.spkiSha256) return true
  try {
    const isSigned = child.x509.verify(issuer.publicKey)
    if (isSigned) signers.set(child, issuer.spkiSha256)
    return isSigned
  } catch {
    return false
  }
}

/**
 * Looks at the signatures of a chain in threads of the pool, so that a check of the chain that follows need not do it
 * in ours. Decides nothing.
 */
export async function readySignatures(chain: readonly Certificate[]): Promise<void> {
  const links = chain.slice(1).map(async (issuer, i) => {
    const child = chain[i]
    if (child === undefined || signers.get(child) === issuer.spkiSha256) return
    const { signedPart, algorithm, signature } = partsOf(child)
    if (await isSignedBy(signedPart, algorithm, signature, issuer.publicKey)) {
      signers.set(child, issuer.spkiSha256)
    }
  })
  await Promise.all(links)
}

const invalid = (message: string): RotorError => new RotorError('ERR_IDENTITY_INVALID', message)
