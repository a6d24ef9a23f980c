/**
 * The issuer's loop: observe, ask `advance`, commit by compare-and-set, perform effects; then wait for the next
 * reason to look. All decisions are in `src/rotation`; a crash anywhere here is answered by the next turn. Only the
 * leader has turns; who stands by reads the state, so that it can sign and answer.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { Bell } from '../../src/bell.ts'
import { formatReading, surelyOff } from '../../src/clock-reading.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { Link } from '../../src/nats/link.ts'
import { advance } from '../../src/rotation/advance.ts'
import { toleratesFailure } from '../../src/rotation/budget.ts'
import type {
  Decision,
  Effect,
  Observations,
  OwnLeaf,
  RotationPolicy,
  RotationState,
} from '../../src/rotation/state.ts'
import { Backoff, Silence } from '../../src/tasks.ts'
import { type Clock, type Duration, formatDuration, sleep } from '../../src/time.ts'
import { type BundlePayload, bundlePayload } from '../../src/wire/bundle.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import type { Authority } from '../authority/authority.ts'
import type { Census } from '../census/census.ts'
import type { BundleHistory } from '../history/history.ts'
import type { Lease } from '../lease/lease.ts'
import type { Prober } from '../prober.ts'
import type { SignerStore } from '../signers.ts'
import type { Statuses } from '../statuses.ts'
import { isStoreMissing, newestBundle, type PublishedBundle, type StoredState } from '../store.ts'
import type { StateView } from '../view.ts'
import { Effects } from './effects.ts'
import type { IssuerEvent } from './events.ts'
import { FencedState } from './fenced.ts'
import { rehearse } from './rehearsal.ts'
import { Report } from './report.ts'
import { heldRoots, Signers } from './roots.ts'

export interface LoopOptions {
  readonly names: DomainNames
  /** Every agent of the domain now: a rotation waits for these. */
  readonly agents: () => readonly string[]
  readonly authority: Authority
  readonly signers: SignerStore
  readonly policy: RotationPolicy
  /** Payload text of version 1, written by `rotor init`: what a domain without a record begins with. */
  readonly genesis: string
  /** Every bundle before it is published. */
  readonly history: BundleHistory
  /** SPIFFE ID of the leaves that are made to be looked at only: the issuer's own. */
  readonly spiffeId: string
  readonly prober: Prober
  readonly census: Pick<Census, 'observe' | 'kick'>
  readonly statuses: Pick<Statuses, 'get'>
  /** The leaf that this issuer holds now. */
  readonly own: () => OwnLeaf
  readonly lease: Lease
  readonly view: StateView
  /** Stream or buckets are gone: they are made again with the next connection. */
  readonly storesLost: () => void
  readonly bell: Bell
  readonly clock: Clock
  readonly logger: Logger
  readonly onEvent: (event: IssuerEvent) => void
}

/** Longest time between two looks at the world, whatever the decision says. */
const LOOK_AGAIN: Duration = 2_000
/** Conflicts in a row after which they are told. */
const CONFLICTS_TO_TELL = 3
/** How soon a probe that did not prove everything is made again. */
const PROBE_AGAIN: Duration = 100

export class Loop {
  readonly #options: LoopOptions
  #published: PublishedBundle | null = null
  #lastWait = ''
  readonly #report: Report
  readonly #effects: Effects
  readonly #fenced: FencedState
  readonly #rootsOf = new Signers()
  /** The fencing number of our turns; null while we stand by. */
  #fence: number | null = null
  /** What the last turn was decided by; null while we stand by. */
  #judged: { readonly state: RotationState; readonly seen: Observations } | null = null
  /** Who leads was told the first time. */
  #told = false

  constructor(options: LoopOptions) {
    this.#options = options
    this.#effects = new Effects(options)
    this.#report = new Report(options.names, options.clock)
    this.#fenced = new FencedState({
      ...options,
      rebuilt: (version) => {
        this.#report.rebuiltFrom(version)
        options.onEvent({ type: 'rebuilt', version })
      },
    })
  }

  /** May the other servers go on although this one has put a version back? Who stands by does not know. */
  tolerates(agent: string): boolean {
    const { policy, clock } = this.#options
    if (this.#judged === null) return false
    const { state, seen } = this.#judged
    return toleratesFailure(state, seen, policy, clock.now(), agent)
  }

  /** Was this server seen to take what the phase is for? Null when that is not known here. */
  confirms(agent: string): boolean | null {
    if (this.#judged === null) return null
    const { state } = this.#judged
    if (state.phase !== 'distributing') return true
    const { next } = state
    return this.#options.prober
      .observe(markOf(state))
      .filter((server) => server.agent === agent)
      .every(({ listeners }) => listeners.every(({ proof }) => proof?.accepts.includes(next) === true))
  }

  /** Runs until `signal` aborts. Anything that fails is tried again with patience. */
  async run(link: Pick<Link, 'ready' | 'leave'>, signal: AbortSignal): Promise<void> {
    const { bell, logger } = this.#options
    const backoff = new Backoff({ base: 100, max: 5_000 })
    const silence = new Silence()
    let conflicts = 0
    while (!signal.aborted) {
      let nc: NatsConnection | null = null
      try {
        nc = await link.ready(signal)
        const fence = this.#role()
        const wait = fence === null ? await this.#standBy(nc) : await this.#turn(nc, fence, signal)
        if (fence !== null) await this.#report.problem(nc, null)
        backoff.reset()
        silence.reset()
        conflicts = 0
        if (wait > 0) await bell.wait(wait, signal)
      } catch (cause) {
        if (signal.aborted) return
        const error = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
        conflicts = error.code === 'ERR_STATE_CONFLICT' ? conflicts + 1 : 0
        // A lost race is read again and over; one that stays needs a person: another issuer, or a restored backup.
        if (conflicts === 0 || conflicts >= CONFLICTS_TO_TELL) {
          logger.warn({ code: error.code, err: error.message }, 'a turn of the rotation failed')
          this.#fenced.doubt()
        }
        // What a next turn mends by itself, or NATS does not let us write, is not worth telling.
        if (nc !== null && this.#fence !== null && !/^ERR_(NATS|STATE)/.test(error.code)) {
          await this.#report.problem(nc, error).catch(() => {})
        }
        const lost = isStoreMissing(cause)
        if (lost) this.#options.storesLost()
        if (lost || silence.count(error)) await link.leave(signal)
        await sleep(backoff.next(), signal).catch(() => {})
      }
    }
  }

  /** Do we lead, and with which number? What a former time as the leader knew counts for nothing. */
  #role(): number | null {
    const { lease, authority, onEvent, logger } = this.#options
    const { fence, holder } = lease
    // at the start nobody knows yet
    if (fence === this.#fence && (this.#told || holder === null)) return fence
    this.#told = true
    this.#fence = fence
    this.#fenced.doubt()
    authority.doubt?.()
    this.#judged = null
    this.#published = null
    this.#lastWait = ''
    this.#report.forget()
    if (fence === null) onEvent({ type: 'stands-by', leader: holder })
    else onEvent({ type: 'leads', fence })
    logger.info(
      fence === null ? { leader: holder } : { fence },
      fence === null ? 'this issuer stands by' : 'this issuer leads',
    )
    return fence
  }

  /** Keeps up with the leader: the bundle to sign by, and the keys of a store that others change. */
  async #standBy(nc: NatsConnection): Promise<Duration> {
    const { view, authority, signers } = this.#options
    const since = view.now()
    const read = await this.#fenced.read(nc)
    if (read !== null && view.take(read.state, since)) {
      await authority.list()
      await authority.rootStore?.held()
      await signers.refresh()
    }
    return LOOK_AGAIN
  }

  /** One turn; returns how long to wait before the next. */
  async #turn(nc: NatsConnection, fence: number, signal: AbortSignal): Promise<Duration> {
    const { names, clock, signers, policy, view } = this.#options
    const since = view.now()
    const read = await this.#fenced.read(nc)
    // another issuer may have changed the signer while we stood by
    await signers.refresh()
    const published = await newestBundle(nc, names, signers.held, this.#published)
    this.#published = published
    const stored = await this.#fenced.take(nc, fence, read, published)
    view.take(stored.state, since)
    this.#assertClock()
    const seen = await this.#observe(stored.state, published)
    this.#judged = { state: stored.state, seen }
    const decision = advance(stored.state, seen, policy, clock.now())
    if (decision.kind === 'move') {
      await this.#commit(nc, stored, decision)
      await this.#perform(nc, decision.to, decision.effects, signal)
      return 0
    }
    this.#sayWait(decision)
    await this.#perform(nc, stored.state, decision.effects, signal)
    const reportIn = await this.#report.write(
      nc,
      stored.state,
      decision,
      this.#options.prober.observe(markOf(stored.state)),
      this.#options.census.observe(stored.state),
    )
    return Math.min(this.#waitFor(decision), reportIn)
  }

  /** A clock far ahead makes every authority look ended. Nothing moves by it. Throws ERR_CLOCK_SKEW. */
  #assertClock(): void {
    const { lease, view } = this.#options
    const reading = lease.serverClock
    const lead = view.bundle?.schedule.lead
    if (reading === null || lead === undefined || surelyOff(reading) < lead) return
    throw new RotorError(
      'ERR_CLOCK_SKEW',
      `the clock of this issuer and that of nats-server differ by ${formatReading(reading)}, the lead is ${formatDuration(lead)}; nothing moves until they agree`,
    )
  }

  async #observe(state: RotationState, published: PublishedBundle | null): Promise<Observations> {
    const { agents, authority, prober, census, statuses, signers, own } = this.#options
    const bundle = decodePayload(state.payload)
    const held = await authority.list()
    const roots = await heldRoots(authority, bundle, state.newestRoot)
    return {
      held,
      roots,
      signers: await signers.observe(bundle),
      signedBy: this.#rootsOf.of(bundle, held, roots),
      published: published?.version ?? 0,
      agents: agents().map((name) => ({ name, status: statuses.get(name) })),
      servers: prober.observe(markOf(state)),
      connections: census.observe(state),
      own: own(),
    }
  }

  async #commit(
    nc: NatsConnection,
    stored: StoredState,
    decision: Extract<Decision, { kind: 'move' }>,
  ): Promise<void> {
    const { logger, onEvent, lease, view } = this.#options
    await this.#rehearse(stored.state, decision.to)
    const event = {
      type: 'commit',
      move: decision.move,
      version: decision.to.version,
      reason: decision.reason,
    } as const
    lease.assertLeads(stored.state.fence)
    onEvent({ ...event, when: 'before' })
    const since = view.now()
    await this.#fenced.write(nc, decision.to, stored.revision)
    view.take(decision.to, since)
    this.#judged = this.#judged && { ...this.#judged, state: decision.to }
    this.#lastWait = ''
    logger.info(
      {
        move: decision.move,
        version: decision.to.version,
        phase: decision.to.phase,
        reason: decision.reason,
      },
      'rotation moved',
    )
    onEvent({ ...event, when: 'after' })
  }

  /** An authority enters a bundle only when leaves of it, and of the one that signs now, will verify. */
  async #rehearse(from: RotationState, to: RotationState): Promise<void> {
    const { authority, clock, spiffeId } = this.#options
    const [before, after] = [decodePayload(from.payload), decodePayload(to.payload)]
    const known = before.authorities.map(({ epoch }) => epoch)
    const next = after.authorities.find(({ epoch }) => !known.includes(epoch))?.epoch
    if (next === undefined) return
    await rehearse({ authority, spiffeId, before, after, next, now: clock.now() })
  }

  #perform(nc: NatsConnection, state: RotationState, effects: readonly Effect[], signal: AbortSignal) {
    const sequence = this.#published?.sequence ?? 0
    return this.#effects.performAll(effects, { nc, state, mark: markOf(state), sequence, signal })
  }

  #waitFor(decision: Extract<Decision, { kind: 'wait' }>): Duration {
    const probing = decision.effects.some(({ kind }) => kind === 'probe-servers' || kind === 'prove-distrust')
    const kicking = decision.effects.some(({ kind }) => kind === 'kick-connections')
    if (decision.effects.length > 0 && !probing && !kicking) return 0
    const until =
      decision.until === null ? LOOK_AGAIN : Math.max(1, decision.until - this.#options.clock.now())
    return Math.min(until, probing ? PROBE_AGAIN : LOOK_AGAIN)
  }

  #sayWait(decision: Extract<Decision, { kind: 'wait' }>): void {
    const text = JSON.stringify([decision.reason, decision.waitingFor])
    if (text === this.#lastWait) return
    this.#lastWait = text
    const { logger, onEvent } = this.#options
    const names = [...new Set(decision.waitingFor.map((straggler) => straggler.name))]
    logger.info({ reason: decision.reason, waitingFor: names }, 'rotation waits')
    onEvent({ type: 'waiting', reason: decision.reason, waitingFor: decision.waitingFor })
  }
}

/** What proofs count for: what was seen before a phase began proves nothing in it. */
const markOf = (state: RotationState): string => `${state.phase} ${state.phaseVersion}`

const decodePayload = (text: string): BundlePayload =>
  decodeRecord(bundlePayload, text, 'payload of the rotation state')
