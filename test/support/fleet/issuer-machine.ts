/**
 * An issuer of the simulation: the steps of `issuer/loop.ts` and of the answers to agents, each across the network,
 * around the real decisions (`advance`, `applyOrder`, `takeTurn`) and the real signature of a bundle.
 */
import { NO_TURN, type TurnFacts, takeTurn, turnTime } from '../../../issuer/turns.ts'
import { Bell } from '../../../src/bell.ts'
import { signBundle } from '../../../src/bundle/envelope.ts'
import { RotorError } from '../../../src/errors.ts'
import type { advance } from '../../../src/rotation/advance.ts'
import { toleratesFailure } from '../../../src/rotation/budget.ts'
import { applyOrder } from '../../../src/rotation/orders.ts'
import {
  type Decision,
  type Effect,
  type Observations,
  type ObservedServer,
  type RotationPolicy,
  type RotationState,
  rotationState,
} from '../../../src/rotation/state.ts'
import type { Epoch, Schedule } from '../../../src/schedule.ts'
import { Backoff } from '../../../src/tasks.ts'
import { type Duration, formatInstant, sleep } from '../../../src/time.ts'
import { type BundlePayload, bundlePayload } from '../../../src/wire/bundle.ts'
import type { Order, SignAnswer, TurnAnswer, TurnRequest } from '../../../src/wire/requests.ts'
import { type AgentStatus, agentStatus } from '../../../src/wire/status.ts'
import type { AgentMachine } from './agent-machine.ts'
import type { Broker } from './broker.ts'
import type { KeyStore } from './key-store.ts'
import { readLeaf } from './leaf.ts'
import type { Network } from './network.ts'
import { decodeRecord } from './remembered/record.ts'
import { signLeaf } from './signing.ts'
import { outside, SimulatedProcess, type Timeline } from './timeline.ts'

const ASK: Duration = 3_000
const LOOK_AGAIN: Duration = 2_000
/** Four times that of `issuer/loop.ts`: how often it looks decides nothing. */
const PROBE_AGAIN: Duration = 400
const STATE = 'rotation'
const TURN = 'turn'

type Proof = NonNullable<ObservedServer['listeners'][number]['proof']>

/** What the promises want to see of an issuer. */
export interface WatchingIssuer {
  /** A state was written after `from`, which is null for the first. */
  committed(from: RotationState | null, to: RotationState, decision: Decision | null): void
  decided(decision: Decision): void
  /** `advance` threw although the state it judged is the newest. */
  failed(error: unknown): void
  deleting(epoch: Epoch): void
}

export interface IssuerParts {
  readonly timeline: Timeline
  readonly network: Network
  readonly broker: Broker
  readonly keys: KeyStore
  readonly schedule: Schedule
  readonly policy: RotationPolicy
  readonly agents: readonly AgentMachine[]
  readonly watching: WatchingIssuer
  readonly genesis: RotationState
  readonly decide: typeof advance
}

interface StoredState {
  readonly state: RotationState
  readonly revision: number
}

export class IssuerMachine {
  readonly name: string
  readonly #p: IssuerParts
  process: SimulatedProcess<IssuerMachine> | null = null
  clockOffset: Duration = 0
  #bell = new Bell()
  #statuses = new Map<string, { readonly status: AgentStatus; readonly revision: number }>()
  #stale = true
  #proofs = new Map<string, Proof>()
  #proofsFor = ''
  /** The bundle in force, as this issuer read or wrote it last. */
  #bundle: BundlePayload | null = null
  #tainted: RotationState['tainted'] = {}
  /** What the last turn was decided by. */
  #judged: { readonly state: RotationState; readonly seen: Observations } | null = null

  constructor(name: string, parts: IssuerParts) {
    this.name = name
    this.#p = parts
  }

  get running(): boolean {
    return this.process?.alive === true
  }

  readonly clock = { now: (): number => Math.floor(this.#p.timeline.now + this.clockOffset) }

  start(): void {
    if (this.running) return
    const process = new SimulatedProcess<IssuerMachine>(this, this.#p.timeline, this.clock)
    this.process = process
    this.#bell = new Bell()
    this.#statuses = new Map()
    this.#stale = true
    this.#proofs = new Map()
    this.#bundle = null
    this.#tainted = {}
    this.#judged = null
    this.#p.timeline.in(0, process, 'the issuer starts', () => void this.#run(process))
  }

  crash(away: Duration): void {
    this.process?.kill()
    this.process = null
    this.#p.timeline.in(away, null, '', () => this.start())
  }

  freeze(until: number): void {
    if (this.process !== null) this.process.frozenUntil = Math.max(this.process.frozenUntil, until)
  }

  /** A status was stored; the watch tells it in order, and again after it was cut off. */
  statusStored(agent: string): void {
    const { network, timeline, broker } = this.#p
    if (network.isCut(this.name)) this.#stale = true
    else if (this.process !== null) {
      timeline.in(network.delay(), this.process, '', () => {
        this.#take(agent, broker)
        this.#bell.ring()
      })
    }
  }

  // ---- the loop

  async #run(process: SimulatedProcess): Promise<void> {
    const backoff = new Backoff({ base: 100, max: 2_000 })
    const signal = new AbortController().signal
    for (;;) {
      try {
        const wait = await this.#turn(process)
        backoff.reset()
        if (wait > 0) await this.#bell.wait(wait, signal)
      } catch (cause) {
        if (!RotorError.is(cause)) this.#p.watching.failed(cause)
        await sleep(backoff.next())
      }
    }
  }

  async #turn(process: SimulatedProcess): Promise<Duration> {
    const { network, broker, policy, watching, decide } = this.#p
    const stored = await this.#state(process)
    const published = await network.ask(process, 'newest bundle', ASK, () => ({
      version: broker.stream.at(-1)?.version ?? 0,
      sequence: broker.stream.length,
    }))
    if (this.#stale) {
      const names = await network.ask(process, 'statuses', ASK, () => [...broker.statuses.keys()])
      for (const name of names) this.#take(name, broker)
      this.#stale = false
    }
    const look = this.#observe(stored.state, published.version)
    this.#judged = { state: stored.state, seen: look }
    const decision = this.#decide(() => decide(stored.state, look, policy, this.clock.now()), stored)
    watching.decided(decision)
    if (decision.kind === 'move') {
      await this.#write(process, decision.to, stored, decision)
      await this.#perform(process, decision.to, decision.effects, published.sequence)
      return 0
    }
    await this.#perform(process, stored.state, decision.effects, published.sequence)
    const probing = decision.effects.some(({ kind }) => kind === 'probe-servers' || kind === 'prove-distrust')
    if (decision.effects.length > 0 && !probing) return 0
    const until = decision.until === null ? LOOK_AGAIN : Math.max(1, decision.until - this.clock.now())
    return Math.min(until, probing ? PROBE_AGAIN : LOOK_AGAIN)
  }

  /** A state that others have replaced meanwhile may be in conflict with the stream; the newest one never is. */
  #decide(decide: () => Decision, stored: StoredState): Decision {
    try {
      return decide()
    } catch (cause) {
      const { code } = RotorError.from(cause)
      const old = this.#p.broker.read(STATE)?.revision !== stored.revision
      if (!(code === 'ERR_STATE_CONFLICT' && old)) this.#p.watching.failed(cause)
      throw cause
    }
  }

  async #state(process: SimulatedProcess): Promise<StoredState> {
    const { network, broker, genesis } = this.#p
    const record = await network.ask(process, 'state', ASK, () => broker.read(STATE))
    const stored =
      record === null
        ? await this.#write(process, genesis, null, null)
        : { state: decodeRecord(rotationState, record.text, STATE), revision: record.revision }
    this.#know(stored.state)
    return stored
  }

  /** Compare-and-set. When the answer is lost the state may have been written. */
  async #write(
    process: SimulatedProcess,
    to: RotationState,
    from: StoredState | null,
    decision: Decision | null,
  ): Promise<StoredState> {
    const { network, broker, watching } = this.#p
    const text = JSON.stringify(to)
    const revision = await network.ask(process, 'state', ASK, () => {
      const written = broker.write(STATE, text, from?.revision ?? 0)
      watching.committed(from?.state ?? null, to, decision)
      return written
    })
    this.#know(to)
    return { state: to, revision }
  }

  #know(state: RotationState): void {
    this.#bundle = decodeRecord(bundlePayload, state.payload, STATE)
    this.#tainted = state.tainted
  }

  #observe(state: RotationState, published: number): Observations {
    const mark = `${state.phase} ${state.phaseVersion}`
    this.#forget(mark)
    const { keys } = this.#p
    const held = keys.list()
    const authorities = [...held, ...decodeRecord(bundlePayload, state.payload, STATE).authorities]
    return {
      published,
      held,
      roots: [keys.heldRoot],
      signedBy: Object.fromEntries(authorities.map(({ sha256 }) => [sha256, keys.heldRoot.sha256])),
      agents: this.#observedAgents(),
      servers: this.#servers().map(({ name }) => ({
        name,
        agent: name,
        listeners: [{ kind: 'client', address: `${name}:4222`, proof: this.#proofs.get(name) ?? null }],
      })),
    }
  }

  #observedAgents(): Observations['agents'] {
    return this.#p.agents.map(({ name }) => ({ name, status: this.#statuses.get(name)?.status ?? null }))
  }

  async #perform(
    process: SimulatedProcess,
    state: RotationState,
    effects: readonly Effect[],
    after: number,
  ): Promise<void> {
    for (const effect of effects) await this.#performOne(process, state, effect, after)
  }

  async #performOne(process: SimulatedProcess, state: RotationState, effect: Effect, after: number) {
    const { network, broker, keys, timeline, watching } = this.#p
    timeline.note(`${this.name}: ${effect.kind} in ${state.phase}, version ${state.version}`)
    switch (effect.kind) {
      case 'create-authority':
        await sleep(network.delay())
        await outside(keys.prepare(effect.epoch, effect.notBefore, effect.notAfter))
        return
      case 'publish-bundle': {
        const bytes = await outside(signBundle(state.payload, [keys.signer]))
        const message = { id: `prod-${state.version}`, version: state.version, bytes }
        await network.ask(process, 'bundle', ASK, () => broker.publish(message, after))
        return
      }
      case 'probe-servers':
      case 'prove-distrust':
        await this.#probe(process, effect.epoch, state)
        return
      case 'delete-authority':
        await sleep(network.delay())
        watching.deleting(effect.epoch)
        keys.delete(effect.epoch)
    }
  }

  async #probe(process: SimulatedProcess, epoch: Epoch, state: RotationState): Promise<void> {
    const { network, keys, timeline } = this.#p
    const key = keys.get(epoch)
    if (key === undefined) throw new RotorError('ERR_AUTHORITY_MISSING', `no key of epoch ${epoch}`)
    const mark = `${state.phase} ${state.phaseVersion}`
    this.#forget(mark)
    const distrusted = state.tainted[epoch] !== undefined
    const isProven = (proof: Proof | undefined) =>
      distrusted
        ? proof?.refuses?.epoch === epoch
        : proof?.accepts.includes(epoch) === true && (epoch !== state.active || proof.serves === epoch)
    const dial = async (server: AgentMachine) => {
      const at = this.clock.now()
      const seen = await network
        .askLater<{ accepts: Epoch[]; serves: Epoch }>(process, `probe of ${server.name}`, ASK, (answer) => {
          if (server.loaded === null || network.isCut(server.name)) return
          const { epoch: serves } = readLeaf(server.loaded.certificate)
          answer({ accepts: server.trusts(key.sha256) && key.notAfter > timeline.now ? [epoch] : [], serves })
        })
        .catch(() => null)
      const refused = seen !== null && seen.accepts.length === 0
      const error = seen === null ? 'no answer' : refused ? `refuses epoch ${epoch}` : null
      const before = this.#proofs.get(server.name)?.refuses
      const since = before?.epoch === epoch ? before.since : at
      const proof: Proof = {
        at,
        accepts: seen?.accepts ?? [],
        serves: seen?.serves ?? null,
        ...(refused ? { refuses: { epoch, since } } : {}),
        error,
      }
      if (this.#proofsFor === mark) this.#proofs.set(server.name, proof)
    }
    await Promise.all(
      this.#servers()
        .filter(({ name }) => !isProven(this.#proofs.get(name)))
        .map(dial),
    )
  }

  #forget(mark: string): void {
    if (this.#proofsFor === mark) return
    this.#proofs.clear()
    this.#proofsFor = mark
  }

  #servers(): AgentMachine[] {
    return this.#p.agents.filter(({ role }) => role === 'server')
  }

  /** Never an older record over a newer one. */
  #take(agent: string, broker: Broker): void {
    const stored = broker.statuses.get(agent)
    const known = this.#statuses.get(agent)
    if (stored === undefined || (known !== undefined && known.revision >= stored.revision)) return
    this.#statuses.set(agent, {
      status: decodeRecord(agentStatus, stored.status, agent),
      revision: stored.revision,
    })
  }

  // ---- answers

  sign(agent: string, proof: string): SignAnswer {
    const { keys, schedule, timeline } = this.#p
    const serial = timeline.random.int(0, 2 ** 31)
    return signLeaf(agent, proof, {
      bundle: this.#bundle,
      tainted: this.#tainted,
      keys,
      schedule,
      now: this.clock.now(),
      serial,
    })
  }

  /** As `issuer/turns.ts`: the record is changed by compare-and-set, an acquire waits a little. */
  async turn(process: SimulatedProcess, request: TurnRequest): Promise<TurnAnswer> {
    const { network, broker } = this.#p
    const deadline = this.clock.now() + LOOK_AGAIN
    for (;;) {
      const stored = await network.ask(process, 'turn', ASK, () => broker.read(TURN))
      const record = stored === null ? NO_TURN : JSON.parse(stored.text)
      const outcome = takeTurn(record, request, this.#turnFacts())
      const serverTime = formatInstant(this.clock.now())
      if ('next' in outcome) {
        try {
          const text = JSON.stringify(outcome.next)
          await network.ask(process, 'turn', ASK, () => broker.write(TURN, text, stored?.revision ?? 0))
          return { ok: true, serverTime }
        } catch (cause) {
          if (RotorError.from(cause).code !== 'ERR_STATE_CONFLICT') throw cause
        }
      } else if (outcome.final || this.clock.now() >= deadline) {
        const retryAfter = outcome.final ? LOOK_AGAIN : 0
        return { ok: false, code: 'ERR_TURN_REFUSED', message: outcome.refused, retryAfter, serverTime }
      } else await sleep(250)
    }
  }

  #turnFacts(): TurnFacts {
    const { policy, schedule } = this.#p
    const now = this.clock.now()
    const judged = this.#judged
    const newest = this.#bundle?.version ?? 0
    const time = turnTime(schedule.epochDuration)
    const issuedAt = this.#bundle === null ? now : Date.parse(this.#bundle.issuedAt)
    return {
      now,
      newest,
      turnTime: time,
      canaryUntil: (version) => (version > newest ? now : issuedAt) + time,
      tolerates: (agent) =>
        judged !== null && toleratesFailure(judged.state, judged.seen, policy, now, agent),
      confirms: ({ agent }) => {
        if (judged?.state.phase !== 'distributing') return judged !== null
        return this.#proofs.get(agent)?.accepts.includes(judged.state.next) === true
      },
      hasEnded: ({ agent, version }) => {
        const status = this.#statuses.get(agent)?.status
        if (status === undefined || status.state === 'applying') return false
        const back = status.state === 'rolled-back' && status.lastError?.version === version
        return status.version >= version || back
      },
    }
  }

  async order(process: SimulatedProcess, order: Order): Promise<void> {
    const stored = await this.#state(process)
    await this.#write(
      process,
      applyOrder(stored.state, order, this.clock.now(), {
        held: this.#p.keys.list(),
        agents: this.#observedAgents(),
      }),
      stored,
      null,
    )
    this.#bell.ring()
  }
}
