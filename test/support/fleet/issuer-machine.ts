/**
 * A machine with one issuer on it: the real one, on a simulated network, key store and clock. It is killed, stopped and
 * started again here; what runs in it is put together in `issuer-process.ts`.
 */
import { isDeepStrictEqual } from 'node:util'
import { RotorError } from '../../../src/errors.ts'
import { advance } from '../../../src/rotation/advance.ts'
import {
  type Decision,
  type RotationPolicy,
  type RotationState,
  rotationState,
} from '../../../src/rotation/state.ts'
import type { Epoch, Schedule } from '../../../src/schedule.ts'
import type { Duration, Instant } from '../../../src/time.ts'
import type { Order } from '../../../src/wire/requests.ts'
import type { AgentMachine } from './agent-machine.ts'
import { type Broker, STATE_KEY } from './broker.ts'
import { IssuerProcess } from './issuer-process.ts'
import type { KeyStore } from './key-store.ts'
import type { Network } from './network.ts'
import type { Sabotage } from './options.ts'
import { decodeRecord } from './remembered/record.ts'
import { currentProcess, SimulatedProcess, type Timeline } from './timeline.ts'

/** What the promises want to see of an issuer. */
export interface WatchingIssuer {
  /** A state was written over the one of revision `from`, 0 for none. `decision`: the move it comes from. */
  committed(from: number, revision: number, to: RotationState, decision: Decision | null): void
  /** A state was not written, because another one was there than its writer had read. */
  conflict(): void
  decided(decision: Decision): void
  /** Something was thrown that is no answer to bad luck. */
  failed(error: unknown): void
  deleting(epoch: Epoch): void
  /** The key of a signer with this thumbprint. */
  deletingSigner(kid: string): void
}

export interface IssuerParts {
  readonly timeline: Timeline
  readonly network: Network
  readonly broker: Broker
  readonly keys: KeyStore
  readonly schedule: Schedule
  readonly policy: RotationPolicy
  /** Of a lease. */
  readonly lease: Duration
  readonly agents: readonly AgentMachine[]
  readonly watching: WatchingIssuer
  /** Payload of version 1. */
  readonly genesis: string
}

export class IssuerMachine {
  readonly name: string
  readonly parts: IssuerParts
  process: SimulatedProcess<IssuerMachine> | null = null
  clockOffset: Duration = 0
  readonly #sabotage: Pick<Sabotage, 'decide' | 'lease'>
  readonly #advance: typeof advance
  #inside: IssuerProcess | null = null
  #decision: Decision | null = null

  constructor(name: string, parts: IssuerParts, sabotage: Pick<Sabotage, 'decide' | 'lease'> = {}) {
    this.name = name
    this.parts = parts
    this.#sabotage = sabotage
    this.#advance = sabotage.decide?.(advance) ?? advance
  }

  get running(): boolean {
    return this.process?.alive === true
  }

  readonly clock = { now: (): Instant => Math.floor(this.parts.timeline.now + this.clockOffset) }

  /** Is it certain that it leads? */
  get leads(): boolean {
    return this.process?.run(() => this.#inside?.lease.fence ?? null) != null
  }

  start(): void {
    if (this.running) return
    const { timeline, watching } = this.parts
    const process = new SimulatedProcess<IssuerMachine>(this, timeline, this.clock)
    this.process = process
    this.#decision = null
    timeline.in(0, process, 'the issuer starts', () => {
      const inside = new IssuerProcess(this, process)
      this.#inside = inside
      this.#sabotage.lease?.(inside.lease)
      inside.run().catch((cause) => watching.failed(cause))
    })
  }

  crash(away: Duration): void {
    this.process?.kill()
    this.process = null
    this.#inside = null
    this.parts.timeline.in(away, null, '', () => this.start())
  }

  freeze(until: Instant): void {
    if (this.process !== null) this.process.frozenUntil = Math.max(this.process.frozenUntil, until)
  }

  /** A status was stored; the watch tells it in order, and again after it was cut off. */
  statusStored(agent: string): void {
    const { network, timeline } = this.parts
    const inside = this.#inside
    if (inside === null || this.process === null) return
    if (network.isCut(this.name)) timeline.in(0, this.process, '', () => inside.statuses.miss())
    else timeline.in(network.delay(), this.process, '', () => inside.statuses.take(agent))
  }

  /** A request of an agent, as one of the queue group; never answered when this machine has just started. */
  answer(subject: string, data: Uint8Array, respond: (answer: Uint8Array) => void): void {
    this.#inside?.answer(subject, data, respond).catch((cause) => this.parts.watching.failed(cause))
  }

  order(order: Order): void {
    this.#inside?.order(order).catch((cause) => this.parts.watching.failed(cause))
  }

  // ---- for the stand-ins

  decide(...given: Parameters<typeof advance>): Decision {
    try {
      this.#decision = this.#advance(...given)
    } catch (cause) {
      // a state that others have replaced meanwhile may be in conflict with the stream; the newest one never is
      const old = this.#isReplaced(given[0])
      if (!(RotorError.from(cause).code === 'ERR_STATE_CONFLICT' && old)) this.parts.watching.failed(cause)
      throw cause
    }
    this.parts.watching.decided(this.#decision)
    return this.#decision
  }

  #isReplaced(state: RotationState): boolean {
    const newest = this.parts.broker.read(STATE_KEY)
    if (newest === null) return true
    return !isDeepStrictEqual(decodeRecord(rotationState, newest.text, STATE_KEY), state)
  }

  /** The decision that made this state; null for an order, and for the number of a new leader. */
  decisionFor(state: RotationState): Decision | null {
    const decision = this.#decision
    return decision?.kind === 'move' && decision.to === state ? decision : null
  }
}

/** The machine whose issuer runs now. */
export function currentIssuer(): IssuerMachine {
  const { machine } = currentProcess()
  if (machine instanceof IssuerMachine) return machine
  throw new TypeError(`expected code of an issuer, found that of ${machine.name}`)
}
