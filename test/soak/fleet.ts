/**
 * The domain of the soak: three nats-servers, two issuers with a short lease, an agent process beside each server, and
 * services in library mode. It starts and restarts them, and hears what they tell.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AckPolicy, type JetStreamManager, jetstreamManager, StorageType } from '@nats-io/jetstream'
import type { Child, ChildEvent } from '../../demo/child.ts'
import { type AuthorityKind, editJson } from '../../demo/domain.ts'
import { tail } from '../../src/local/process.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { Account, type Told } from './account.ts'
import {
  consumerOf,
  type ServiceSettings,
  SOAK_STREAM,
  SOAK_SUBJECTS,
  serviceEvent,
  subjectsOf,
} from './service.ts'

export const ISSUERS = ['issuer', 'issuer-b'] as const
const SERVERS = 3
const LEASE = '2s'
/** A consumer gets what it did not acknowledge again after this time. */
const ACK_WAIT = 5_000
const WATCHER = ['$JS.API.STREAM.LIST', `$JS.API.STREAM.LEADER.STEPDOWN.${SOAK_STREAM}`]
const MILLION = 1_000_000
export const PASSPHRASE = 'of the soak'

export interface FleetOptions {
  readonly services: number
  /** Messages per second of each service, half core and half JetStream. */
  readonly rate: number
  readonly authority: AuthorityKind
  /** @default a temporary one, removed at the end */
  readonly dir?: string
  readonly signal: AbortSignal
}

interface Mark {
  readonly number: number
  readonly told: Map<string, Told>
}

export class Fleet implements AsyncDisposable {
  readonly domain: RunningDomain
  readonly services: readonly string[]
  readonly account: Account
  readonly #options: FleetOptions
  readonly #cleanup: AsyncDisposableStack
  readonly #lives = new Map<string, number>()
  /** Why requests failed, of each life of each service. */
  readonly reasons = new Map<string, Readonly<Record<string, number>>>()
  readonly #expectedEnds = new Set<Child>()
  #leader: string
  #mark: Mark = { number: 0, told: new Map() }

  private constructor(
    domain: RunningDomain,
    account: Account,
    options: FleetOptions,
    cleanup: AsyncDisposableStack,
  ) {
    this.domain = domain
    this.account = account
    this.services = account.flows.map(({ to }) => to)
    this.#options = options
    this.#cleanup = cleanup
    this.#leader = ISSUERS[0]
  }

  /** Everything runs, everybody stands on the first authority, and messages flow. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const services = Array.from({ length: options.services }, (_, i) => `service-${i + 1}`)
    // a service counts what the next one publishes
    const flows = services.map((to, i) => ({ from: services[(i + 1) % services.length] ?? to, to }))
    await using cleanup = new AsyncDisposableStack()
    const dir = await mkdtemp(join(tmpdir(), 'rotor-soak-'))
    cleanup.defer(() => rm(dir, { recursive: true, force: true }))
    const passphraseFile = join(dir, 'passphrase')
    await writeFile(passphraseFile, PASSPHRASE, { mode: 0o600 })
    // nothing that could tell runs before the fleet is there
    let take = (_: ChildEvent): void => {}
    const domain = cleanup.use(
      await RunningDomain.start({
        servers: SERVERS,
        issuers: ISSUERS,
        services: services.map((name) => ({
          name,
          // the first one also looks at JetStream and moves leaders, for the one who runs the soak
          publish: [SOAK_SUBJECTS, ...(name === services[0] ? WATCHER : [])],
          subscribe: [SOAK_SUBJECTS],
          streams: [SOAK_STREAM],
        })),
        authority: options.authority,
        passphraseFile,
        policy: { retireAfter: '0s' },
        onEvent: (event) => take(event),
        ...(options.dir === undefined ? {} : { dir: options.dir }),
      }),
    )
    const fleet = new Fleet(domain, new Account(flows), options, cleanup.move())
    take = (event) => fleet.#take(event)
    try {
      await fleet.#begin()
      return fleet
    } catch (cause) {
      await fleet[Symbol.asyncDispose]()
      throw cause
    }
  }

  get nodes(): string[] {
    return [...ISSUERS, ...this.domain.serverNames, ...this.services]
  }

  /** Who said last that it leads. */
  get leader(): string {
    return this.#leader
  }

  /** The process that has this node: its issuer, its agent, or the service itself. */
  processOf(node: string): Child {
    const child = this.domain.local.children.get(nameOfProcess(node))
    if (child === undefined) throw new TypeError(`no process has the node ${node}`)
    return child
  }

  async startNode(node: string): Promise<void> {
    if (this.services.includes(node)) return this.#startService(node)
    if (!isIssuer(node)) {
      await this.domain.local.startAgent(node)
      return
    }
    const { issuerConfig } = this.domain.local.founded
    const args = ['issuer', '--config', issuerConfig, '--name', node, '--json']
    await this.domain.local.start(node, 'cli/main', args)
  }

  /** SIGKILL; returns when it is gone. What it told before is all it told. */
  async killNode(node: string): Promise<void> {
    const child = this.processOf(node)
    this.#expectedEnds.add(child)
    child.kill('SIGKILL')
    await child.exited
    if (this.services.includes(node)) {
      const life = this.#lives.get(node) ?? 0
      this.account.over(node, life)
      this.#lives.set(node, life + 1)
    }
  }

  /** Every process is there that should be; names those that ended by themselves. */
  endedByThemselves(): string[] {
    return [...this.domain.local.children.values()]
      .filter((child) => child.ended && !this.#expectedEnds.has(child))
      .map(({ name }) => name)
  }

  /** This may cost messages, from now on. */
  hit(name: string, what: string): void {
    this.account.hit({ name, what, at: performance.now() })
  }

  /** No new messages from here on. */
  stopPublishing(): void {
    for (const name of this.services) this.processOf(name).send('stop-publishing')
  }

  /** What every service has told by now, with all its requests answered. */
  async marks(): Promise<ReadonlyMap<string, Told>> {
    this.#mark = { number: this.#mark.number + 1, told: new Map() }
    const { number, told } = this.#mark
    for (const name of this.services) this.processOf(name).send(`mark ${number}`)
    await eventually(
      () => {
        if (told.size === this.services.length) return true
        throw new Error(`no mark of ${this.services.filter((name) => !told.has(name)).join(', ')}`)
      },
      { timeout: PATIENCE, signal: this.#options.signal },
    )
    return told
  }

  /** The last lines that these nodes, and every issuer, wrote into their logs. */
  async lastLines(nodes: readonly string[]): Promise<string> {
    const files = [...new Set([...nodes.map(nameOfProcess), ...ISSUERS])]
    const logs = await Promise.all(
      files.map(async (name) => `--- ${name}\n${await tail(this.domain.local.logFile(name), 8)}`),
    )
    return logs.join('\n')
  }

  /** JetStream as the first service sees it: the stream of the soak, and the names of all. */
  async asWatcher<T>(work: (jsm: JetStreamManager) => Promise<T>): Promise<T> {
    const nc = await this.domain.connectAs(this.services[0] ?? '')
    try {
      return await work(await jetstreamManager(nc, { checkAPI: false, timeout: 5_000 }))
    } finally {
      await nc.close()
    }
  }

  /** Another server leads the stream of the services from now on. No user of ours may do that to the bundle stream. */
  async moveLeader(): Promise<void> {
    const nc = await this.domain.connectAs(this.services[0] ?? '')
    try {
      await nc.request(`$JS.API.STREAM.LEADER.STEPDOWN.${SOAK_STREAM}`, '', { timeout: 5_000 })
    } finally {
      await nc.close()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.domain.hangUp()
    for (const child of this.domain.local.children.values()) {
      this.#expectedEnds.add(child)
      child.kill('SIGCONT')
    }
    // services end their requests before the servers go
    await this.#cleanup.disposeAsync()
  }

  async #begin(): Promise<void> {
    const { local } = this.domain
    await editJson(local.founded.issuerConfig, { lease: LEASE })
    await eventually(() => this.#makeStream(), { timeout: PATIENCE, signal: this.#options.signal })
    await Promise.all(this.nodes.map((node) => this.startNode(node)))
    await Promise.all(
      this.services.map((name) => this.processOf(name).started('started', this.#options.signal, PATIENCE)),
    )
    await this.domain.settled(this.nodes)
    for (const name of this.services) this.processOf(name).send('publish')
  }

  async #makeStream(): Promise<boolean> {
    return this.asWatcher(async (jsm) => {
      await jsm.streams.add({
        name: SOAK_STREAM,
        subjects: [subjectsOf('*').jetstream],
        storage: StorageType.File,
        num_replicas: SERVERS,
        duplicate_window: 120_000 * MILLION,
        // what was counted is of no use any more
        max_age: 600_000 * MILLION,
      })
      for (const { from, to } of this.account.flows) {
        await jsm.consumers.add(SOAK_STREAM, {
          durable_name: consumerOf(to),
          filter_subject: subjectsOf(from).jetstream,
          ack_policy: AckPolicy.Explicit,
          ack_wait: ACK_WAIT * MILLION,
        })
      }
      return true
    })
  }

  /** A life after the first publishes at once: all the others listen already. */
  async #startService(name: string): Promise<void> {
    const life = this.#lives.get(name) ?? 0
    const settings: ServiceSettings = {
      config: this.domain.agentConfig(name),
      life,
      neighbour: this.account.flows.find(({ to }) => to === name)?.from ?? '',
      rate: this.#options.rate,
    }
    const child = await this.domain.local.start(name, 'test/soak/service-child', [JSON.stringify(settings)])
    if (life > 0) {
      await child.started('started', this.#options.signal, PATIENCE)
      child.send('publish')
    }
  }

  #take(event: ChildEvent): void {
    if (event.type === 'leads') this.#leader = event.node ?? this.#leader
    const { data } = serviceEvent.safeParse(event)
    if (data === undefined) return
    const { node, life } = data
    if (data.type === 'stored') {
      const [of, number, sequence] = data.numbers
      this.account.stored(node, of, number, sequence)
    }
    if (data.type === 'acknowledged') this.account.acknowledged(node, life, data.numbers)
    if (data.type === 'told') {
      const at = performance.now()
      this.account.tells(node, life, data.server, { core: data.core, requests: data.requests }, at)
      for (const [of, number] of data.received) this.account.received(node, of, number, at)
    }
    if (data.type === 'marked') {
      this.reasons.set(`${node}-${life}`, data.reasons)
      if (data.mark === this.#mark.number) {
        this.#mark.told.set(node, { core: data.core, requests: data.requests })
      }
    }
  }
}

const isIssuer = (node: string): boolean => ISSUERS.some((name) => name === node)
const nameOfProcess = (node: string): string =>
  isIssuer(node) || node.startsWith('service-') ? node : `agent-${node}`
