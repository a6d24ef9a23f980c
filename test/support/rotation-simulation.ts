/**
 * A whole domain in memory: an issuer that observes, decides, commits by compare-and-set and performs effects; agents
 * that follow late, report late, or not at all; servers; a clock. After every step the promises of SPEC.md are
 * checked against what is true in the domain, not against what the issuer was told.
 */
import assert from 'node:assert/strict'
import { encodePayload, payloadDigest } from '../../src/bundle/payload.ts'
import { RotorError } from '../../src/errors.ts'
import { advance, bootstrap } from '../../src/rotation/advance.ts'
import { applyOrder } from '../../src/rotation/orders.ts'
import {
  type Decision,
  type Effect,
  type HeldAuthority,
  type Move,
  type Observations,
  type Phase,
  type RotationPolicy,
  type RotationState,
  rotationState,
} from '../../src/rotation/state.ts'
import { type Epoch, epochAt, epochEnd, leafLifetime } from '../../src/schedule.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import { type BundlePayload, bundlePayload } from '../../src/wire/bundle.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { at, genesisPayload, hex, order, SCHEDULE } from './rotation-world.ts'

interface Leaf {
  readonly epoch: Epoch
  /** Which authority certificate it chains to. */
  readonly issuer: string
  readonly notAfter: Instant
}

/** What is true on a node. */
interface Agent {
  readonly name: string
  bundle: BundlePayload
  digest: string
  leaf: Leaf
  frozen: boolean
  rolledBack: boolean
  /** What it told, newest last. */
  readonly told: AgentStatus[]
}

interface Stored {
  readonly state: RotationState
  readonly revision: number
}

export type Action =
  | { readonly kind: 'tick' | 'back' | 'leap'; readonly minutes: number }
  | { readonly kind: 'turn' | 'die after commit' | 'die between effects' | 'turn with an old look' }
  | { readonly kind: 'remember' | 'former issuer' | 'former issuer looks again' }
  | {
      readonly kind:
        | 'follow'
        | 'follow one'
        | 'report'
        | 'repeat'
        | 'roll back'
        | 'freeze'
        | 'thaw'
        | 'renew'
        | 'leave'
      readonly who: number
    }
  | { readonly kind: 'all work' | 'join' | 'order' | 'force' | 'lose next key' | 'lose signing key' }
  | { readonly kind: 'cut server' | 'mend server'; readonly who: number }

/** From which phase to which one a move may lead. */
const WAYS: Record<Move, readonly `${Phase} ${Phase}`[]> = {
  prepare: ['steady distributing'],
  activate: ['distributing converging'],
  converge: ['converging steady', 'withdrawing steady'],
  withdraw: ['distributing withdrawing'],
  restart: ['steady converging', 'distributing converging'],
  retire: ['steady steady', 'distributing distributing', 'converging converging', 'withdrawing withdrawing'],
  refresh: ['steady steady', 'distributing distributing', 'converging converging', 'withdrawing withdrawing'],
}

const MAX_AGENTS = 6

export class Simulation {
  /** How often each move was made and each reason to wait was given. */
  readonly seen = new Map<string, number>()
  #now: Instant = at(100)
  /** The latest time that ever was: what ended stays ended although the clock is set back. */
  #latest: Instant = this.#now
  #stored: Stored
  #memory: { readonly stored: Stored; readonly look: Observations } | null = null
  #look: { readonly revision: number; readonly look: Observations } | null = null
  #keys = new Map<Epoch, HeldAuthority>()
  #made = 0
  #joined = 0
  readonly #policy: RotationPolicy
  readonly #stream: string[] = []
  readonly #agents: Agent[] = []
  readonly #statuses = new Map<string, AgentStatus>()
  readonly #servers: { readonly name: string; readonly agent: string; cut: boolean }[] = []
  readonly #proofs = new Map<
    string,
    { at: Instant; accepts: Epoch[]; serves: Epoch | null; error: string | null }
  >()
  /** Agents a rotation went on without, and the version they have to reach to count again. */
  readonly #passedOver = new Map<string, number>()
  /** Which certificate an epoch stands for, once it was in a bundle. */
  readonly #certificateOf = new Map<Epoch, string>()

  constructor(policy: RotationPolicy = {}) {
    this.#policy = policy
    const first = this.#make(100, at(99), at(104))
    const payload = encodePayload(genesisPayload(100, SCHEDULE, first))
    this.#stored = { state: bootstrap({ domain: 'prod', payload, fence: 0 }, this.#now), revision: 1 }
    this.#stream.push(payload)
    for (let i = 0; i < 4; i++) this.#join()
    for (const name of ['s1', 's2']) {
      this.#servers.push({ name, agent: this.#agents[this.#servers.length]?.name ?? '', cut: false })
    }
  }

  get state(): RotationState {
    return this.#stored.state
  }

  get now(): Instant {
    return this.#now
  }

  /** Everyone holds a leaf of the signer and trusts the newest bundle. */
  get converged(): boolean {
    return this.#agents.every(
      ({ leaf, bundle }) => leaf.epoch === this.state.active && bundle.version === this.state.version,
    )
  }

  run(action: Action): void {
    this.#perform(action)
    this.#check()
  }

  /** All is repaired. */
  heal(): void {
    for (const agent of this.#agents) {
      agent.frozen = false
      agent.rolledBack = false
    }
    for (const server of this.#servers) server.cut = false
    this.#memory = null
  }

  /** Everybody does its work, several times; then time goes on. */
  round(minutes: number): void {
    for (let i = 0; i < 8; i++) {
      this.run({ kind: 'all work' })
      this.run({ kind: 'turn' })
    }
    this.run({ kind: 'tick', minutes })
  }

  #perform(action: Action): void {
    switch (action.kind) {
      case 'tick':
      case 'leap':
        this.#now += action.minutes * 60_000
        this.#latest = Math.max(this.#latest, this.#now)
        return
      case 'back':
        this.#now -= action.minutes * 60_000
        return
      case 'turn':
        this.#turn(this.#stored, this.#observe())
        return
      case 'die after commit':
        this.#turn(this.#stored, this.#observe(), 0)
        return
      case 'die between effects':
        this.#turn(this.#stored, this.#observe(), 1)
        return
      case 'turn with an old look': {
        // gathered after the state was read, as `advance` demands, but long ago
        const old = this.#look?.revision === this.#stored.revision ? this.#look.look : this.#observe()
        this.#turn(this.#stored, old)
        return
      }
      case 'remember':
        this.#memory = { stored: this.#stored, look: this.#observe() }
        return
      case 'former issuer':
        if (this.#memory !== null) this.#turn(this.#memory.stored, this.#memory.look)
        return
      case 'former issuer looks again':
        if (this.#memory !== null) this.#turn(this.#memory.stored, this.#observe())
        return
      case 'all work':
        for (const agent of this.#agents) {
          this.#act('follow', agent)
          this.#act('report', agent)
        }
        return
      case 'join':
        if (this.#agents.length < MAX_AGENTS) this.#join()
        return
      case 'order':
        this.#order(false)
        return
      case 'force':
        this.#order(true)
        return
      case 'lose next key':
        if (this.state.phase === 'distributing') this.#keys.delete(this.state.next)
        return
      case 'lose signing key':
        this.#keys.delete(this.state.active)
        return
      case 'cut server':
      case 'mend server': {
        const server = this.#servers[action.who % this.#servers.length]
        if (server !== undefined) server.cut = action.kind === 'cut server'
        return
      }
      default:
        this.#act(action.kind, this.#agents[action.who % this.#agents.length])
        return
    }
  }

  #act(kind: Extract<Action, { who: number }>['kind'], agent: Agent | undefined): void {
    if (agent === undefined) return
    if (kind === 'thaw') agent.frozen = false
    if (agent.frozen) return
    switch (kind) {
      case 'follow':
        this.#follow(agent, 'newest')
        return
      case 'follow one':
        this.#follow(agent, 'following')
        return
      case 'report':
        this.#report(agent)
        return
      case 'repeat': {
        const old = agent.told.at(-2)
        if (old !== undefined) this.#statuses.set(agent.name, old)
        return
      }
      case 'roll back':
        agent.rolledBack = true
        this.#report(agent)
        return
      case 'freeze':
        agent.frozen = true
        return
      case 'renew':
        this.#renew(agent)
        return
      case 'leave': {
        const needed = this.#servers.some((server) => server.agent === agent.name)
        if (needed || this.#agents.length <= 3) return
        this.#agents.splice(this.#agents.indexOf(agent), 1)
        this.#passedOver.delete(agent.name)
      }
    }
  }

  // ---- the issuer

  #observe(): Observations {
    const look: Observations = {
      published: this.#stream.length,
      held: [...this.#keys.values()],
      agents: this.#agents.map(({ name }) => ({ name, status: this.#statuses.get(name) ?? null })),
      servers: this.#servers.map(({ name, agent }) => ({
        name,
        agent,
        listeners: [{ kind: 'client', address: name, proof: this.#proofs.get(name) ?? null }],
      })),
    }
    this.#look ??= { revision: this.#stored.revision, look }
    if (this.#look.revision !== this.#stored.revision) this.#look = { revision: this.#stored.revision, look }
    return look
  }

  #turn(read: Stored, look: Observations, effects = Number.POSITIVE_INFINITY): void {
    let decision: Decision
    try {
      decision = advance(read.state, look, this.#policy, this.#now)
    } catch (error) {
      assert.ok(RotorError.is(error) && error.code === 'ERR_STATE_CONFLICT', `${error}`)
      assert.notEqual(
        read.revision,
        this.#stored.revision,
        'only an old state can be in conflict with the stream',
      )
      return
    }
    this.#count(decision.kind === 'move' ? decision.move : decision.reason)
    if (decision.kind === 'move') {
      if (read.revision !== this.#stored.revision) return // refused by compare-and-set
      this.#commit(decision)
    }
    const acting = decision.kind === 'move' ? decision.to : read.state
    for (const effect of decision.effects.slice(0, effects)) this.#effect(acting, effect)
  }

  #commit({ move, to, effects }: Extract<Decision, { kind: 'move' }>): void {
    const from = this.state
    assert.ok(
      WAYS[move].includes(`${from.phase} ${to.phase}`),
      `${move} led from ${from.phase} to ${to.phase}`,
    )
    const before = bundlePayload.parse(JSON.parse(from.payload))
    const after = bundlePayload.parse(JSON.parse(to.payload))
    if (move === 'converge') assert.equal(to.payload, from.payload)
    else {
      assert.equal(to.version, from.version + 1, 'I4: a version follows its predecessor')
      assert.equal(after.previous, from.digest, 'I4: and names its digest')
      assert.deepEqual(effects[0], { kind: 'publish-bundle', version: to.version })
    }
    assert.ok(to.newest >= from.newest, 'an epoch is never used again')
    this.#checkBundle(after, to)
    this.#checkDropped(before, after)
    for (const waiver of to.waivers.slice(from.waivers.length)) {
      for (const { name } of this.#agents)
        if (waiver.names.includes(name)) this.#passedOver.set(name, to.version)
    }
    this.#stored = {
      state: rotationState.parse(JSON.parse(JSON.stringify(to))),
      revision: this.#stored.revision + 1,
    }
  }

  #effect(acting: RotationState, effect: Effect): void {
    switch (effect.kind) {
      case 'publish-bundle': {
        const there = this.#stream[effect.version - 1]
        if (there !== undefined) assert.equal(there, acting.payload, 'one version, one content')
        else {
          assert.equal(this.#stream.length, effect.version - 1, 'no version is left out of the stream')
          this.#stream.push(acting.payload)
        }
        return
      }
      case 'create-authority':
        if (!this.#keys.has(effect.epoch)) this.#make(effect.epoch, effect.notBefore, effect.notAfter)
        return
      case 'delete-authority': {
        const bundle = bundleOf(this.state.payload)
        const trusted = bundle.authorities.some((authority) => authority.epoch === effect.epoch)
        assert.ok(!trusted, `the key of epoch ${effect.epoch} is deleted, and the bundle has it`)
        this.#keys.delete(effect.epoch)
        return
      }
      case 'probe-servers':
        this.#probe(effect.epoch)
        return
    }
  }

  #make(epoch: Epoch, notBefore: Instant, notAfter: Instant): HeldAuthority {
    const name = `authority ${epoch}, key ${++this.#made}`
    const certificate = `-----BEGIN CERTIFICATE-----\n${name}\n-----END CERTIFICATE-----\n`
    const made = { epoch, certificate, sha256: hex(name), notBefore, notAfter }
    this.#keys.set(epoch, made)
    return made
  }

  #probe(epoch: Epoch): void {
    const leaf = this.#keys.get(epoch)
    for (const { name, agent, cut } of this.#servers) {
      const node = this.#agents.find((one) => one.name === agent)
      if (node === undefined || cut) {
        this.#proofs.set(name, { at: this.#now, accepts: [], serves: null, error: 'connection refused' })
        continue
      }
      const accepted = node.bundle.authorities.some((authority) => authority.sha256 === leaf?.sha256)
      const error = accepted ? null : 'unknown certificate authority'
      this.#proofs.set(name, {
        at: this.#now,
        accepts: accepted ? [epoch] : [],
        serves: node.leaf.epoch,
        error,
      })
    }
  }

  #order(force: boolean): void {
    try {
      const state = applyOrder(this.state, order(force, this.#now), this.#now)
      this.#stored = { state, revision: this.#stored.revision + 1 }
    } catch (error) {
      assert.ok(RotorError.is(error) && error.code === 'ERR_ORDER_REFUSED', `${error}`)
    }
  }

  // ---- the agents

  /** Joins with the newest bundle, unless that one is not acceptable now, and with a leaf of the signer. */
  #join(): void {
    const text = this.#stream.at(-1) ?? ''
    const bundle = bundleOf(text)
    const leaf = this.#sign(bundle)
    if (leaf === null || !this.#acceptable(bundle)) return
    const name = `a${++this.#joined}`
    this.#agents.push({
      name,
      bundle,
      digest: payloadDigest(text),
      leaf,
      frozen: false,
      rolledBack: false,
      told: [],
    })
  }

  #follow(agent: Agent, which: 'newest' | 'following'): void {
    const version = which === 'newest' ? this.#stream.length : agent.bundle.version + 1
    const text = this.#stream[version - 1]
    if (text === undefined || version <= agent.bundle.version) return
    const bundle = bundleOf(text)
    if (!this.#acceptable(bundle)) return
    if (version === agent.bundle.version + 1)
      assert.equal(bundle.previous, agent.digest, 'I4: the chain holds')
    agent.bundle = bundle
    agent.digest = payloadDigest(text)
    agent.rolledBack = false
    if (agent.leaf.epoch !== bundle.epoch) this.#renew(agent)
  }

  /** The signer in force signs; the agent keeps its leaf when it does not trust the new one, or nobody can sign. */
  #renew(agent: Agent): void {
    agent.leaf = this.#sign(agent.bundle) ?? agent.leaf
  }

  #sign(bundle: BundlePayload): Leaf | null {
    const key = this.#keys.get(this.state.active)
    if (key === undefined || this.#now >= key.notAfter) return null
    if (!bundle.authorities.some((authority) => authority.sha256 === key.sha256)) return null
    const notAfter = Math.min(this.#now + leafLifetime(SCHEDULE), key.notAfter)
    return { epoch: key.epoch, issuer: key.sha256, notAfter }
  }

  #acceptable = (bundle: BundlePayload): boolean =>
    Date.parse(bundle.expiresAt) > this.#now &&
    bundle.authorities.every(({ epoch }) => epochEnd(SCHEDULE, epoch) > this.#now)

  #report(agent: Agent): void {
    const status: AgentStatus = {
      v: 1,
      agent: agent.name,
      role: 'service',
      version: agent.bundle.version,
      digest: agent.digest,
      state: agent.rolledBack ? 'rolled-back' : 'applied',
      step: 'idle',
      leaf: {
        fingerprint: hex(`${agent.name} ${agent.leaf.issuer}`),
        issuerEpoch: agent.leaf.epoch,
        notAfter: formatInstant(agent.leaf.notAfter),
      },
      targets: [],
      clockOffsetMs: 0,
      lastError: null,
      started: formatInstant(0),
      at: formatInstant(this.#now),
      software: 'test',
    }
    agent.told.push(status)
    this.#statuses.set(agent.name, status)
  }

  // ---- the promises

  #checkBundle(bundle: BundlePayload, state: RotationState): void {
    const epochs = bundle.authorities.map((authority) => authority.epoch)
    assert.equal(new Set(epochs).size, epochs.length, 'no epoch twice')
    const signing = bundle.authorities.filter((authority) => authority.status === 'active')
    assert.deepEqual(
      signing.map((authority) => authority.epoch),
      [bundle.epoch],
      'one signs, and it is trusted',
    )
    assert.equal(bundle.epoch, state.active)
    const prepared = bundle.authorities.filter((authority) => authority.status === 'prepared')
    const next = state.phase === 'distributing' ? [state.next] : []
    assert.deepEqual(
      prepared.map((authority) => authority.epoch),
      next,
      'I5: one rotation at a time',
    )
    for (const { epoch, sha256 } of bundle.authorities) {
      assert.ok(
        state.phase === 'steady' || epochEnd(SCHEDULE, epoch) > Date.parse(bundle.issuedAt),
        `epoch ${epoch} has ended`,
      )
      assert.equal(
        this.#certificateOf.get(epoch) ?? sha256,
        sha256,
        `epoch ${epoch} stands for two authorities`,
      )
      this.#certificateOf.set(epoch, sha256)
    }
  }

  /** I2: what leaves trust, nobody holds a valid leaf of. */
  #checkDropped(before: BundlePayload, after: BundlePayload): void {
    for (const { epoch, sha256 } of before.authorities) {
      if (after.authorities.some((authority) => authority.sha256 === sha256)) continue
      if (epochEnd(SCHEDULE, epoch) <= this.#latest) continue
      for (const { name, leaf } of this.#agents) {
        const valid = leaf.issuer === sha256 && leaf.notAfter > this.#latest
        assert.ok(
          !valid,
          `I2: epoch ${epoch} leaves trust, ${name} holds a leaf of it until ${formatInstant(leaf.notAfter)}`,
        )
      }
    }
  }

  /** I1: a valid leaf is trusted by every registered agent that no rotation has gone on without. */
  #check(): void {
    for (const verifier of this.#agents) {
      const awaited = this.#passedOver.get(verifier.name)
      if (awaited !== undefined && verifier.bundle.version >= awaited) this.#passedOver.delete(verifier.name)
      if (this.#passedOver.has(verifier.name)) continue
      for (const { name, leaf } of this.#agents) {
        if (leaf.notAfter <= this.#latest) continue
        const trusted = verifier.bundle.authorities.some((authority) => authority.sha256 === leaf.issuer)
        assert.ok(
          trusted,
          `I1: ${verifier.name} with version ${verifier.bundle.version} meets a leaf of epoch ${leaf.epoch} from ${name}`,
        )
      }
    }
    const { state } = this
    assert.ok(this.#stream.length === state.version || this.#stream.length === state.version - 1)
  }

  /** No agent is passed over any more, and the signer is the one of the present epoch or a later one. */
  get caughtUp(): boolean {
    return this.#passedOver.size === 0 && this.state.active >= epochAt(SCHEDULE, this.#now)
  }

  #count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1)
  }
}

const bundleOf = (text: string): BundlePayload => JSON.parse(text)
