/**
 * The issuer's loop: observe, ask `advance`, commit by compare-and-set, perform effects; then wait for the next
 * reason to look. All decisions are in `src/rotation`; a crash anywhere here is answered by the next turn.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { Bell } from '../src/bell.ts'
import { type Signer, signBundle } from '../src/bundle/envelope.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import type { Link } from '../src/nats/link.ts'
import { advance, bootstrap } from '../src/rotation/advance.ts'
import type {
  Decision,
  Effect,
  Observations,
  RotationPolicy,
  RotationState,
  Straggler,
} from '../src/rotation/state.ts'
import { Backoff, Silence } from '../src/tasks.ts'
import { type Clock, type Duration, sleep } from '../src/time.ts'
import { type BundlePayload, bundlePayload } from '../src/wire/bundle.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord } from '../src/wire/record.ts'
import type { Authority } from './authority/authority.ts'
import type { Census } from './census/census.ts'
import type { Prober } from './prober.ts'
import { Report } from './report.ts'
import type { Statuses } from './statuses.ts'
import {
  newestBundle,
  type PublishedBundle,
  publishBundle,
  readState,
  type StoredState,
  writeState,
} from './store.ts'

/** What an issuer tells its owner. Synchronous; `before`/`after` stand on both sides of every write. */
export type IssuerEvent =
  | {
      readonly type: 'commit'
      readonly when: 'before' | 'after'
      readonly move: string
      readonly version: number
      readonly reason: string
    }
  | { readonly type: 'effect'; readonly when: 'before' | 'after'; readonly effect: Effect }
  | { readonly type: 'waiting'; readonly reason: string; readonly waitingFor: readonly Straggler[] }

export interface LoopOptions {
  readonly names: DomainNames
  readonly agents: readonly string[]
  readonly authority: Authority
  readonly signers: readonly Signer[]
  readonly policy: RotationPolicy
  /** Payload text of version 1, written by `rotor init`: what a domain without a record begins with. */
  readonly genesis: string
  readonly prober: Prober
  readonly census: Pick<Census, 'observe'>
  readonly statuses: Statuses
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
  #bundle: BundlePayload | null = null
  #published: PublishedBundle | null = null
  #lastWait = ''
  readonly #report: Report

  constructor(options: LoopOptions) {
    this.#options = options
    this.#report = new Report(options.names, options.clock)
  }

  /** The bundle in force; null before the state was read the first time. */
  get bundle(): BundlePayload | null {
    return this.#bundle
  }

  /** Runs until `signal` aborts. Anything that fails is tried again with patience. */
  async run(link: Pick<Link, 'ready' | 'leave'>, signal: AbortSignal): Promise<void> {
    const { bell, logger } = this.#options
    const backoff = new Backoff({ base: 100, max: 5_000 })
    const silence = new Silence()
    let conflicts = 0
    while (!signal.aborted) {
      try {
        const wait = await this.turn(await link.ready(signal), signal)
        backoff.reset()
        silence.reset()
        conflicts = 0
        if (wait > 0) await bell.wait(wait, signal)
      } catch (cause) {
        if (signal.aborted) return
        const error = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
        conflicts = error.code === 'ERR_STATE_CONFLICT' ? conflicts + 1 : 0
        // A lost race is read again and over; one that stays needs a person: another issuer, or a restored backup.
        if (conflicts === 0 || conflicts >= CONFLICTS_TO_TELL)
          logger.warn({ code: error.code, err: error.message }, 'a turn of the rotation failed')
        if (silence.count(error)) await link.leave(signal)
        await sleep(backoff.next(), signal).catch(() => {})
      }
    }
  }

  /** One turn; returns how long to wait before the next. */
  async turn(nc: NatsConnection, signal: AbortSignal): Promise<Duration> {
    const { names, clock } = this.#options
    const stored = await this.#state(nc)
    const published = await newestBundle(nc, names, this.#options.signers, this.#published)
    this.#published = published
    const decision = advance(
      stored.state,
      await this.#observe(stored.state, published),
      this.#options.policy,
      clock.now(),
    )
    if (decision.kind === 'move') {
      await this.#commit(nc, stored, decision)
      await this.#perform(nc, decision.to, decision.effects, published, signal)
      return 0
    }
    this.#sayWait(decision)
    await this.#perform(nc, stored.state, decision.effects, published, signal)
    const reportIn = await this.#report.write(
      nc,
      stored.state,
      decision,
      this.#options.prober.observe(markOf(stored.state)),
      this.#options.census.observe(stored.state),
    )
    return Math.min(this.#waitFor(decision), reportIn)
  }

  async #state(nc: NatsConnection): Promise<StoredState> {
    const { names, clock, genesis } = this.#options
    let stored = await readState(nc, names)
    if (stored === null) {
      const state = bootstrap({ domain: names.domain, payload: genesis, fence: 0 }, clock.now())
      stored = { state, revision: await writeState(nc, names, state, 0) }
    }
    this.#take(stored.state)
    return stored
  }

  async #observe(state: RotationState, published: PublishedBundle | null): Promise<Observations> {
    const { agents, authority, prober, census, statuses } = this.#options
    return {
      held: await authority.list(),
      published: published?.version ?? 0,
      agents: agents.map((name) => ({ name, status: statuses.get(name) })),
      servers: prober.observe(markOf(state)),
      connections: census.observe(state),
    }
  }

  async #commit(
    nc: NatsConnection,
    stored: StoredState,
    decision: Extract<Decision, { kind: 'move' }>,
  ): Promise<void> {
    const { names, logger, onEvent } = this.#options
    const event = {
      type: 'commit',
      move: decision.move,
      version: decision.to.version,
      reason: decision.reason,
    } as const
    onEvent({ ...event, when: 'before' })
    await writeState(nc, names, decision.to, stored.revision)
    this.#take(decision.to)
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

  async #perform(
    nc: NatsConnection,
    state: RotationState,
    effects: readonly Effect[],
    published: PublishedBundle | null,
    signal: AbortSignal,
  ): Promise<void> {
    for (const effect of effects) {
      this.#options.onEvent({ type: 'effect', when: 'before', effect })
      await this.#performOne(nc, state, effect, published, signal)
      this.#options.onEvent({ type: 'effect', when: 'after', effect })
    }
  }

  async #performOne(
    nc: NatsConnection,
    state: RotationState,
    effect: Effect,
    published: PublishedBundle | null,
    signal: AbortSignal,
  ): Promise<void> {
    const { names, authority, prober, signers, logger } = this.#options
    switch (effect.kind) {
      case 'create-authority':
        await authority.prepare(effect.epoch, effect)
        logger.info({ epoch: effect.epoch }, 'authority created')
        return
      case 'publish-bundle':
        await publishBundle(
          nc,
          names,
          await signBundle(state.payload, signers),
          state.version,
          published?.sequence ?? 0,
        )
        logger.info({ version: state.version }, 'bundle published')
        return
      case 'probe-servers':
        await prober.probe(effect.epoch, decodePayload(state.payload), markOf(state), signal)
        return
      case 'delete-authority':
        await authority.delete(effect.epoch)
        logger.info({ epoch: effect.epoch }, 'authority deleted')
    }
  }

  #waitFor(decision: Extract<Decision, { kind: 'wait' }>): Duration {
    const probing = decision.effects.some((effect) => effect.kind === 'probe-servers')
    if (decision.effects.length > 0 && !probing) return 0
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

  #take(state: RotationState): void {
    if (this.#bundle?.version !== state.version) this.#bundle = decodePayload(state.payload)
  }
}

/** What proofs count for: what was seen before a phase began proves nothing in it. */
const markOf = (state: RotationState): string => `${state.phase} ${state.phaseVersion}`

const decodePayload = (text: string): BundlePayload =>
  decodeRecord(bundlePayload, text, 'payload of the rotation state')
