/**
 * One nats-server at a time: its agent takes the turn before it changes files and gives it back when the server is
 * proven. The first to take it is the canary of a version: when it has to put the old files back, nobody else starts.
 * The record is in the state bucket, so a restarted or a second issuer goes on with it.
 */
import { JetStreamApiError, jetstream } from '@nats-io/jetstream'
import { type KV, Kvm } from '@nats-io/kv'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { z } from 'zod'
import { Bell } from '../src/bell.ts'
import { RotorError } from '../src/errors.ts'
import { natsFailure } from '../src/nats/failure.ts'
import { type Clock, type Duration, formatInstant, type Instant } from '../src/time.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../src/wire/record.ts'
import { type TurnAnswer, type TurnRequest, turnRequest } from '../src/wire/requests.ts'

const TURN_KEY = 'turn'
/** A holder that does not come back for this long has lost its turn; half an epoch where epochs are short. */
export const turnTime = (epochDuration: Duration): Duration =>
  Math.min(20_000, Math.max(2_000, epochDuration / 2))
/** How long a request may wait for its turn before it is told to ask again. */
const WAIT: Duration = 3_000
const LOOK_AGAIN: Duration = 250

const turnRecord = z.object({
  v: z.literal(1),
  holder: z.object({ agent: z.string(), version: z.int() }).nullable(),
  until: z.number(),
  /** Who had to put back which version. */
  failed: z.object({ agent: z.string(), version: z.int() }).nullable(),
})
export type TurnRecord = z.infer<typeof turnRecord>

export const NO_TURN: TurnRecord = { v: 1, holder: null, until: 0, failed: null }

export interface TurnFacts {
  readonly now: Instant
  /** How long a holder that says nothing keeps the turn. */
  readonly turnTime: Duration
  /** Does the status of this holder show that its step has ended, well or put back? A release may get lost. */
  readonly hasEnded: (holder: { readonly agent: string; readonly version: number }) => boolean
}

/** The decision: the record after the request, or why not now. Pure. */
export function takeTurn(
  record: TurnRecord,
  request: TurnRequest,
  { now, turnTime, hasEnded }: TurnFacts,
): { next: TurnRecord } | { refused: string; final: boolean } {
  const { agent, version } = request
  const { holder } = record
  if (request.op === 'release') {
    const failed =
      request.outcome === 'rolled-back'
        ? { agent, version }
        : record.failed?.agent === agent || (record.failed?.version ?? 0) < version
          ? null
          : record.failed
    return {
      next: holder?.agent === agent ? { v: 1, holder: null, until: 0, failed } : { ...record, failed },
    }
  }
  const { failed } = record
  if (failed !== null && failed.version === version && failed.agent !== agent) {
    return { refused: `${failed.agent} had to put version ${version} back`, final: true }
  }
  if (holder !== null && holder.agent !== agent && record.until > now && !hasEnded(holder)) {
    return { refused: `it is the turn of ${holder.agent}`, final: false }
  }
  return { next: { ...record, holder: { agent, version }, until: now + turnTime } }
}

type Refused = { readonly refused: string; readonly final: boolean }

interface StoredTurn {
  readonly record: TurnRecord
  /** 0 when there is none. */
  readonly revision: number
}

export class Turns {
  readonly #names: DomainNames
  readonly #clock: Clock
  readonly #facts: () => Omit<TurnFacts, 'now'>
  readonly #assertMember: (agent: string) => void
  readonly #bells = new Set<Bell>()
  /** The record as we wrote it last: a request that may go on by it is decided without reading. */
  #known: StoredTurn | null = null
  #work: Promise<unknown> = Promise.resolve()

  /** `assertMember` throws for an agent that may not ask. */
  constructor(
    names: DomainNames,
    clock: Clock,
    facts: () => Omit<TurnFacts, 'now'>,
    assertMember: (agent: string) => void = () => {},
  ) {
    this.#names = names
    this.#clock = clock
    this.#facts = facts
    this.#assertMember = assertMember
  }

  /** Answers one request message; never throws. An acquire waits a little for its turn, unless `leaving` aborts. */
  async handle(nc: NatsConnection, message: Msg, leaving: AbortSignal): Promise<void> {
    try {
      const request = decodeRecord(turnRequest, message.data, message.subject)
      if (request.agent !== message.subject.split('.').at(-1)) {
        throw new RotorError('ERR_RECORD_INVALID', 'the request is for another agent than the subject')
      }
      this.#assertMember(request.agent)
      message.respond(encodeRecord(await this.#answer(nc, request, leaving)))
    } catch (cause) {
      message.respond(encodeRecord(this.#refusal(natsFailure(cause, 'the record of turns'))))
    }
  }

  async #answer(nc: NatsConnection, request: TurnRequest, leaving: AbortSignal): Promise<TurnAnswer> {
    const bell = new Bell()
    this.#bells.add(bell)
    try {
      const deadline = this.#clock.now() + WAIT
      for (;;) {
        const outcome = await this.#try(nc, request)
        if (outcome === null) return { ok: true, serverTime: formatInstant(this.#clock.now()) }
        if (outcome.final || leaving.aborted || this.#clock.now() >= deadline) {
          return this.#refusal(new RotorError('ERR_TURN_REFUSED', outcome.refused), outcome.final ? WAIT : 0)
        }
        await bell.wait(LOOK_AGAIN, leaving).catch(() => {})
      }
    } finally {
      this.#bells.delete(bell)
    }
  }

  /** One after the other, so that our own requests do not race. */
  #try(nc: NatsConnection, request: TurnRequest): Promise<Refused | null> {
    const result = this.#work.then(() => this.#compareAndSet(nc, request))
    this.#work = result.catch(() => {})
    return result
  }

  /** What we know decides first; a refusal by it, or a lost race with another issuer, looks at the record. */
  async #compareAndSet(nc: NatsConnection, request: TurnRequest): Promise<Refused | null> {
    const kv = await new Kvm(jetstream(nc, { timeout: 5000 })).open(this.#names.stateBucket)
    for (let known = this.#known; ; known = null) {
      const { record, revision } = known ?? (await this.#read(kv))
      const outcome = takeTurn(record, request, { now: this.#clock.now(), ...this.#facts() })
      if ('refused' in outcome) {
        if (known !== null) continue
        return outcome
      }
      this.#known = null
      try {
        const bytes = encodeRecord(outcome.next)
        const written = await (revision === 0
          ? kv.create(TURN_KEY, bytes)
          : kv.update(TURN_KEY, bytes, revision))
        this.#known = { record: outcome.next, revision: written }
      } catch (cause) {
        if (cause instanceof JetStreamApiError && (cause.code === 10071 || cause.code === 10164)) continue
        throw cause
      }
      if (request.op === 'release') for (const bell of this.#bells) bell.ring()
      return null
    }
  }

  async #read(kv: KV): Promise<StoredTurn> {
    const entry = await kv.get(TURN_KEY)
    if (entry === null) return { record: NO_TURN, revision: 0 }
    const what = `${this.#names.stateBucket}/${TURN_KEY}`
    return { record: decodeRecord(turnRecord, entry.value, what), revision: entry.revision }
  }

  #refusal(error: RotorError, retryAfter = WAIT): TurnAnswer {
    return {
      ok: false,
      code: error.code,
      message: error.message,
      retryAfter,
      serverTime: formatInstant(this.#clock.now()),
    }
  }
}
