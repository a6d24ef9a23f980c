/**
 * One run of a whole domain in virtual time: real agents and real decisions on simulated machines, a time of trouble,
 * then a time in which all is repaired and the domain has to come back. The seed is all the chance there is.
 */
import { startAgent } from '../../../agent/agent.ts'
import { signBundle } from '../../../src/bundle/envelope.ts'
import { encodePayload } from '../../../src/bundle/payload.ts'
import { RotorError } from '../../../src/errors.ts'
import { advance, bootstrap } from '../../../src/rotation/advance.ts'
import { bundleOf } from '../../../src/rotation/payloads.ts'
import type { RotationPolicy } from '../../../src/rotation/state.ts'
import {
  type Epoch,
  epochAt,
  epochEnd,
  epochStart,
  makeSchedule,
  type Schedule,
} from '../../../src/schedule.ts'
import { type Duration, formatInstant, type Instant } from '../../../src/time.ts'
import type { Order } from '../../../src/wire/requests.ts'
import { Random } from '../random.ts'
import { genesisPayload } from '../rotation-world.ts'
import { AgentMachine } from './agent-machine.ts'
import { Broker } from './broker.ts'
import { canFollow, enrol } from './enrolment.ts'
import { IssuerMachine } from './issuer-machine.ts'
import { DOMAIN, KeyStore } from './key-store.ts'
import { readLeaf } from './leaf.ts'
import { Network, type NetworkQuality } from './network.ts'
import { FleetPromises } from './promises.ts'
import { Requests } from './requests.ts'
import { Timeline } from './timeline.ts'
import { makeTrouble } from './trouble.ts'

const FIRST_EPOCH = 100

/** Faults in the decisions themselves, to prove that a run finds them. */
export interface Sabotage {
  readonly decide?: (decide: typeof advance) => typeof advance
  /** Instead of the one by the seed. */
  readonly policy?: RotationPolicy
  /** Called with every machine before it starts. */
  readonly machine?: (machine: AgentMachine) => void
  readonly broker?: (broker: Broker) => void
}

export interface FleetOptions {
  readonly seed: number
  /** Besides the issuer's own and the servers'. @default by the seed, few */
  readonly agents?: number | undefined
  /** Epochs with trouble. @default by the seed, 1 to 3 */
  readonly epochs?: number | undefined
  readonly sabotage?: Sabotage
}

export interface FleetReport {
  readonly steps: number
  readonly asked: number
  readonly machines: number
  /** Virtual time, milliseconds. */
  readonly lasted: Duration
  /** Equal for equal runs. */
  readonly digest: string
  /** Moves and reasons to wait, with how often. */
  readonly seen: ReadonlyMap<string, number>
  readonly version: number
}

/** A promise was broken: says how to see it again, and what the last steps were. */
export class SimulationFailure extends Error {
  readonly seed: number

  constructor(options: FleetOptions, steps: readonly string[], cause: unknown) {
    const { seed, agents, epochs } = options
    const reason = cause instanceof Error ? cause.message : String(cause)
    const size = [
      ...(agents === undefined ? [] : ['--agents', agents]),
      ...(epochs === undefined ? [] : ['--epochs', epochs]),
    ]
    const again = ['npm run simulate -- --seed', seed, ...size].join(' ')
    super(`seed ${seed}: ${reason}\nagain with: ${again}\nlast steps:\n${steps.join('\n')}`, { cause })
    this.seed = seed
  }
}

/** Runs one seed. Throws SimulationFailure when a promise is broken at any step. */
export async function runFleet(options: FleetOptions): Promise<FleetReport> {
  const random = new Random(options.seed)
  const schedule = makeSchedule({ epochDuration: random.pick([12_000, 16_000, 20_000, 30_000]) })
  const start = epochStart(schedule, FIRST_EPOCH) + random.int(0, schedule.epochDuration)
  const timeline = new Timeline(start, random.fork())
  const fleet = await Fleet.found(options, schedule, timeline, random)
  try {
    await fleet.live(options.epochs ?? random.int(1, 3))
  } catch (cause) {
    throw new SimulationFailure(options, timeline.told, cause)
  } finally {
    fleet.end()
  }
  return fleet.report(start)
}

class Fleet {
  readonly #options: FleetOptions
  readonly #schedule: Schedule
  readonly #timeline: Timeline
  readonly #random: Random
  readonly #network: Network
  readonly #broker: Broker
  readonly #keys: KeyStore
  readonly #agents: AgentMachine[] = []
  readonly #issuers: IssuerMachine[] = []
  readonly #promises: FleetPromises
  #latest: Instant
  #orders = 0

  private constructor(
    options: FleetOptions,
    schedule: Schedule,
    timeline: Timeline,
    random: Random,
    keys: KeyStore,
  ) {
    this.#options = options
    this.#schedule = schedule
    this.#timeline = timeline
    this.#random = random
    this.#keys = keys
    this.#network = new Network(timeline, random.fork(), qualityBy(random))
    this.#broker = new Broker(timeline, this.#network)
    this.#latest = timeline.now
    this.#promises = new FleetPromises(
      schedule,
      keys.heldRoot.certificate,
      this.#agents,
      this.#broker,
      () => this.#latest,
    )
    this.#broker.onStatus = (agent) => {
      for (const issuer of this.#issuers) issuer.statusStored(agent)
    }
  }

  /** Founds a domain: one bundle, every machine enrolled with it. */
  static async found(
    options: FleetOptions,
    schedule: Schedule,
    timeline: Timeline,
    random: Random,
  ): Promise<Fleet> {
    const now = timeline.now
    const keys = await KeyStore.open(now, schedule.lead)
    const fleet = new Fleet(options, schedule, timeline, random, keys)
    const begins = epochStart(schedule, FIRST_EPOCH) - schedule.lead
    const first = await keys.prepare(FIRST_EPOCH, begins, epochEnd(schedule, FIRST_EPOCH))
    const payload = encodePayload({
      ...genesisPayload(FIRST_EPOCH, schedule, first),
      roots: [keys.root.certificate.pem],
      signers: [keys.signer.key],
    })
    const bytes = await signBundle(payload, [keys.signer])
    const genesis = bootstrap({ domain: DOMAIN, payload, fence: 0 }, now)
    fleet.#promises.committed(null, genesis, null)
    fleet.#broker.write('rotation', JSON.stringify(genesis), 0)
    fleet.#broker.publish({ id: `${DOMAIN}-1`, version: 1, bytes }, 0)
    fleet.#populate(genesis)
    return fleet
  }

  #populate(genesis: ReturnType<typeof bootstrap>): void {
    const { agents = this.#random.pick([1, 2, 2, 3, 4]), sabotage } = this.#options
    const servers = this.#random.pick([1, 2, 2, 3])
    sabotage?.broker?.(this.#broker)
    const parts = {
      timeline: this.#timeline,
      network: this.#network,
      broker: this.#broker,
      answering: new Requests({
        network: this.#network,
        broker: this.#broker,
        random: this.#random.fork(),
        issuers: this.#issuers,
        failed: (error) => this.#promises.failed(error),
      }),
      random: this.#random.fork(),
      watching: this.#promises,
      anyCertificate: this.#keys.root.certificate,
      servers: () => this.#agents.filter(({ role }) => role === 'server'),
      start: startAgent,
    }
    const add = (name: string, role: AgentMachine['role']) => {
      const machine = new AgentMachine(name, role, parts)
      sabotage?.machine?.(machine)
      this.#agents.push(machine)
      this.#enrol(machine)
    }
    for (let i = 1; i <= servers; i++) add(`n${i}`, 'server')
    add('issuer', 'issuer')
    for (let i = 1; i <= agents; i++) add(`s${i}`, 'service')
    // one configuration for all
    const bySeed = policyBy(this.#random, this.#schedule)
    const policy = sabotage?.policy ?? bySeed
    const decide = sabotage?.decide?.(advance) ?? advance
    for (const name of ['issuer-a', 'issuer-b'].slice(0, this.#random.pick([1, 2, 2]))) {
      this.#issuers.push(
        new IssuerMachine(name, {
          timeline: this.#timeline,
          network: this.#network,
          broker: this.#broker,
          keys: this.#keys,
          schedule: this.#schedule,
          policy,
          agents: this.#agents,
          watching: this.#promises,
          genesis,
          decide,
        }),
      )
    }
    for (const machine of this.#agents) machine.start()
    for (const issuer of this.#issuers) issuer.start()
  }

  /** Trouble for so many epochs, then repair, then everything has to be well. */
  async live(epochs: number): Promise<void> {
    const { lead, epochDuration } = this.#schedule
    const stop = makeTrouble(
      {
        timeline: this.#timeline,
        random: this.#random.fork(),
        network: this.#network,
        keys: this.#keys,
        agents: this.#agents,
        issuers: this.#issuers,
        lead,
        epochDuration,
        order: (kind, force) => this.#order(kind, force),
        restartServers: () => this.#restartServers(),
        replay: (agent) => this.#replay(agent),
        signer: () => {
          const { state } = this.#promises
          return {
            active: state?.active ?? FIRST_EPOCH,
            next: state?.phase === 'distributing' ? state.next : null,
          }
        },
      },
      (this.#random.pick([1_000, 3_000, 8_000]) * epochDuration) / 20_000,
    )
    await this.#run(epochs * epochDuration)
    stop()
    await this.#run(1.2 * epochDuration) // whoever was stopped goes on by then
    this.#repair()
    const longest = 12 * epochDuration
    for (let waited = 0; ; waited += epochDuration / 4) {
      const missing = this.#missing()
      if (missing === null) return
      if (waited >= longest) throw new Error(`L1: all is repaired, and still ${missing}`)
      this.#enrolWhoCanNotFollow()
      if (this.#promises.state?.paused != null) this.#order('resume')
      await this.#run(epochDuration / 4)
    }
  }

  /** Ends every process, so that nothing of this run is left. */
  end(): void {
    for (const { process } of [...this.#agents, ...this.#issuers]) process?.kill()
  }

  report(start: Instant): FleetReport {
    const { steps, now, digest } = this.#timeline
    const { seen, asked, state } = this.#promises
    return {
      steps,
      asked,
      machines: this.#agents.length,
      lasted: now - start,
      digest,
      seen,
      version: state?.version ?? 0,
    }
  }

  async #run(ms: Duration): Promise<void> {
    await this.#timeline.run(this.#timeline.now + ms, () => {
      for (const issuer of this.#issuers) this.#latest = Math.max(this.#latest, issuer.clock.now())
      this.#latest = Math.max(this.#latest, this.#timeline.now)
      this.#promises.check()
    })
  }

  // ---- what people do

  #order(kind: Order['kind'], force = false): string {
    const issuer = this.#random.pick(this.#issuers)
    const { name, process } = issuer
    if (process === null) return `${name}, which is away`
    this.#orders += 1
    const at = formatInstant(this.#timeline.now)
    const order: Order = {
      v: 1,
      kind,
      ...(kind === 'taint' ? { epoch: this.#random.pick(this.#trusted()) } : {}),
      crossSign: false,
      force,
      reason: `order ${this.#orders}`,
      by: 'operator',
      at,
    }
    this.#timeline.in(0, process, '', () => {
      issuer.order(process, order).catch((cause) => {
        if (!RotorError.is(cause)) this.#promises.failed(cause)
      })
    })
    return name
  }

  #trusted(): Epoch[] {
    const { state } = this.#promises
    return state === null ? [FIRST_EPOCH] : bundleOf(state).authorities.map(({ epoch }) => epoch)
  }

  #restartServers(): void {
    for (const machine of this.#agents) {
      this.#broker.forget(machine.name)
      const { process } = machine
      const lost = [...machine.connections]
      if (process === null) continue
      this.#timeline.in(this.#random.int(0, 200), process, '', () => {
        for (const connection of lost) void connection.close()
      })
    }
  }

  /** Somebody who may publish to this agent plays an old bundle, or half of one. */
  #replay(machine: AgentMachine): void {
    const { bytes } = this.#random.pick(this.#broker.stream)
    const torn = this.#random.chance(0.3) ? bytes.subarray(0, this.#random.int(0, bytes.length)) : bytes
    this.#broker.play(machine.name, torn)
  }

  #repair(): void {
    this.#timeline.note('-- all is repaired')
    this.#network.mend()
    this.#network.quality = { loss: 0, twice: 0, delay: 5 }
    for (const machine of this.#agents) {
      machine.clockOffset = 0
      machine.disk.full = false
      machine.refuses = false
      machine.deaf = false
      machine.stopAfter = null
      machine.letGo()
    }
    for (const issuer of this.#issuers) issuer.clockOffset = 0
  }

  /** A node that can not ask for a leaf any more joins again with a token. */
  #enrolWhoCanNotFollow(): void {
    const { state } = this.#promises
    if (state === null) return
    for (const machine of this.#agents) {
      if (canFollow(machine, state.payload, this.#timeline.now) || !this.#enrol(machine)) continue
      this.#timeline.note(`-- ${machine.name} joins again`)
      machine.crash(true, 10)
    }
  }

  #enrol(machine: AgentMachine): boolean {
    return enrol(machine, {
      broker: this.#broker,
      keys: this.#keys,
      schedule: this.#schedule,
      now: this.#timeline.now,
      serial: this.#random.int(0, 2 ** 31),
    })
  }

  /** What is not well yet, or null. */
  #missing(): string | null {
    const { state } = this.#promises
    if (state === null) return 'there is no state'
    const epoch = epochAt(this.#schedule, this.#timeline.now)
    if (state.active < epoch) return `epoch ${state.active} signs in epoch ${epoch}, phase ${state.phase}`
    const tainted = Object.keys(state.tainted)
    if (tainted.length > 0) return `epoch ${tainted.join(', ')} is tainted, and not proven to be gone`
    for (const machine of this.#agents) {
      const readable = machine.disk.readable()
      const leaf = readable === null ? null : readLeaf(readable.stored.material.certificate)
      if (machine.version !== state.version) {
        return `${machine.name} uses version ${machine.version} of ${state.version}, phase ${state.phase}`
      }
      if (leaf?.epoch !== state.active) return `${machine.name} holds a leaf of epoch ${leaf?.epoch}`
    }
    return null
  }
}

function qualityBy(random: Random): NetworkQuality {
  return random.pick([
    { loss: 0, twice: 0, delay: 2 },
    { loss: 0.01, twice: 0.01, delay: 10 },
    { loss: 0.05, twice: 0.05, delay: 40 },
    { loss: 0.15, twice: 0.1, delay: 80 },
  ])
}

function policyBy(random: Random, { epochDuration, lead }: Schedule): RotationPolicy {
  return {
    ...(random.chance(0.3) ? { goOnBelow: random.pick([0, epochDuration / 2, 2 * epochDuration]) } : {}),
    ...(random.chance(0.4) ? { retireAfter: random.pick([0, epochDuration / 3, epochDuration]) } : {}),
    ...(random.chance(0.2) ? { patience: random.pick([0, lead / 5, epochDuration]) } : {}),
    ...(random.chance(0.3) ? { taintPatience: random.pick([0, lead / 5, epochDuration]) } : {}),
    // most faults of a target would take the rotation back otherwise, and nothing after it would be seen
    ...(random.chance(0.6)
      ? {
          maxFailures: random.pick([
            { servers: 9, clients: 1 },
            { servers: 1, clients: 0.5 },
          ]),
        }
      : {}),
  }
}
