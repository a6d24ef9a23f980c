/**
 * The identity directory of one simulated machine: the steps of `src/identity/steps.ts` in their order, with a crash,
 * a power cut or a full disk possible at each. What is not synced yet may be there or not after a power cut. The real
 * directory code on a disk that behaves like this is in `test/simulation/disk.test.ts`.
 */
import { RotorError } from '../../../src/errors.ts'
import type { GenerationFacts } from '../../../src/identity/generations.ts'
import type { IdentitySnapshot } from '../../../src/identity/identity.ts'
import { byAge, generationName, parseGenerationName } from '../../../src/identity/layout.ts'
import type { GenerationManifest } from '../../../src/identity/manifest.ts'
import type { CheckOptions, IdentityMaterial } from '../../../src/identity/material.ts'
import { abandoned } from '../../../src/identity/recover.ts'
import { type AcceptedState, acceptedState } from '../../../src/identity/state.ts'
import type { DirectoryStep } from '../../../src/identity/steps.ts'
import { formatInstant, type Instant } from '../../../src/time.ts'
import type { Certificate } from '../../../src/trust/certificate.ts'
import type { Random } from '../random.ts'
import { readLeaf, sha256, trustedIn } from './leaf.ts'
import { remembered } from './remembered/memory.ts'

interface Stored {
  readonly material: IdentityMaterial
  readonly manifest: GenerationManifest
  /** Its name survives a power cut. */
  durable: boolean
}

/** Something on disk that is replaced in one step: as programs see it, and as it would be after a power cut. */
class Cell<T> {
  seen: T
  durable: T
  constructor(value: T) {
    this.seen = value
    this.durable = value
  }
}

export interface DiskOptions {
  readonly random: Random
  /** A certificate whose dates and fingerprint are replaced by those of the leaf. */
  readonly anyCertificate: Certificate
  /** Called at each step. Does not return when the machine stops there. */
  readonly step: (step: DirectoryStep) => Promise<void>
  /** Called when something on disk is another. */
  readonly changed: () => void
}

export class Disk {
  full = false
  /** Names of generations reach the disk when it pleases, whatever is said; for sabotage. */
  forgetful = false
  readonly #options: DiskOptions
  readonly #state = new Cell<string | null>(null)
  readonly #current = new Cell<string | null>(null)
  readonly #generations = new Map<string, Stored>()
  readonly #given = new Map<number, string>()
  #previous: string | null = null

  constructor(options: DiskOptions) {
    this.#options = options
  }

  /** What a new process finds, after it tidied up and made sure of what is there. */
  recover(): void {
    for (const cell of [this.#state, this.#current]) cell.durable = cell.seen
    for (const generation of this.#generations.values()) generation.durable = !this.forgetful
    this.#given.clear()
    this.#previous = null
    for (const name of abandoned(this.#names(), this.#current.seen)) this.#generations.delete(name)
    this.#changed()
  }

  /** Of what was not synced each part is there or not. */
  powerCut(): void {
    const { random } = this.#options
    for (const cell of [this.#state, this.#current]) {
      if (random.chance(0.5)) cell.seen = cell.durable
      cell.durable = cell.seen
    }
    for (const [name, generation] of this.#generations) {
      if (!generation.durable && random.chance(0.5)) this.#generations.delete(name)
      generation.durable = true
    }
    this.#changed()
  }

  /** What a reader finds now: the generation `current` leads to, or null when it leads nowhere whole (I3). */
  readable(): { readonly name: string; readonly stored: Stored } | null {
    const name = this.#current.seen
    const stored = name === null ? undefined : this.#generations.get(name)
    return name === null || stored === undefined ? null : { name, stored }
  }

  /** What a machine is enrolled with: one proven generation, and the bundle it was made for. */
  enrol(state: AcceptedState, material: IdentityMaterial, facts: GenerationFacts, now: Instant): void {
    const name = this.#nextName(facts.version)
    this.#generations.set(name, { material, manifest: manifestOf(material, facts, now), durable: true })
    const { version, digest } = facts
    this.#state.seen = JSON.stringify({ ...state, proven: { version, digest, generation: name } })
    this.#state.durable = this.#state.seen
    this.#current.seen = name
    this.#current.durable = name
    this.#changed()
  }

  /** The highest version that a power cut can not take back; 0 for none. */
  get durableVersion(): number {
    const { durable } = this.#state
    return durable === null ? 0 : (parseState(durable).highest?.version ?? 0)
  }

  /** The accepted state as a reader would find it. */
  accepted(): AcceptedState | null {
    return this.#state.seen === null ? null : parseState(this.#state.seen)
  }

  // ---- as `src/identity/directory.ts` has it

  readonly path = '/identity'

  async current() {
    const name = this.#current.seen
    return name === null ? null : this.#find(name)
  }

  async list(): Promise<string[]> {
    return this.#names()
  }

  async load(name: string): Promise<IdentitySnapshot> {
    const { material, manifest } = this.#stored(name)
    const leaf = readLeaf(material.certificate)
    const { notBefore, notAfter } = leaf
    const fingerprint = sha256(material.certificate)
    const certificate = { ...this.#options.anyCertificate, sha256: fingerprint, notBefore, notAfter }
    const { version, epoch } = manifest
    return { ...material, leaf: certificate, generation: name, version, epoch }
  }

  async stage(material: IdentityMaterial, facts: GenerationFacts, now: Instant, options: CheckOptions = {}) {
    for (const step of STAGING) {
      this.#assertRoom(step)
      await this.#step(step)
    }
    assertFits(material, now, options.skew ?? 0)
    await this.#step('stage:checked')
    this.#assertRoom('stage:named')
    const name = this.#nextName(facts.version)
    const stored: Stored = { material, manifest: manifestOf(material, facts, now), durable: false }
    this.#generations.set(name, stored)
    await this.#step('stage:named')
    stored.durable = !this.forgetful
    this.#given.set(facts.version, name)
    return { ...this.#find(name), snapshot: await this.load(name) }
  }

  async publish(next: { readonly name: string }) {
    this.#stored(next.name)
    const before = this.#current.seen
    const previous = before === null || !this.#generations.has(before) ? null : this.#find(before)
    await this.#step('publish:links')
    if (before !== next.name) {
      this.#assertRoom('publish:link')
      await this.#step('publish:link')
      this.#current.seen = next.name
      this.#previous = before
      this.#changed()
    }
    await this.#step('publish:switched')
    this.#current.durable = this.#current.seen
    await this.#step('publish:durable')
    return previous
  }

  async putBack(previous: { readonly name: string }): Promise<void> {
    await this.publish(previous)
  }

  async prune(keep = 4): Promise<void> {
    const current = this.#current.seen
    const names = this.#names()
    const drop = new Set(abandoned(names, current))
    const upTo = current === null ? -1 : names.indexOf(current)
    for (const name of names.slice(0, Math.max(0, upTo + 1 - keep))) drop.add(name)
    for (const name of names) {
      if (name === current || name === this.#previous || !drop.has(name)) continue
      this.#generations.delete(name)
      this.#changed()
      await this.#step('prune:unnamed')
      await this.#step('prune:removed')
    }
  }

  async readState(): Promise<AcceptedState | null> {
    return this.accepted()
  }

  async writeState(state: AcceptedState): Promise<void> {
    this.#assertRoom('state:written')
    const text = JSON.stringify(acceptedState.parse(state))
    await this.#step('state:written')
    this.#state.seen = text
    this.#changed()
    await this.#step('state:replaced')
    this.#state.durable = text
    this.#changed()
  }

  async close(): Promise<void> {}

  #names(): string[] {
    return [...this.#generations.keys()].sort(byAge)
  }

  #find(name: string) {
    return { name, path: `${this.path}/generations/${name}`, manifest: this.#stored(name).manifest }
  }

  #stored(name: string): Stored {
    const stored = this.#generations.get(name)
    if (stored === undefined)
      throw new RotorError('ERR_IDENTITY_INVALID', `${name}: expected a complete generation`)
    return stored
  }

  #nextName(version: number): string {
    const given = this.#given.get(version)
    const names = [...this.#names(), ...(given === undefined ? [] : [given])].map(parseGenerationName)
    const numbers = names.filter((name) => name?.version === version).map((name) => name?.n ?? 0)
    return generationName({ version, n: Math.max(0, ...numbers) + 1 })
  }

  #assertRoom(step: DirectoryStep): void {
    if (this.full)
      throw new RotorError('ERR_IDENTITY_WRITE', `${this.path}: no space left on the disk at ${step}`)
  }

  #step(step: DirectoryStep): Promise<void> {
    return this.#options.step(step)
  }

  #changed(): void {
    this.#options.changed()
  }
}

const parseState = remembered(
  (text: string): AcceptedState => JSON.parse(text),
  (text) => [text],
)

const STAGING = [
  'stage:folder',
  'stage:ca.pem',
  'stage:tls.crt',
  'stage:tls.key',
  'stage:manifest.json',
] as const satisfies readonly DirectoryStep[]

function manifestOf(material: IdentityMaterial, facts: GenerationFacts, now: Instant): GenerationManifest {
  const { ca, certificate, key } = material
  return {
    v: 1,
    ...facts,
    leaf: sha256(certificate),
    notAfter: formatInstant(readLeaf(certificate).notAfter),
    createdAt: formatInstant(now),
    files: { 'ca.pem': sha256(ca), 'tls.crt': sha256(certificate), 'tls.key': sha256(key) },
  }
}

/** What `checkMaterial` asks of a set, as far as leaves of the simulation can answer. */
function assertFits(material: IdentityMaterial, now: Instant, skew: number): void {
  const leaf = readLeaf(material.certificate)
  const problem = !trustedIn(material.ca).has(leaf.issuer)
    ? 'its issuer is not in the trust file'
    : now + skew < leaf.notBefore
      ? 'it is not valid yet'
      : now - skew > leaf.notAfter
        ? 'it has ended'
        : null
  if (problem !== null) throw new RotorError('ERR_IDENTITY_INVALID', `leaf of ${leaf.of}: ${problem}`)
}
