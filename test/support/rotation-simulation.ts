/**
 * A whole domain in memory: an issuer that observes, decides, commits by compare-and-set and performs effects; agents
 * that follow late, report late, or not at all; servers; a clock. The promises are checked after every step.
 */
import assert from 'node:assert/strict'
import { encodePayload } from '../../src/bundle/payload.ts'
import { RotorError } from '../../src/errors.ts'
import { advance, bootstrap } from '../../src/rotation/advance.ts'
import { applyOrder } from '../../src/rotation/orders.ts'
import {
  type Decision,
  type Effect,
  type Observations,
  type RotationPolicy,
  type RotationState,
  rotationState,
} from '../../src/rotation/state.ts'
import { epochAt, leafLifetime } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import type { Order } from '../../src/wire/requests.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { Promises } from './rotation-promises.ts'
import { at, genesisPayload, order, root, SCHEDULE } from './rotation-world.ts'
import { isAcceptable, readBundle, type Sign, SimulatedAgent } from './simulated-agent.ts'
import { SimulatedClients } from './simulated-clients.ts'
import { SimulatedKeys } from './simulated-keys.ts'
import { SimulatedServers } from './simulated-servers.ts'
import { SimulatedSigners } from './simulated-signers.ts'

interface Stored {
  readonly state: RotationState
  readonly revision: number
}

type ByAgent =
  | 'follow'
  | 'follow one'
  | 'report'
  | 'repeat'
  | 'roll back'
  | 'freeze'
  | 'thaw'
  | 'linger'
  | 'let go'
  | 'renew'
  | 'refuse'
  | 'take again'
  | 'leave'

export type Action =
  | { readonly kind: 'tick' | 'back' | 'leap'; readonly minutes: number }
  | { readonly kind: 'turn' | 'die after commit' | 'die between effects' | 'turn with an old look' }
  | { readonly kind: 'remember' | 'former issuer' | 'former issuer looks again' }
  | { readonly kind: ByAgent | 'cut server' | 'mend server' | 'dial' | 'hang up'; readonly who: number }
  | { readonly kind: 'count' | 'count not' }
  | { readonly kind: 'all work' | 'join' | 'order' | 'force' | 'order root' }
  | { readonly kind: 'withdraw' | 'rollback' | 'pause' | 'resume' }
  | { readonly kind: 'order signer' | 'force signer' | 'withdraw signer' }
  | { readonly kind: 'taint'; readonly which: number }
  | { readonly kind: 'lose next key' | 'lose signing key' | 'lose newest root' }

const MAX_AGENTS = 6
const ALL_EFFECTS = Number.POSITIVE_INFINITY

export class Simulation {
  /** How often each move was made and each reason to wait was given. */
  readonly seen = new Map<string, number>()
  #now: Instant = at(100)
  #latest: Instant = this.#now
  #stored: Stored
  /** What a former issuer still believes. */
  #memory: { readonly stored: Stored; readonly look: Observations } | null = null
  /** The first look since the state was written. */
  #oldLook: { readonly revision: number; readonly look: Observations } | null = null
  #joined = 0
  readonly #policy: RotationPolicy
  readonly #keys = new SimulatedKeys()
  readonly #stream: string[] = []
  readonly #agents: SimulatedAgent[] = []
  readonly #statuses = new Map<string, AgentStatus>()
  readonly #servers: SimulatedServers
  readonly #promises = new Promises((authority) => this.#keys.rootOf(authority))
  readonly #clients = new SimulatedClients()
  readonly #signers: SimulatedSigners

  constructor(policy: RotationPolicy = {}) {
    this.#policy = policy
    const first = this.#keys.make(100, at(99), at(104), root(1))
    const payload = encodePayload(genesisPayload(100, SCHEDULE, first))
    this.#stored = { state: bootstrap({ domain: 'prod', payload, fence: 0 }, this.#now), revision: 1 }
    this.#stream.push(payload)
    this.#signers = new SimulatedSigners(readBundle(payload))
    for (let i = 0; i < 4; i++) this.#join()
    this.#servers = new SimulatedServers(this.#agents.slice(0, 2))
  }

  get state(): RotationState {
    return this.#stored.state
  }

  get now(): Instant {
    return this.#now
  }

  /** Numbers of the roots in the key store. */
  get roots(): number[] {
    return this.#keys.roots.map(({ number }) => number)
  }

  /** Everyone holds a leaf of the signer and the newest bundle. */
  get converged(): boolean {
    const { active, version } = this.state
    return this.#agents.every(({ leaf, bundle }) => leaf.epoch === active && bundle.version === version)
  }

  /** Nobody is passed over any more, no change of the signer is under way, and the signer is the one of the present epoch or a later one. */
  get caughtUp(): boolean {
    const { signer } = this.state
    return (
      signer === null &&
      this.#promises.passedOver.size === 0 &&
      this.state.active >= epochAt(SCHEDULE, this.#now)
    )
  }

  run(action: Action): void {
    this.#perform(action)
    this.#promises.checkTrust(this.#agents, this.#latest)
    const behind = this.state.version - this.#stream.length
    assert.ok(behind === 0 || behind === 1, `the stream is ${behind} versions behind the state`)
  }

  /** All is repaired. What lingers does so on: it may hold an authority, and never a rotation. */
  heal(): void {
    for (const agent of this.#agents) {
      agent.frozen = false
      agent.rolledBack = false
      agent.refuses = false
    }
    this.#order('resume')
    this.#servers.heal()
    this.#clients.answering = true
    this.#keys.heal()
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
        break
      case 'back':
        this.#now -= action.minutes * 60_000
        break
      case 'turn':
        this.#turn(this.#stored, this.#observe())
        break
      case 'die after commit':
        this.#turn(this.#stored, this.#observe(), 0)
        break
      case 'die between effects':
        this.#turn(this.#stored, this.#observe(), 1)
        break
      case 'turn with an old look': {
        // gathered after the state was read, as `advance` demands, but long ago
        const fresh = this.#observe()
        this.#turn(this.#stored, this.#oldLook?.look ?? fresh)
        break
      }
      case 'remember':
        this.#memory = { stored: this.#stored, look: this.#observe() }
        break
      case 'former issuer':
        if (this.#memory !== null) this.#turn(this.#memory.stored, this.#memory.look)
        break
      case 'former issuer looks again':
        if (this.#memory !== null) this.#turn(this.#memory.stored, this.#observe())
        break
      case 'count':
      case 'count not':
        this.#clients.answering = action.kind === 'count'
        break
      case 'hang up':
        this.#clients.hangUp(action.who)
        break
      case 'join':
        if (this.#agents.length < MAX_AGENTS) this.#join()
        break
      case 'order':
      case 'force':
        this.#order('rotate', { force: action.kind === 'force' })
        break
      case 'order root':
        this.#order('root-rotate')
        break
      case 'order signer':
      case 'force signer':
        this.#order('signer-rotate', { force: action.kind === 'force signer' })
        break
      case 'withdraw signer':
        this.#order('signer-withdraw')
        break
      case 'withdraw':
      case 'rollback':
      case 'pause':
      case 'resume':
        this.#order(action.kind)
        break
      case 'taint': {
        const { authorities } = readBundle(this.state.payload)
        const { epoch } = authorities[action.which % authorities.length] ?? {}
        if (epoch !== undefined) this.#order('taint', { epoch })
        break
      }
      case 'lose newest root':
        this.#keys.loseRoot(this.state.newestRoot)
        break
      case 'lose next key':
        if (this.state.phase === 'distributing') this.#keys.lose(this.state.next)
        break
      case 'lose signing key':
        this.#keys.lose(this.state.active)
        break
      case 'cut server':
      case 'mend server':
        this.#servers.cut(action.who, action.kind === 'cut server')
        break
      case 'dial': {
        const from = this.#agents[action.who % this.#agents.length]
        const trusted = this.#agents[0]?.trusts(from?.leaf.issuer ?? '') === true
        if (from !== undefined) this.#clients.dial(from.leaf, trusted, this.#now, action.who % 2 === 0)
        break
      }
      case 'all work':
        for (const agent of this.#agents) {
          this.#act('follow', agent)
          this.#act('report', agent)
        }
        break
      default: {
        const agent = this.#agents[action.who % this.#agents.length]
        if (agent !== undefined) this.#act(action.kind, agent)
      }
    }
  }

  #act(kind: ByAgent, agent: SimulatedAgent): void {
    if (kind === 'thaw') agent.frozen = false
    if (agent.frozen) return
    switch (kind) {
      case 'follow':
        agent.follow(this.#stream.at(-1) ?? '', this.#now, this.#sign)
        break
      case 'follow one': {
        const text = this.#stream[agent.bundle.version]
        if (text !== undefined) agent.follow(text, this.#now, this.#sign)
        break
      }
      case 'roll back':
        agent.rolledBack = true
        this.#statuses.set(agent.name, agent.report(this.#now))
        break
      case 'report':
        this.#statuses.set(agent.name, agent.report(this.#now))
        break
      case 'repeat': {
        const old = agent.told.at(-2)
        if (old !== undefined) this.#statuses.set(agent.name, old)
        break
      }
      case 'freeze':
        agent.frozen = true
        break
      case 'linger':
        agent.lingers = true
        break
      case 'let go':
        agent.letGo()
        break
      case 'renew':
        agent.renew(this.#sign)
        break
      case 'refuse':
      case 'take again':
        agent.refuses = kind === 'refuse'
        break
      case 'leave':
        if (this.#agents.length > 3 && !this.#servers.isOf(agent.name)) {
          this.#agents.splice(this.#agents.indexOf(agent), 1)
          this.#promises.passedOver.delete(agent.name)
        }
    }
  }

  // ---- the issuer

  #observe(): Observations {
    const look: Observations = {
      published: this.#stream.length,
      ...this.#keys.observe(),
      signers: this.#signers.observe(readBundle(this.state.payload)),
      agents: this.#agents.map(({ name }) => ({ name, status: this.#statuses.get(name) ?? null })),
      servers: this.#servers.observe(),
      connections: this.#clients.count(this.state, this.#now),
    }
    const { revision } = this.#stored
    if (this.#oldLook?.revision !== revision) this.#oldLook = { revision, look }
    return look
  }

  #turn(read: Stored, look: Observations, effects = ALL_EFFECTS): void {
    let decision: Decision
    try {
      decision = advance(read.state, look, this.#policy, this.#now)
    } catch (error) {
      assert.ok(RotorError.is(error) && error.code === 'ERR_STATE_CONFLICT', `${error}`)
      assert.notEqual(
        read.revision,
        this.#stored.revision,
        'only an old state is in conflict with the stream',
      )
      return
    }
    const what = decision.kind === 'move' ? decision.move : decision.reason
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1)
    if (decision.kind === 'move') {
      if (read.revision !== this.#stored.revision) return // refused by compare-and-set
      this.#promises.checkMove(this.state, decision, this.#agents, this.#latest)
      for (const { sha256 } of readBundle(decision.to.payload).authorities) {
        const isNew = !readBundle(this.state.payload).authorities.some((one) => one.sha256 === sha256)
        if (isNew) this.#promises.checkCreation(this.#keys.rootOf(sha256), this.#agents)
      }
      this.#signers.checkMove(decision.move, this.state, decision.to, this.#agents)
      if (look.connections !== undefined)
        this.#clients.checkDropped([this.state, decision.to], look.connections, this.#policy, this.#latest)
      this.#store(decision.to)
    }
    const acting = decision.kind === 'move' ? decision.to : read.state
    for (const effect of decision.effects.slice(0, effects)) this.#effect(acting, effect)
  }

  #store(state: RotationState): void {
    const stored = rotationState.parse(JSON.parse(JSON.stringify(state)))
    this.#stored = { state: stored, revision: this.#stored.revision + 1 }
  }

  #effect(acting: RotationState, effect: Effect): void {
    switch (effect.kind) {
      case 'publish-bundle': {
        const there = this.#stream[effect.version - 1]
        assert.equal(there ?? acting.payload, acting.payload, 'I4: one version, one content')
        if (there !== undefined) break
        assert.equal(this.#stream.length, effect.version - 1, 'I4: no version is left out of the stream')
        this.#signers.checkPublished(
          readBundle(this.#stream.at(-1) ?? ''),
          readBundle(acting.payload),
          this.#agents,
        )
        this.#stream.push(acting.payload)
        break
      }
      case 'create-authority':
        // what a former issuer makes by an old state is nothing to anybody before it is in a bundle
        this.#keys.create(effect, (signer) => {
          if (acting.version === this.state.version) this.#promises.checkCreation(signer, this.#agents)
        })
        break
      case 'create-root':
        this.#keys.createRoot(effect)
        break
      case 'delete-root':
        this.#keys.deleteRoot(effect, this.state)
        break
      case 'create-signer':
        this.#signers.create(effect)
        break
      case 'delete-signer':
        this.#signers.delete(effect.number, readBundle(this.state.payload))
        break
      case 'delete-authority':
        this.#keys.delete(effect, acting, this.state)
        break
      case 'probe-servers':
      case 'prove-distrust': {
        const issuer = this.#keys.of(effect.epoch)?.sha256 ?? ''
        this.#servers.probe(effect.epoch, issuer, effect.servers, this.#agents, this.#now)
      }
    }
  }

  #order(kind: Order['kind'], change: Partial<Order> = {}): void {
    const facts = this.#observe()
    try {
      const given = { ...order(false, this.#now, kind), ...change }
      this.#store(applyOrder(this.state, given, this.#now, facts))
    } catch (error) {
      assert.ok(RotorError.is(error) && error.code === 'ERR_ORDER_REFUSED', `${error}`)
    }
  }

  /** The signer in force signs, for a node that trusts it. */
  #sign: Sign = (bundle) => {
    const key = this.#keys.of(this.state.active)
    if (key === undefined || this.#now >= key.notAfter) return null
    if (this.state.tainted[key.epoch] !== undefined) return null
    if (!bundle.authorities.some((authority) => authority.sha256 === key.sha256)) return null
    const notAfter = Math.min(this.#now + leafLifetime(SCHEDULE), key.notAfter)
    return { epoch: key.epoch, issuer: key.sha256, notAfter }
  }

  /** With the newest bundle, unless that one is not acceptable now, and with a leaf of the signer. */
  #join(): void {
    const text = this.#stream.at(-1) ?? ''
    const bundle = readBundle(text)
    const leaf = this.#sign(bundle)
    if (leaf === null || !isAcceptable(bundle, this.#now)) return
    // every third one has the roots in its trust file
    const rootOf = (authority: string) => this.#keys.rootOf(authority)
    const anchor = ++this.#joined % 3 === 0 ? { rootOf } : 'authorities'
    this.#agents.push(new SimulatedAgent(`a${this.#joined}`, text, leaf, anchor))
  }
}
