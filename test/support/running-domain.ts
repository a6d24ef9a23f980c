/**
 * A whole trust domain that a test can look into: real nats-servers, with issuer and agents in this process (a process
 * of its own costs a second), and any of them as a child where a test has to freeze or kill it. Rotations are ordered
 * where a test needs no clock.
 */
import { join } from 'node:path'
import type { NatsConnection } from '@nats-io/transport-node'
import {
  type AgentEvent,
  type AgentHandle,
  readAgentConfig,
  startAgent,
  type Target,
} from '../../agent/index.ts'
import { type LocalDomain, type LocalDomainOptions, makeLocalDomain } from '../../demo/domain.ts'
import {
  type IssuerEvent,
  type IssuerHandle,
  type IssuerOptions,
  readIssuerConfig,
  startIssuer,
} from '../../issuer/index.ts'
import { connect } from '../../src/connection/connect.ts'
import type { IssuerConfig } from '../../src/domain/config.ts'
import type { Operator } from '../../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../../src/domain/overview.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { readIdentity } from '../../src/identity/read.ts'
import type { Logger } from '../../src/log.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { type ProbeResult, probeListener } from '../../src/probe/probe.ts'
import type { RotationPolicy } from '../../src/rotation/state.ts'
import { type Clock, formatInstant } from '../../src/time.ts'
import { type DomainNames, domainNames } from '../../src/wire/names.ts'
import { encodeRecord } from '../../src/wire/record.ts'
import type { Order } from '../../src/wire/requests.ts'
import { readHistory, type StreamBundle } from './bundle-history.ts'
import { eventually } from './eventually.ts'

/** The time of a slow machine that does something else. */
export const PATIENCE = 60_000
const HOUR = 3_600_000
const ISSUER = 'issuer'

export type DomainEvent = { readonly node: string } & (AgentEvent | IssuerEvent)

export interface ListenerProbe {
  readonly server: string
  readonly kind: 'client' | 'cluster'
  readonly result: ProbeResult
}

type Options = Partial<LocalDomainOptions>

export class RunningDomain implements AsyncDisposable {
  readonly local: LocalDomain
  readonly names: DomainNames
  /** Everything that issuer and agents of this process told, oldest first. */
  readonly events: DomainEvent[] = []
  /** Called with each of them, at that very moment. */
  onEvent: (event: DomainEvent) => void = () => {}
  /** Every line that issuer and agents of this process logged, as JSON. */
  readonly logs: string[] = []
  readonly agents = new Map<string, AgentHandle>()
  readonly #issuers = new Map<string, IssuerHandle>()
  #operator: Promise<Operator> | null = null
  /** Fingerprint of the leaf it was opened with. */
  #operatorLeaf = ''

  private constructor(local: LocalDomain) {
    this.local = local
    this.names = domainNames(local.name)
  }

  /**
   * Founds a domain with one server and epochs of an hour unless told otherwise, and starts its servers only. The lead
   * of long epochs is short, or services would spread their renewals over half a minute.
   */
  static async start(options: Options = {}): Promise<RunningDomain> {
    const local = await makeLocalDomain({
      epochDuration: HOUR,
      servers: 1,
      ...(options.epochDuration === undefined ? { schedule: { lead: 2_000 } } : {}),
      ...options,
    })
    try {
      await local.startServers()
      return new RunningDomain(local)
    } catch (cause) {
      await local.stop()
      throw cause
    }
  }

  get serverNames(): string[] {
    return this.local.plans.map((plan) => plan.name)
  }

  /** Starts an issuer and the agent beside it. */
  async startIssuer(
    policy: RotationPolicy = {},
    more: Pick<IssuerOptions, 'authority' | 'joinLimits' | 'clock'> &
      Partial<Pick<IssuerConfig, 'lease'>> = {},
    name = ISSUER,
  ): Promise<IssuerHandle> {
    const config = await readIssuerConfig(this.local.founded.issuerConfig, name)
    const { lease = config.lease, ...options } = more
    const agent = await this.startAgent(name)
    const issuer = await startIssuer({
      config: { ...config, lease, policy: { ...config.policy, ...policy } },
      identity: agent.identity,
      logger: this.#logger(name),
      onEvent: (event) => this.#take({ node: name, ...event }),
      ...options,
    })
    this.#issuers.set(name, issuer)
    return issuer
  }

  async stopIssuer(name = ISSUER): Promise<void> {
    await this.#issuers.get(name)?.stop()
    this.#issuers.delete(name)
    await this.stopAgent(name)
  }

  /** Starts the agent of a node in this process. */
  async startAgent(name: string, targets: readonly Target[] = [], clock?: Clock): Promise<AgentHandle> {
    const agent = await startAgent({
      config: await readAgentConfig(this.agentConfig(name)),
      logger: this.#logger(name),
      targets,
      ...(clock === undefined ? {} : { clock }),
      onEvent: (event) => this.#take({ node: name, ...event }),
      startTimeout: PATIENCE,
    })
    this.agents.set(name, agent)
    return agent
  }

  async stopAgent(name: string): Promise<void> {
    await this.agents.get(name)?.stop()
    this.agents.delete(name)
  }

  /** Issuer and an agent for every server and the given services, in this process. */
  async startAll(services: readonly string[] = [], policy: RotationPolicy = {}): Promise<void> {
    await this.startIssuer(policy)
    for (const name of [...this.serverNames, ...services]) await this.startAgent(name)
  }

  agentConfig(name: string): string {
    return this.local.founded.agentConfigs[name] ?? ''
  }

  identityDir(name: string): string {
    return name === ISSUER
      ? join(this.local.dir, ISSUER, 'identity')
      : join(this.local.dir, 'agents', name, 'identity')
  }

  /** What the node holds now. */
  identity(name: string): Promise<IdentitySnapshot> {
    return readIdentity(this.identityDir(name))
  }

  // ---- asking

  /**
   * On one connection as long as it works: a new one for each question is most of the work on a small machine. It is
   * opened anew with each new leaf, or it would keep the authority of the old one in trust.
   */
  async asOperator<T>(work: (operator: Operator) => Promise<T>): Promise<T> {
    const { leaf } = await this.identity(ISSUER)
    if (leaf.sha256 !== this.#operatorLeaf) await this.hangUp()
    this.#operatorLeaf = leaf.sha256
    this.#operator ??= this.#openOperator()
    const operator = await this.#operator
    try {
      return await work(operator)
    } catch (cause) {
      await this.hangUp()
      throw cause
    }
  }

  async #openOperator(): Promise<Operator> {
    try {
      const config = await readIssuerConfig(this.local.founded.issuerConfig)
      return { config, names: this.names, nc: await this.connectAs(ISSUER) }
    } catch (cause) {
      this.#operator = null
      throw cause
    }
  }

  /** The next question is asked on a new connection: the one there is waits long for a server that was lost. */
  async hangUp(): Promise<void> {
    const operator = await this.#operator?.catch(() => null)
    this.#operator = null
    await operator?.nc.close()
  }

  /** Asks until there is an answer: a cluster that starts or reloads has moments without one. */
  overview(): Promise<Overview> {
    return eventually(
      () => this.asOperator(({ nc, names, config }) => gatherOverview(nc, names, config, Date.now())),
      { timeout: PATIENCE, interval: 100 },
    )
  }

  /** A connection with the material of a node, as that node would make it. */
  async connectAs(name: string): Promise<NatsConnection> {
    const { servers } = await readIssuerConfig(this.local.founded.issuerConfig)
    const identity = new HeldIdentity(await this.identity(name))
    return connectWith({ servers, identity, name: `test-${name}`, inboxPrefix: this.names.inbox(name) })
  }

  /** A connection of the library, with the identity of the agent that runs here: it moves with each new leaf. */
  async connectService(name: string): Promise<NatsConnection> {
    const identity = this.agents.get(name)?.identity
    if (identity === undefined) throw new TypeError(`the agent of ${name} was not started`)
    const servers = this.local.plans.map(({ host, clientPort }) => `tls://${host}:${clientPort}`)
    return connect({ servers, identity, name: `service-${name}`, inboxPrefix: this.names.inbox(name) })
  }

  /** Every bundle of the issuer on the stream, oldest first; what others wrote is not among them. */
  history(): Promise<StreamBundle[]> {
    return this.asOperator(({ nc, names }) => readHistory(nc, names))
  }

  /** Dials the listeners of every server with this material. */
  async probe(
    material: IdentitySnapshot,
    kinds: readonly ListenerProbe['kind'][] = ['client'],
  ): Promise<ListenerProbe[]> {
    const targets = this.local.plans.flatMap(({ name, host, clientPort, clusterPort }) =>
      kinds.map((kind) => ({
        server: name,
        kind,
        address: `${host}:${kind === 'client' ? clientPort : clusterPort}`,
      })),
    )
    return Promise.all(
      targets.map(async ({ server, kind, address }) => ({
        server,
        kind,
        result: await probeListener({ kind, address }, { material, timeout: PATIENCE }),
      })),
    )
  }

  // ---- rotating

  /** Orders a rotation, or something else, and returns when the issuer has taken the order. */
  async order(reason = 'a test', kind: Order['kind'] = 'rotate', epoch?: number): Promise<void> {
    await eventually(
      () =>
        this.asOperator(async ({ nc, names }) => {
          const order = {
            v: 1,
            kind,
            ...(epoch === undefined ? {} : { epoch }),
            force: false,
            reason,
            by: 'test',
            at: formatInstant(Date.now()),
          }
          const reply = await nc.request(names.orderSubject, encodeRecord(order), { timeout: 5000 })
          const answer = reply.json<{ ok: boolean; message?: string }>()
          if (!answer.ok) throw new Error(answer.message)
          return true
        }),
      { timeout: PATIENCE, interval: 100 },
    )
    // who waits for events now asks nothing, and its connection would keep the old authority in trust
    await this.hangUp()
  }

  /**
   * Waits until no rotation is under way and each of these nodes has the newest bundle, proven, with a leaf of the
   * signing authority, and has said so. `also` may ask for more. The error tells the last troubles of the logs.
   */
  settled(
    nodes: readonly string[] = [...this.agents.keys()],
    also: (overview: Overview) => boolean = () => true,
    timeout = PATIENCE,
  ): Promise<Overview> {
    const settled = eventually(
      async () => {
        const overview = await this.overview()
        const late = overview.agents
          .filter(({ name, status }) => nodes.includes(name) && !isCurrent(overview, status))
          .map(
            ({ name, status }) => `${name}: version ${status?.version}, ${JSON.stringify(status?.lastError)}`,
          )
        if (overview.phase !== 'steady' || overview.ordered || late.length > 0 || !also(overview)) {
          throw new Error(
            `${overview.phase}, version ${overview.version}, ${overview.authorities.length} authorities; ` +
              `waits (${overview.reason}) for ${JSON.stringify(overview.waitingFor)}; late: ${late.join('; ')}`,
          )
        }
        return overview
      },
      { timeout, interval: 100 },
    )
    return settled.catch((cause) => {
      throw new Error(`${cause.message}\nlast troubles:\n${this.#troubles().join('\n')}`, { cause })
    })
  }

  /** One whole ordered rotation. */
  async rotate(nodes?: readonly string[], also?: (overview: Overview) => boolean): Promise<Overview> {
    const before = await this.overview()
    await this.order()
    return this.settled(nodes, (now) => now.active > before.active && (also?.(now) ?? true))
  }

  async stop(): Promise<void> {
    await this.hangUp()
    await Promise.all(
      [...this.agents.keys()]
        .filter((name) => name !== ISSUER && !this.#issuers.has(name))
        .map((name) => this.stopAgent(name)),
    )
    for (const name of [...this.#issuers.keys()]) await this.stopIssuer(name)
    await this.stopAgent(ISSUER)
    await this.local.stop()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #take(event: DomainEvent): void {
    this.events.push(event)
    this.onEvent(event)
  }

  /** The last warnings and errors of issuer and agents. */
  #troubles(count = 12): string[] {
    return this.logs.filter((line) => /"level":"(warn|error)"/.test(line)).slice(-count)
  }

  #logger(node: string): Logger {
    const write = (level: string) => (fields: object, message?: string) => {
      const at = formatInstant(Date.now())
      this.logs.push(JSON.stringify({ at, level, node, ...fields, message }))
    }
    const logger: Logger = {
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      child: () => logger,
    }
    return logger
  }
}

type Status = Overview['agents'][number]['status']

const isCurrent = (overview: Overview, status: Status): boolean =>
  status?.state === 'applied' &&
  status.version === overview.version &&
  status.leaf.issuerEpoch === overview.active
