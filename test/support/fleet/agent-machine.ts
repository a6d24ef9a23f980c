/**
 * A machine with one agent on it: the real agent, on a simulated disk, network and target. What is asked of it by
 * the promises is what is true on it, not what it told.
 */

import type { AgentHandle, AgentOptions } from '../../../agent/agent.ts'
import type { Target } from '../../../agent/targets/target.ts'
import type { AgentConfig } from '../../../src/domain/config.ts'
import { RotorError } from '../../../src/errors.ts'
import type { IdentitySnapshot } from '../../../src/identity/identity.ts'
import type { Usage } from '../../../src/identity/usage.ts'
import { silentLogger } from '../../../src/log.ts'
import { type Clock, type Duration, type Instant, sleep } from '../../../src/time.ts'
import type { Certificate } from '../../../src/trust/certificate.ts'
import type { Random } from '../random.ts'
import type { Broker, Delivery } from './broker.ts'
import { type Answering, Connection } from './connection.ts'
import { Disk } from './disk.ts'
import { handshake } from './handshake.ts'
import { type Leaf, readLeaf, trustedIn } from './leaf.ts'
import type { Network } from './network.ts'
import { currentProcess, never, SimulatedProcess, type Timeline } from './timeline.ts'

/** Is told when something that the promises speak of may have changed. */
export interface Watching {
  trustChanged(machine: AgentMachine): void
  diskChanged(machine: AgentMachine): void
  failed(error: unknown): void
}

export interface AgentMachineParts {
  readonly timeline: Timeline
  readonly network: Network
  readonly broker: Broker
  readonly answering: Answering
  readonly random: Random
  readonly watching: Watching
  readonly anyCertificate: Certificate
  readonly servers: () => readonly AgentMachine[]
  readonly start: (options: AgentOptions) => Promise<AgentHandle>
}

/** Milliseconds a target takes to read its files. */
const RELOAD: Duration = 20

export class AgentMachine {
  readonly name: string
  readonly role: AgentConfig['role']
  readonly disk: Disk
  readonly #p: AgentMachineParts
  process: SimulatedProcess<AgentMachine> | null = null
  /** Of this process, not closed yet. */
  readonly connections = new Set<Connection>()
  #handle: AgentHandle | null = null
  /** Its clock minus the true time. */
  clockOffset: Duration = 0
  /** The generation its target has loaded; a nats-server keeps it while its agent is away. */
  loaded: IdentitySnapshot | null = null
  /** The target refuses to load what it is told. */
  refuses = false
  /** The target says yes and loads nothing. */
  deaf = false
  /** Nobody looks whether the target took its files; for sabotage. */
  credulous = false
  /** Sockets of this process stay on the leaf they were opened with. */
  lingers = false
  #lingering: { readonly made: IdentitySnapshot; readonly since: Instant }[] = []
  /** Steps on the disk after which the machine stops; null for never. */
  stopAfter: { steps: number; readonly powerCut: boolean; readonly away: Duration } | null = null

  constructor(name: string, role: AgentConfig['role'], parts: AgentMachineParts) {
    this.name = name
    this.role = role
    this.#p = parts
    this.disk = new Disk({
      random: parts.random,
      anyCertificate: parts.anyCertificate,
      step: (step) => this.#stepOnDisk(step),
      changed: () => parts.watching.diskChanged(this),
    })
  }

  get clock(): Clock {
    return { now: () => Math.floor(this.#p.timeline.now + this.clockOffset) }
  }

  // ---- what is true here

  /** Version of the bundle its verifier has loaded. */
  get version(): number {
    return this.loaded?.version ?? 0
  }

  /** Does the verifier of this machine trust what this authority issued? */
  trusts(issuer: string): boolean {
    return this.loaded !== null && trustedIn(this.loaded.ca).has(issuer)
  }

  /** Leaves that this machine shows to others: of its target, its control connection and open sockets. */
  leaves(): Leaf[] {
    const current = this.#handle?.identity.current()
    return [this.loaded, current, ...this.#lingering.map(({ made }) => made)].flatMap((snapshot) =>
      snapshot == null ? [] : [readLeaf(snapshot.certificate)],
    )
  }

  get running(): boolean {
    return this.process?.alive === true
  }

  // ---- its life

  /** Starts the agent, again and again until it runs, as a supervisor would. */
  start(): void {
    if (this.running) return
    const { timeline, random, start, watching } = this.#p
    const process = new SimulatedProcess<AgentMachine>(this, timeline, this.clock)
    this.process = process
    this.disk.recover()
    this.stopAfter = null
    const begin = async () => {
      try {
        // a service and its agent are one process: it loads what is on disk when it starts
        const readable = this.disk.readable()
        if (readable !== null && (this.loaded === null || this.role !== 'server')) {
          this.load(await this.disk.load(readable.name))
        }
        const handle = await start({
          config: this.#config(),
          logger: silentLogger,
          targets: [this.#target()],
          clock: this.clock,
        })
        this.#handle = handle
        handle.identity.onChange(() => watching.trustChanged(this))
        handle.identity.join(this.#sockets(handle))
        watching.trustChanged(this)
        await handle.done
      } catch (cause) {
        if (!RotorError.is(cause)) watching.failed(cause)
        timeline.note(`${this.name}: the agent ended, ${RotorError.from(cause).code}`)
        this.#gone()
        timeline.in(random.int(500, 3_000), null, '', () => this.start())
      }
    }
    timeline.in(0, process, 'the agent starts', () => void begin())
  }

  /** Kill -9, or the power is cut; it starts again after `away`. */
  crash(powerCut: boolean, away: Duration): void {
    this.#gone()
    if (powerCut) {
      this.disk.powerCut()
      this.loaded = null
    }
    this.#p.watching.trustChanged(this)
    this.#p.timeline.in(away, null, '', () => this.start())
  }

  /** SIGSTOP until then. */
  freeze(until: Instant): void {
    if (this.process !== null) this.process.frozenUntil = Math.max(this.process.frozenUntil, until)
  }

  /** The target uses this from now on. */
  load(snapshot: IdentitySnapshot): void {
    if (this.lingers && this.loaded !== null && this.loaded.certificate !== snapshot.certificate) {
      this.#lingering.push({ made: this.loaded, since: this.#p.timeline.now })
    }
    this.loaded = snapshot
    this.#p.watching.trustChanged(this)
  }

  /** Everything that stood on old leaves is closed. */
  letGo(): void {
    this.lingers = false
    this.#lingering = []
    this.#p.watching.trustChanged(this)
  }

  /** For the stand-ins. */
  async connect(): Promise<Connection> {
    const { network, random, servers, answering } = this.#p
    const process = currentProcess()
    const server = random.pick(servers()).name
    await network.ask(process, 'dial', 2_000, () => {})
    const connection = new Connection(process, `${server}:4222`, answering)
    this.connections.add(connection)
    void connection.closed().then(() => this.connections.delete(connection))
    return connection
  }

  consume(connection: Connection, handle: (message: Delivery) => Promise<void>): () => Promise<void> {
    const { broker } = this.#p
    let last = Promise.resolve()
    const take = (message: Delivery): void => {
      last = last.then(() => handle(message)).catch((cause) => this.#p.watching.failed(cause))
    }
    broker.bind(this.name, connection.process, take)
    return async () => {
      broker.unbind(this.name, take)
      await last
    }
  }

  /** What a handshake with the server at `address` shows to who holds this material. */
  probe(address: string, material: { readonly ca: string; readonly certificate: string }) {
    return handshake({ ...this.#p, servers: this.#p.servers() }, address, material)
  }

  #gone(): void {
    this.process?.kill()
    this.process = null
    this.#handle = null
    this.connections.clear()
    // sockets of a process end with it; a nats-server lives on
    this.#lingering = []
    if (this.role !== 'server') this.loaded = null
  }

  /** Where the machine stops, when it has to, everything after the step is never run. */
  #stepOnDisk(step: string): Promise<void> {
    const { stopAfter } = this
    if (stopAfter === null || --stopAfter.steps > 0) return Promise.resolve()
    this.#p.timeline.note(`${this.name}: ${stopAfter.powerCut ? 'power cut' : 'killed'} at ${step}`)
    this.stopAfter = null
    this.crash(stopAfter.powerCut, stopAfter.away)
    return never()
  }

  #config(): AgentConfig {
    return {
      domain: 'prod',
      agent: this.name,
      role: this.role,
      identity: this.disk.path,
      servers: this.#p.servers().map(({ name }) => `${name}:4222`),
      handshakeFirst: false,
      names: { dns: [], ip: [], uri: [] },
      key: 'P-256',
      targets: [],
      spread: true,
      anchors: 'authorities',
      keep: 3,
    }
  }

  #target(): Target {
    const { random } = this.#p
    const pause = () => sleep(random.int(1, 2 * RELOAD))
    return {
      type: this.role === 'server' ? 'nats-server' : 'process',
      name: this.name,
      exclusive: this.role === 'server',
      check: async () => {},
      notify: async ({ identity }) => {
        await pause()
        if (this.refuses) throw new RotorError('ERR_RELOAD_REFUSED', `${this.name} refuses the files`)
        if (!this.deaf) this.load(identity)
      },
      prove: async ({ identity }) => {
        await pause()
        if (!this.credulous && this.loaded?.generation !== identity.generation) {
          throw new RotorError('ERR_PROOF_FAILED', `${this.name} serves ${this.loaded?.generation}`)
        }
        const fingerprint = identity.leaf.sha256
        return { type: 'process', name: this.name, ok: true, evidence: 'serves it', fingerprint }
      },
    }
  }

  /** Sockets that were opened with older leaves, as what joins the identity counts them. */
  #sockets(handle: AgentHandle) {
    return {
      type: 'connection' as const,
      name: `sockets of ${this.name}`,
      follow: async () =>
        `${this.#lingering.length} stay where they are, ${handle.identity.current().generation}`,
      usage: (): Usage[] =>
        this.#lingering.map(({ made, since }) => ({
          type: 'connection',
          name: `sockets of ${this.name}`,
          generation: made.generation,
          leaf: made.leaf.sha256,
          issuerEpoch: made.epoch ?? null,
          sockets: 1,
          since,
        })),
    }
  }
}

/** The machine whose agent runs now. */
export function currentMachine(): AgentMachine {
  const { machine } = currentProcess()
  if (machine instanceof AgentMachine) return machine
  throw new TypeError(`expected code of an agent, found that of ${machine.name}`)
}
