/** What the loop sees of roots: which ones are held, and which one signed which authority. */
import type { HeldAuthority, HeldRoot } from '../../src/rotation/state.ts'
import { type Certificate, parseCertificate } from '../../src/trust/certificate.ts'
import { issuerAmong } from '../../src/trust/chain.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import type { Authority } from '../authority/authority.ts'

/**
 * Roots with a key. Of a store that makes none itself, one that is not in the bundle is the coming one: the operator
 * has made it there.
 */
export async function heldRoots(
  authority: Authority,
  bundle: Pick<BundlePayload, 'roots'>,
  newestRoot: number,
): Promise<readonly HeldRoot[]> {
  if (authority.rootStore !== undefined) return authority.rootStore.held()
  const trusted = new Set(bundle.roots.map((pem) => parseCertificate(pem, 'root').sha256))
  return (await authority.roots()).map((pem) => {
    const { pem: certificate, sha256, notBefore, notAfter } = parseCertificate(pem, 'root')
    const number = trusted.has(sha256) ? newestRoot : newestRoot + 1
    return { number, certificate, sha256, notBefore, notAfter }
  })
}

/** Signatures do not change: each authority is looked at once. */
export class Signers {
  readonly #known = new Map<string, string>()

  /** SHA-256 of each authority, held or trusted, to that of its root; without those whose root is unknown. */
  of(
    bundle: Pick<BundlePayload, 'authorities' | 'roots'>,
    held: readonly HeldAuthority[],
    roots: readonly HeldRoot[],
  ): Record<string, string> {
    const all = [...bundle.authorities, ...held]
    const wanted = new Set(all.map(({ sha256 }) => sha256))
    for (const sha256 of this.#known.keys()) if (!wanted.has(sha256)) this.#known.delete(sha256)
    const candidates = [...bundle.roots, ...roots.map(({ certificate }) => certificate)].map((pem) =>
      parseCertificate(pem, 'root'),
    )
    for (const { sha256, certificate } of all) {
      if (!this.#known.has(sha256)) this.#look(parseCertificate(certificate, 'authority'), candidates)
    }
    return Object.fromEntries(this.#known)
  }

  #look(authority: Certificate, roots: readonly Certificate[]): void {
    const root = issuerAmong(authority, roots)
    if (root !== undefined) this.#known.set(authority.sha256, root.sha256)
  }
}
