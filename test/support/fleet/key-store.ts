/**
 * The keys of the domain: one encrypted store that all issuers read and write. The certificates are real, because the
 * agents' rules look at them; they are made once for all runs of a process. Signers and kept bundles are files in it.
 */
import { generateSigner, type Signer, signerToPem } from '../../../src/bundle/envelope.ts'
import type { HeldAuthority, HeldRoot } from '../../../src/rotation/state.ts'
import type { Epoch } from '../../../src/schedule.ts'
import type { Duration, Instant } from '../../../src/time.ts'
import { type Certificate, parseCertificate } from '../../../src/trust/certificate.ts'
import { issueAuthority, issueRoot, type KeyedCertificate } from '../../../src/trust/issue.ts'
import { generateKeyPair } from '../../../src/trust/keys.ts'

export const DOMAIN = 'prod'
export const KEYS_DIR = '/keys'
export const HISTORY_DIR = `${KEYS_DIR}/bundles`
const YEAR: Duration = 365 * 86_400_000

interface Roots {
  readonly root: KeyedCertificate
  readonly signer: Signer
}

let roots: Promise<Roots> | null = null
async function makeRoots(now: Instant): Promise<Roots> {
  const keyPair = await generateKeyPair()
  const window = { notBefore: now - YEAR, notAfter: now + YEAR }
  const certificate = parseCertificate(await issueRoot({ domain: DOMAIN, keyPair, ...window }), 'root')
  return { root: { certificate, privateKey: keyPair.privateKey }, signer: await generateSigner() }
}

const made = new Map<string, Promise<Certificate>>()

export class KeyStore {
  readonly root: KeyedCertificate
  /** That of the founding. */
  readonly signer: Signer
  /** Path to content; each appears whole. */
  readonly files = new Map<string, string>()
  /** Signers that were removed from it, as somebody may have kept them. */
  readonly retired: Signer[] = []
  /** Rounds the start of a certificate down, so that runs share certificates. */
  readonly #grid: Duration
  readonly #held = new Map<Epoch, HeldAuthority>()
  #lost = 0

  private constructor({ root, signer }: Roots, grid: Duration) {
    this.root = root
    this.signer = signer
    this.#grid = grid
    this.files.set(`${KEYS_DIR}/signer.key`, signerToPem(signer))
  }

  static async open(now: Instant, grid: Duration): Promise<KeyStore> {
    roots ??= makeRoots(now)
    return new KeyStore(await roots, grid)
  }

  /** The only one: a change of the root is not simulated. */
  get heldRoot(): HeldRoot {
    const { pem: certificate, sha256, notBefore, notAfter } = this.root.certificate
    return { number: 1, certificate, sha256, notBefore, notAfter }
  }

  list(): HeldAuthority[] {
    return [...this.#held.values()].sort((a, b) => a.epoch - b.epoch)
  }

  get(epoch: Epoch): HeldAuthority | undefined {
    return this.#held.get(epoch)
  }

  /** Makes key and certificate, or gives back what is there. */
  async prepare(epoch: Epoch, notBefore: Instant, notAfter: Instant): Promise<HeldAuthority> {
    const there = this.#held.get(epoch)
    if (there !== undefined) return there
    const from = Math.floor(notBefore / this.#grid) * this.#grid
    const key = [epoch, from, notAfter, this.#lost].join(' ')
    let certificate = made.get(key)
    if (certificate === undefined) {
      certificate = this.#make(epoch, from, notAfter)
      made.set(key, certificate)
    }
    const { pem, sha256, notBefore: begins, notAfter: ends } = await certificate
    const held = { epoch, certificate: pem, sha256, notBefore: begins, notAfter: ends }
    const meanwhile = this.#held.get(epoch)
    if (meanwhile !== undefined) return meanwhile
    this.#held.set(epoch, held)
    return held
  }

  delete(epoch: Epoch): void {
    this.#held.delete(epoch)
  }

  /** A disk dies with the key on it; another one that is made for the epoch is another authority. */
  lose(epoch: Epoch): void {
    if (this.#held.delete(epoch)) this.#lost += 1
  }

  async #make(epoch: Epoch, notBefore: Instant, notAfter: Instant): Promise<Certificate> {
    const keyPair = await generateKeyPair()
    const pem = await issueAuthority({ domain: DOMAIN, epoch, keyPair, root: this.root, notBefore, notAfter })
    return parseCertificate(pem, `authority of epoch ${epoch}`)
  }
}
