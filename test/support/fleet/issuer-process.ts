/**
 * One life of an issuer: the real loop, lease, prober, signers, orders and turns, put together as `issuer/issuer.ts` does.
 * Written again here is what stands on certificates and statuses: the answer to a signing request, and the watch.
 */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { FileHistory } from '../../../issuer/history/files.ts'
import { Lease } from '../../../issuer/lease/lease.ts'
import { liveWatch } from '../../../issuer/live-watch.ts'
import { Loop } from '../../../issuer/loop/loop.ts'
import { handleOrder } from '../../../issuer/orders.ts'
import { Prober } from '../../../issuer/prober.ts'
import { SignerStore } from '../../../issuer/signers.ts'
import { readState } from '../../../issuer/store.ts'
import { turnFacts } from '../../../issuer/turn-facts.ts'
import { Turns } from '../../../issuer/turns.ts'
import { StateView } from '../../../issuer/view.ts'
import { Bell } from '../../../src/bell.ts'
import { type AgentEntry, agentEntry } from '../../../src/domain/agents.ts'
import { silentLogger as logger } from '../../../src/log.ts'
import { formatInstant } from '../../../src/time.ts'
import { domainNames } from '../../../src/wire/names.ts'
import { encodeRecord } from '../../../src/wire/record.ts'
import type { Order } from '../../../src/wire/requests.ts'
import { SimulatedAuthority } from './authority.ts'
import { STATE_KEY } from './broker.ts'
import type { IssuerMachine } from './issuer-machine.ts'
import { DOMAIN, HISTORY_DIR, KEYS_DIR, type KeyStore } from './key-store.ts'
import { signLeaf } from './signing.ts'
import { IssuerStatuses } from './statuses.ts'
import type { SimulatedProcess } from './timeline.ts'

/** Sockets are what agents report of themselves here; of others there are none. */
const COUNTED_NOBODY = {
  at: Number.MAX_SAFE_INTEGER,
  problem: null,
  standing: [],
  foreign: { count: 0, examples: [] },
}
const names = domainNames(DOMAIN)
/** Never aborted: a process ends by being killed. */
const forever = (): AbortSignal => new AbortController().signal
/** The stand-ins ask the machine of the process that calls them. */
const nc = {} as NatsConnection
const link = { ready: async () => nc, leave: async () => {} }

export class IssuerProcess {
  readonly lease: Lease
  readonly statuses: IssuerStatuses
  readonly #machine: IssuerMachine
  readonly #keys: KeyStore
  readonly #bell = new Bell()
  readonly #authority: SimulatedAuthority
  readonly #signers = new SignerStore({ dir: KEYS_DIR })
  readonly #view: StateView
  readonly #turns: Turns
  readonly #loop: Loop

  constructor(machine: IssuerMachine, process: SimulatedProcess) {
    const { clock, name, parts } = machine
    const { policy, keys, genesis } = parts
    const changed = () => this.#bell.ring()
    this.#machine = machine
    this.#keys = keys
    this.#authority = new SimulatedAuthority(parts)
    this.statuses = new IssuerStatuses(process, parts, changed)
    this.lease = new Lease({ names, name, duration: parts.lease, clock, logger, changed })
    this.#view = new StateView({
      read: async () => (await readState(nc, names))?.state ?? null,
      maxAge: parts.lease,
    })
    const members = parts.agents.map(entryOf)
    const registry = { members: () => members }
    const prober = new Prober({
      agents: registry.members,
      authority: this.#authority,
      spiffeId: names.spiffeId(name),
      clock,
      logger,
    })
    this.#loop = new Loop({
      names,
      agents: () => members.map((agent) => agent.name),
      authority: this.#authority,
      signers: this.#signers,
      policy,
      genesis,
      history: new FileHistory(HISTORY_DIR),
      spiffeId: names.spiffeId(name),
      prober,
      census: { observe: () => COUNTED_NOBODY, kick: async () => {} },
      statuses: this.statuses,
      // its connections need no leaf here
      own: () => ({ name, epoch: null, notAfter: 0 }),
      lease: this.lease,
      view: this.#view,
      storesLost: () => {},
      bell: this.#bell,
      clock,
      logger,
      onEvent: () => {},
    })
    const { statuses } = this
    this.#turns = new Turns(names, clock, () =>
      turnFacts({ view: this.#view, registry, statuses, loop: this.#loop, clock }),
    )
  }

  async run(): Promise<void> {
    await this.#signers.refresh()
    await this.lease.attachment(nc)
    await liveWatch(nc, { bucket: names.stateBucket, key: STATE_KEY, take: () => this.#bell.ring(), logger })
    await Promise.all([
      this.#loop.run(link, forever()),
      this.lease.run(link, forever()),
      this.statuses.follow(),
    ])
  }

  async answer(subject: string, data: Uint8Array, respond: (answer: Uint8Array) => void): Promise<void> {
    const [, , kind, agent = ''] = subject.split('.')
    if (kind === 'time') {
      const serverTime = formatInstant(this.#machine.clock.now())
      if (this.lease.fence !== null) respond(encodeRecord({ v: 1, serverTime }))
    } else if (kind === 'sign') {
      respond(encodeRecord(await this.#sign(agent, Buffer.from(data).toString())))
    } else await this.#turns.handle(nc, message(subject, data, respond), forever())
  }

  order(order: Order): Promise<void> {
    const { clock, parts } = this.#machine
    const asked = message(names.orderSubject, encodeRecord(order), () => {})
    return handleOrder(nc, asked, {
      names,
      authority: this.#authority,
      signers: this.#signers,
      clock,
      logger,
      agents: () => parts.agents.map(({ name }) => ({ name, status: this.statuses.get(name) })),
      accepted: (state) => {
        this.#view.take(state, this.#view.now())
        this.#bell.ring()
      },
    })
  }

  async #sign(agent: string, proof: string) {
    const { clock, parts } = this.#machine
    // too old a view is read again, and that may fail: then nothing is known
    const bundle = await this.#view.current().catch(() => null)
    return signLeaf(agent, proof, {
      bundle,
      tainted: this.#view.tainted,
      keys: this.#keys,
      schedule: parts.schedule,
      now: clock.now(),
      serial: parts.timeline.random.int(0, 2 ** 31),
    })
  }
}

const message = (subject: string, data: Uint8Array, respond: (answer: Uint8Array) => void): Msg =>
  ({ subject, data, respond }) as unknown as Msg

const entryOf = ({ name, role }: { name: string; role: AgentEntry['role'] }): AgentEntry => {
  const listeners = role === 'server' ? [{ kind: 'client', address: `${name}:4222` }] : []
  return agentEntry.parse({ name, role, listeners })
}
