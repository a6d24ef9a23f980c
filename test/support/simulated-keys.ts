/** The key store of a simulated issuer: authorities, and the roots that sign them. Everything in it can be lost. */
import assert from 'node:assert/strict'
import type { Effect, HeldAuthority, HeldRoot, RotationState } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import { hex, root } from './rotation-world.ts'
import { readBundle } from './simulated-agent.ts'

type Of<K extends Effect['kind']> = Extract<Effect, { kind: K }>

export class SimulatedKeys {
  readonly #authorities = new Map<Epoch, HeldAuthority>()
  readonly #roots = new Map<number, HeldRoot>([[1, root(1)]])
  /** What a lost root is restored from. */
  readonly #backup = new Map<number, HeldRoot>()
  /** SHA-256 of an authority to the root that signed it. */
  readonly #rootOf = new Map<string, HeldRoot>()
  #made = 0

  get roots(): HeldRoot[] {
    return [...this.#roots.values()]
  }

  /** What `advance` is told of them. */
  observe() {
    return {
      held: [...this.#authorities.values()],
      roots: this.roots,
      signedBy: Object.fromEntries([...this.#rootOf].map(([sha256, { sha256: by }]) => [sha256, by])),
    }
  }

  of(epoch: Epoch): HeldAuthority | undefined {
    return this.#authorities.get(epoch)
  }

  /** Certificate of the root that signed this authority, "" when nobody did. */
  rootOf(authority: string): string {
    return this.#rootOf.get(authority)?.certificate ?? ''
  }

  make(epoch: Epoch, notBefore: Instant, notAfter: Instant, signer: HeldRoot): HeldAuthority {
    const name = `authority ${epoch}, key ${++this.#made}`
    const certificate = `-----BEGIN CERTIFICATE-----\n${name}\n-----END CERTIFICATE-----\n`
    const made = { epoch, certificate, sha256: hex(name), notBefore, notAfter }
    this.#authorities.set(epoch, made)
    this.#rootOf.set(made.sha256, signer)
    return made
  }

  // ---- effects

  /** An issuer with an old state may ask for a root that is gone: the key store refuses. */
  create(
    { epoch, notBefore, notAfter, root: by }: Of<'create-authority'>,
    check: (root: string) => void,
  ): void {
    const signer = this.roots.find(({ sha256 }) => sha256 === by)
    if (signer === undefined || this.#authorities.has(epoch)) return
    check(signer.certificate)
    this.make(epoch, notBefore, notAfter, signer)
  }

  createRoot({ number }: Of<'create-root'>): void {
    if (!this.#roots.has(number)) this.#roots.set(number, root(number, `root ${number}, key ${++this.#made}`))
  }

  deleteRoot({ number }: Of<'delete-root'>, state: RotationState): void {
    const gone = this.#roots.get(number)
    const trusted = readBundle(state.payload).roots.includes(gone?.certificate ?? '')
    assert.ok(!trusted, `I6: the key of root ${number} is deleted, and the bundle has it`)
    this.#roots.delete(number)
  }

  /** @param acting the state of the issuer that deletes; `state` is the one that counts */
  delete({ epoch }: Of<'delete-authority'>, acting: RotationState, state: RotationState): void {
    const trusted = readBundle(state.payload).authorities.some((authority) => authority.epoch === epoch)
    assert.ok(!trusted, `I6: the key of epoch ${epoch} is deleted, and the bundle has it`)
    assert.ok(
      acting.tainted[epoch] === undefined,
      `S1: the key of epoch ${epoch} is needed to prove that nobody takes it`,
    )
    this.#authorities.delete(epoch)
  }

  // ---- losses

  lose(epoch: Epoch): void {
    this.#authorities.delete(epoch)
  }

  loseRoot(number: number): void {
    const lost = this.#roots.get(number)
    if (lost !== undefined) this.#backup.set(number, lost)
    this.#roots.delete(number)
  }

  /** Lost roots come back from their backup. */
  heal(): void {
    for (const [number, lost] of this.#backup) this.#roots.set(number, lost)
  }
}
