/**
 * Counts the live connections of the domain again and again, so that the rotation knows who still stands on an old
 * authority; and, where the policy says so, asks those to move whom nobody of ours moves.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import PQueue from 'p-queue'
import { Bell } from '../../src/bell.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { Link } from '../../src/nats/link.ts'
import { hasControlRequests } from '../../src/nats/server-info.ts'
import { type LiveConnection, observed, placeAll } from '../../src/rotation/census.ts'
import type { ObservedConnections, RotationState } from '../../src/rotation/state.ts'
import { keyOf, type StrangerPolicy, strangerSteps } from '../../src/rotation/strangers.ts'
import type { Epoch } from '../../src/schedule.ts'
import { Backoff } from '../../src/tasks.ts'
import { type Clock, type Duration, type Instant, sleep } from '../../src/time.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { askToMove } from './asking.ts'
import { countConnections, type ServerCount } from './count.ts'
import { knownOf, Leaves } from './known.ts'

export interface CensusOptions {
  readonly names: DomainNames
  /** Every agent of the domain now. */
  readonly agents: () => readonly { readonly name: string; readonly role: string }[]
  readonly statuses: () => readonly AgentStatus[]
  /** Does this issuer lead? Who stands by neither counts nor asks anybody to move. */
  readonly leads: () => boolean
  /** Absent: nobody is asked to move. */
  readonly strangers?: StrangerPolicy | undefined
  /** Called after each count. */
  readonly counted: () => void
  readonly clock: Clock
  readonly logger: Logger
}

const EVERY: Duration = 2_000
const AT_MOST: Duration = 30_000
/** A count may take this part of the time: sorting its list is work of the server, once for each page. */
const SHARE = 1 / 10
/** A count that is not complete is made again; one that stays so for this long is believed. Servers do restart. */
const BELIEVED_AFTER: Duration = 30_000
/** Hints a second; a client that hears one dials anew. */
const HINTS_PER_SECOND = 10
/** Connections of a stolen authority that are ended at the same time. */
const KICKS_AT_ONCE = 16

const NOTHING: ServerCount = { at: 0, connections: [], problem: null, servers: [], took: 0 }

export class Census {
  readonly #options: CensusOptions
  readonly #leaves = new Leaves()
  readonly #bell = new Bell()
  readonly #hinted = new Map<string, Instant>()
  /** When the connections of a tainted authority were ended. */
  readonly #cleared = new Map<Epoch, Instant>()
  /** The last one that was complete, or is believed not to become it. */
  #count = NOTHING
  #failingSince: Instant | null = null
  #state: RotationState | null = null
  #told: {
    readonly of: ServerCount
    readonly state: RotationState
    readonly seen: ObservedConnections
  } | null = null

  constructor(options: CensusOptions) {
    this.#options = options
  }

  /** The last count, judged with this state. With each new phase the connections are counted at once. */
  observe(state: RotationState): ObservedConnections {
    if (this.#state?.phase !== state.phase || this.#state.since !== state.since) this.#bell.ring()
    this.#state = state
    const told = this.#told
    if (
      told?.of === this.#count &&
      told.state.version === state.version &&
      told.state.phase === state.phase
    ) {
      return told.seen
    }
    const seen = observed(this.#count, placeAll(this.#count.connections, this.#known(state)))
    this.#told = { of: this.#count, state, seen }
    return seen
  }

  /** Runs until `signal` aborts. */
  async run(link: Pick<Link, 'ready'>, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ base: 200, max: EVERY })
    while (!signal.aborted) {
      const nc = await link.ready(signal)
      if (!this.#options.leads()) {
        await this.#bell.wait(AT_MOST, signal)
        continue
      }
      await this.#again(nc)
      const wanted = Math.max(EVERY, this.#count.took / SHARE)
      if (this.#failingSince === null) backoff.reset()
      else await backoff.wait(signal)
      await this.#moveStrangers(nc, signal).catch((cause) => {
        signal.throwIfAborted()
        this.#options.logger.warn({ ...codeOf(cause) }, 'no connection was asked to move')
      })
      await this.#bell.wait(this.#inDoubt() ? 0 : Math.min(AT_MOST, wanted), signal)
    }
  }

  /**
   * Ends what stands on an authority that left trust, or may, and counts again: who is there still can not be ended, or
   * needs longer. Our own connection stays, it is on the leaf of our identity. For when no server takes a leaf of it any more.
   */
  async kick(nc: NatsConnection, epoch: Epoch, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options
    const at = clock.now()
    if (this.#state === null || !(await this.#again(nc))) return
    const own = ownKey(nc)
    const standing = placeAll(this.#count.connections, this.#known(this.#state)).filter(
      ({ connection, epochs }) =>
        epochs.includes(epoch) && isEndable(connection) && keyOf(connection) !== own,
    )
    const queue = new PQueue({ concurrency: KICKS_AT_ONCE })
    await queue.addAll(
      standing.map(({ connection }) => async () => {
        signal.throwIfAborted()
        await askToMove(nc, { kind: 'KICK', connection, epoch }, logger)
      }),
    )
    this.#cleared.set(epoch, at)
    this.#told = null
    if (standing.length > 0) await this.#again(nc)
  }

  #inDoubt(): boolean {
    return this.#failingSince !== null && this.#options.clock.now() - this.#failingSince < BELIEVED_AFTER
  }

  /** False when not all could be counted, and that is not believed yet. */
  async #again(nc: NatsConnection): Promise<boolean> {
    const { agents, clock, logger, counted } = this.#options
    const expected = agents().flatMap(({ name, role }) => (role === 'server' ? [name] : []))
    const now = clock.now()
    const count = await countConnections(nc, { expected, now })
    this.#failingSince = count.problem === null ? null : (this.#failingSince ?? now)
    if (this.#inDoubt()) {
      logger.debug({ err: count.problem }, 'not all connections were counted yet')
      return false
    }
    if (count.problem !== null && count.problem !== this.#count.problem) {
      logger.warn(
        { code: 'ERR_NATS_UNAVAILABLE', err: count.problem },
        'not all connections could be counted',
      )
    }
    this.#count = count
    counted()
    return true
  }

  #known(state: RotationState) {
    const { names, agents, statuses } = this.#options
    const { servers } = this.#count
    for (const epoch of this.#cleared.keys())
      if (state.tainted[epoch] === undefined) this.#cleared.delete(epoch)
    const domain = { names, state, statuses: statuses(), agents: agents(), servers, cleared: this.#cleared }
    return knownOf(domain, this.#leaves)
  }

  /** As many steps as fit between two counts. */
  async #moveStrangers(nc: NatsConnection, signal: AbortSignal): Promise<void> {
    const { strangers: policy, clock } = this.#options
    if (policy === undefined || this.#state === null) return
    const { connections, servers } = this.#count
    const alive = new Set(connections.map(keyOf))
    for (const key of this.#hinted.keys()) if (!alive.has(key)) this.#hinted.delete(key)
    const known = this.#known(this.#state)
    const able = new Set(servers.filter(({ version }) => hasControlRequests(version)).map(({ id }) => id))
    const own = ownKey(nc)
    const steps = strangerSteps(
      placeAll(connections, known),
      known,
      policy,
      this.#hinted,
      clock.now(),
    ).filter(({ connection }) => able.has(connection.serverId) && keyOf(connection) !== own)
    const end = clock.now() + EVERY
    for (const step of steps) {
      const rate = step.kind === 'LDM' ? HINTS_PER_SECOND : (policy.kick?.perSecond ?? 1)
      await askToMove(nc, step, this.#options.logger)
      if (step.kind === 'LDM') this.#hinted.set(keyOf(step.connection), clock.now())
      await sleep(1000 / rate, signal)
      if (clock.now() >= end) return
    }
  }
}

const ownKey = ({ info }: NatsConnection): string =>
  keyOf({ serverId: info?.server_id ?? '', cid: info?.client_id ?? -1 })

/** A server ends clients and leaf nodes on request; routes and gateways come back by themselves. */
const isEndable = ({ kind }: LiveConnection): boolean => kind === 'client' || kind === 'leafnode'

function codeOf(cause: unknown): { code: string; err: string } {
  const { code, message } = RotorError.from(cause)
  return { code, err: message }
}
