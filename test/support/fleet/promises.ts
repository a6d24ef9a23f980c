/**
 * The promises of the design (I1 to I6) as questions about what is true in the whole fleet, asked after every step.
 * A machine is looked at again when something on it changed; time alone only ends obligations.
 */
import assert from 'node:assert/strict'
import type { Decision, RotationState } from '../../../src/rotation/state.ts'
import type { Epoch, Schedule } from '../../../src/schedule.ts'
import { formatInstant, type Instant } from '../../../src/time.ts'
import { type PromisedNode, Promises } from '../rotation-promises.ts'
import type { AgentMachine, Watching } from './agent-machine.ts'
import type { Broker } from './broker.ts'
import type { IssuerMachine, WatchingIssuer } from './issuer-machine.ts'
import type { KeyStore } from './key-store.ts'
import { type Leaf, readLeaf } from './leaf.ts'
import { openEnvelope } from './remembered/envelope.ts'
import { SignerPromises } from './signer-promises.ts'
import type { Timeline } from './timeline.ts'

export interface FleetParts {
  readonly schedule: Schedule
  readonly keys: KeyStore
  readonly agents: readonly AgentMachine[]
  readonly issuers: readonly IssuerMachine[]
  readonly broker: Broker
  readonly timeline: Timeline
}

export class FleetPromises implements Watching, WatchingIssuer {
  /** How often each move was made and each reason to wait was given. */
  readonly seen = new Map<string, number>()
  /** How often a promise was asked for. */
  asked = 0
  /** Writes of the state that were refused. */
  refused = 0
  readonly #rotation: Promises
  readonly #signers: SignerPromises
  readonly #agents: readonly AgentMachine[]
  readonly #issuers: readonly IssuerMachine[]
  readonly #broker: Broker
  readonly #timeline: Timeline
  /** The latest time that any issuer ever read from its clock: what ended stays ended. */
  #latest: Instant
  readonly #changed = new Set<AgentMachine>()
  /** Leaves that are shown to others, as they were when their machine was looked at. */
  readonly #shown = new Map<AgentMachine, readonly Leaf[]>()
  /** The highest version that was on disk for good. */
  readonly #accepted = new Map<AgentMachine, number>()
  readonly #payloads = new Map<number, string>()
  #state: RotationState | null = null
  #revision = 0
  #published = 0
  #failure: { readonly error: unknown } | null = null

  constructor({ schedule, keys, agents, issuers, broker, timeline }: FleetParts) {
    this.#rotation = new Promises(() => keys.root.certificate.pem, schedule)
    this.#signers = new SignerPromises(agents, broker, keys)
    this.#agents = agents
    this.#issuers = issuers
    this.#broker = broker
    this.#timeline = timeline
    this.#latest = timeline.now
  }

  /** The newest state that was written. */
  get state(): RotationState | null {
    return this.#state
  }

  isPassedOver(machine: AgentMachine): boolean {
    const awaited = this.#rotation.passedOver.get(machine.name)
    if (awaited === undefined) return false
    if (machine.version < awaited) return true
    this.#rotation.passedOver.delete(machine.name)
    return false
  }

  /** Throws the first promise that was broken. To be called after every step; a new bundle takes some work. */
  check(): Promise<void> | null {
    for (const { clock } of this.#issuers) this.#latest = Math.max(this.#latest, clock.now())
    this.#latest = Math.max(this.#latest, this.#timeline.now)
    if (this.#failure !== null) throw this.#failure.error
    this.#checkLeaders()
    for (const machine of this.#changed) {
      this.asked += 1
      this.#shown.set(machine, machine.leaves())
      this.#checkDisk(machine)
      this.#checkTrust(machine)
      this.#signers.checkAccepted(machine)
    }
    this.#changed.clear()
    return this.#published === this.#broker.stream.length ? null : this.#checkStream()
  }

  /** At the end of a run. */
  checkHistory(): Promise<void> {
    return this.#signers.checkHistory(this.#latest)
  }

  // ---- what happened

  trustChanged(machine: AgentMachine): void {
    this.#changed.add(machine)
  }

  diskChanged(machine: AgentMachine): void {
    this.#changed.add(machine)
  }

  failed(error: unknown): void {
    this.#failure ??= { error }
  }

  decided(decision: Decision): void {
    const what = decision.kind === 'move' ? decision.move : decision.reason
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1)
  }

  committed(from: number, revision: number, to: RotationState, decision: Decision | null): void {
    this.#guard(() => {
      assert.equal(from, this.#revision, 'I6: a state was written over one that its writer had not read')
      const before = this.#state
      assert.ok(to.fence >= (before?.fence ?? 0), `I6: the leader ${to.fence} wrote after ${before?.fence}`)
      if (before !== null && decision?.kind === 'move') {
        this.#rotation.checkMove(before, decision, this.#agents.map(promised), this.#latest)
        this.#signers.checkMove(decision.move, before, to)
      }
      const known = this.#payloads.get(to.version)
      assert.equal(known ?? to.payload, to.payload, `I4: version ${to.version} has two contents`)
      this.#payloads.set(to.version, to.payload)
      this.#state = to
      this.#revision = revision
    })
  }

  conflict(): void {
    this.refused += 1
  }

  deletingSigner(kid: string): void {
    this.#guard(() => this.#signers.checkDeleted(kid, this.#state))
  }

  deleting(epoch: Epoch): void {
    this.#guard(() => {
      const trusted = this.#state === null ? [] : JSON.parse(this.#state.payload).authorities
      const there = trusted.some((authority: { readonly epoch: Epoch }) => authority.epoch === epoch)
      assert.ok(!there, `I6: the key of epoch ${epoch} is deleted, and the newest bundle has it`)
    })
  }

  #guard(check: () => void): void {
    try {
      check()
    } catch (error) {
      this.failed(error)
    }
  }

  // ---- the promises

  /** Nobody else can lead while one is certain that it does. */
  #checkLeaders(): void {
    const leaders = this.#issuers.filter(({ leads }) => leads).map(({ name }) => name)
    assert.ok(leaders.length <= 1, `I6: ${leaders.join(' and ')} are certain to lead`)
  }

  /** I4: one version after the other, and each is the content of a state that was written. */
  async #checkStream(): Promise<void> {
    const { stream } = this.#broker
    for (const message of stream.slice(this.#published)) {
      const before = stream[this.#published - 1] ?? null
      this.#published += 1
      assert.equal(message.version, this.#published, 'I4: the versions of the stream rise by one')
      const payload = Buffer.from(openEnvelope(message.bytes).payload).toString()
      assert.equal(payload, this.#payloads.get(message.version), 'I6: only what was committed is published')
      await this.#signers.checkPublished(before, message)
    }
  }

  /** I3: something whole to load at any time. I4: what was accepted stays accepted. */
  #checkDisk(machine: AgentMachine): void {
    const { name, disk } = machine
    assert.ok(disk.readable() !== null, `I3: ${name} has no whole generation`)
    const accepted = disk.accepted()?.highest?.version ?? 0
    const before = this.#accepted.get(machine) ?? 0
    assert.ok(accepted >= before, `I4: ${name} had accepted version ${before}, and holds ${accepted}`)
    this.#accepted.set(machine, Math.max(before, disk.durableVersion))
    assert.ok(
      machine.version <= disk.durableVersion,
      `I4: ${name} uses version ${machine.version} and has not stored that it accepted it`,
    )
  }

  /** I1, and what I2 protects: a valid leaf that is shown is trusted by everybody who was not left behind. */
  #checkTrust(machine: AgentMachine): void {
    const latest = this.#latest
    for (const leaf of this.#shown.get(machine) ?? []) {
      if (leaf.notAfter <= latest) continue
      for (const verifier of this.#agents) this.#assertTrusts(verifier, machine, leaf)
    }
    for (const [holder, leaves] of this.#shown) {
      for (const leaf of leaves) if (leaf.notAfter > latest) this.#assertTrusts(machine, holder, leaf)
    }
  }

  #assertTrusts(verifier: AgentMachine, holder: AgentMachine, leaf: Leaf): void {
    if (verifier.loaded === null || verifier.trusts(leaf.issuer) || this.isPassedOver(verifier)) return
    if (this.#rotation.tainted.has(leaf.issuer)) return
    assert.fail(
      `I1: ${verifier.name}, on version ${verifier.version}, meets a leaf of epoch ${leaf.epoch} from ` +
        `${holder.name}, on version ${holder.version}, valid until ${formatInstant(leaf.notAfter)}`,
    )
  }
}

/** What must not be left without its authority: what is on disk, and what is shown. */
function promised(machine: AgentMachine): PromisedNode {
  const readable = machine.disk.readable()
  const shown = machine.leaves()
  const leaf = readable === null ? shown[0] : readLeaf(readable.stored.material.certificate)
  assert.ok(leaf !== undefined, `I3: ${machine.name} has no leaf`)
  return { name: machine.name, leaf, standing: shown, knows: (authority) => machine.trusts(authority) }
}
