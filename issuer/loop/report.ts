/**
 * Writes what the issuer waits for into the state bucket, when it changed and not too often. By compare-and-set, so that
 * what a former leader says late is refused.
 */
import { jetstream } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import type { RotorError } from '../../src/errors.ts'
import type {
  Decision,
  ObservedConnections,
  ObservedServer,
  RotationState,
} from '../../src/rotation/state.ts'
import { type Clock, type Duration, formatInstant, type Instant } from '../../src/time.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { encodeRecord } from '../../src/wire/record.ts'
import { type IssuerProblem, type IssuerReport, PROBLEM_KEY, REPORT_KEY } from '../../src/wire/report.ts'
import { conflictOr } from '../store.ts'

const AT_MOST_EVERY: Duration = 250

export class Report {
  readonly #names: DomainNames
  readonly #clock: Clock
  #written = ''
  #lastWrite: Instant = 0
  #reason = ''
  #since: Instant = 0
  #rebuilt: IssuerReport['rebuilt'] = null
  /** As it was written last; undefined when nothing was. */
  #problem: IssuerProblem['problem'] | undefined = undefined
  /** Of the records as we read or wrote them last, by key. */
  readonly #revisions = new Map<string, number>()

  constructor(names: DomainNames, clock: Clock) {
    this.#names = names
    this.#clock = clock
  }

  /** The state was made again from this version: told in every report from now on. */
  rebuiltFrom(version: number): void {
    this.#rebuilt = { at: formatInstant(this.#clock.now()), version }
  }

  /** What was written may have been written over by another leader. */
  forget(): void {
    this.#written = ''
    this.#problem = undefined
    this.#revisions.clear()
  }

  /** Whether a turn of the rotation went well. Written when that changes, so that `rotor status` can say it. */
  async problem(nc: NatsConnection, error: RotorError | null): Promise<void> {
    if (this.#problem !== undefined && this.#problem?.code === error?.code) return
    const since = formatInstant(this.#clock.now())
    const problem = error === null ? null : { code: error.code, message: error.message, since }
    const record: IssuerProblem = { v: 1, problem }
    await this.#put(nc, PROBLEM_KEY, record)
    this.#problem = problem
  }

  /** Returns in how many milliseconds it wants to be called again: soon, when a change waits to be written. */
  async write(
    nc: NatsConnection,
    state: RotationState,
    decision: Extract<Decision, { kind: 'wait' }>,
    servers: readonly ObservedServer[],
    connections: ObservedConnections,
  ): Promise<Duration> {
    const now = this.#clock.now()
    const reason = `${state.phase} ${decision.reason}`
    if (reason !== this.#reason) {
      this.#reason = reason
      this.#since = now
    }
    const said = {
      version: state.version,
      phase: state.phase,
      reason: decision.reason,
      since: formatInstant(this.#since),
      rebuilt: this.#rebuilt,
      waitingFor: decision.waitingFor.map(({ name, kind, missing }) => ({ name, kind, missing })),
      servers: servers.map(({ name, agent, listeners }) => ({
        name,
        agent,
        listeners: listeners.map(({ kind, address, proof }) => ({
          kind,
          address,
          serves: proof?.serves ?? null,
          error: proof?.error ?? null,
        })),
      })),
      census: {
        problem: connections.problem,
        // who stands on the signing one changes all the time, and nobody waits for it
        standing: connections.standing.filter(({ epoch }) => epoch !== state.active),
        foreign: connections.foreign,
      },
    }
    const text = JSON.stringify(said)
    if (text === this.#written) return Number.POSITIVE_INFINITY
    const early = this.#lastWrite + AT_MOST_EVERY - now
    if (early > 0) return early
    const report: IssuerReport = { v: 1, at: formatInstant(now), ...said }
    await this.#put(nc, REPORT_KEY, report)
    this.#written = text
    this.#lastWrite = now
    return Number.POSITIVE_INFINITY
  }

  /** Throws ERR_STATE_CONFLICT when somebody else wrote; what we know is forgotten then. */
  async #put(nc: NatsConnection, key: string, record: IssuerReport | IssuerProblem): Promise<void> {
    const bucket = this.#names.stateBucket
    const kv = await new Kvm(jetstream(nc, { timeout: 5000 })).open(bucket)
    const known = this.#revisions.get(key) ?? (await kv.get(key))?.revision ?? 0
    try {
      const bytes = encodeRecord(record)
      const revision = known === 0 ? await kv.create(key, bytes) : await kv.update(key, bytes, known)
      this.#revisions.set(key, revision)
    } catch (cause) {
      this.forget()
      throw conflictOr(cause, `${bucket}/${key}: another issuer wrote after revision ${known}`)
    }
  }
}
