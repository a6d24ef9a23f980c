/**
 * One nats-server at a time: its agent takes the turn before it changes files and gives it back when the server is
 * proven. The first to take it is the canary of a version: nobody else, server or not, starts before it is proven, and
 * nobody at all when it has to put the old files back. The record is in the state bucket, so a restarted or a second
 * issuer goes on with it.
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

export const TURN_KEY = 'turn'
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
  /** The newest version that a server has proven, and which one was the first to. */
  proven: z.object({ agent: z.string(), version: z.int(), at: z.number() }).nullable().default(null),
})
export type TurnRecord = z.infer<typeof turnRecord>

export const NO_TURN: TurnRecord = { v: 1, holder: null, until: 0, failed: null, proven: null }

export interface TurnFacts {
  readonly now: Instant
  /** How long a holder that says nothing keeps the turn. */
  readonly turnTime: Duration
  /** Does the status of this holder show that its step has ended, well or put back? A release may get lost. */
  readonly hasEnded: (holder: { readonly agent: string; readonly version: number }) => boolean
  /** May the others go on although this one has put a version back? */
  readonly tolerates: (agent: string) => boolean
  /** A server whose status shows this version proven: the release of the first one may get lost, or never be sent. */
  readonly appliedBy: (version: number) => TurnRecord['proven']
  /** Servers whose status shows this version put back after a verdict: the report may be here before the release. */
  readonly refusedBy: (version: number) => readonly string[]
  /** Has the issuer seen by itself that this server takes what the version is for? */
  readonly confirms: (proven: NonNullable<TurnRecord['proven']>) => boolean
  /** Until when a server may still be expected to be the first of this version. */
  readonly canaryUntil: (version: number) => Instant
  /** The newest version that is in force. */
  readonly newest: number
}

/** The decision: the record after the request, or why not now. Pure. */
export function takeTurn(
  record: TurnRecord,
  request: TurnRequest,
  facts: TurnFacts,
): { next: TurnRecord } | { refused: string; final: boolean } {
  const { agent, version } = request
  const { holder } = record
  const { now, turnTime, hasEnded } = facts
  if (request.op === 'release') {
    const failed =
      request.outcome === 'rolled-back'
        ? { agent, version }
        : record.failed?.agent === agent || (record.failed?.version ?? 0) < version
          ? null
          : record.failed
    const first = request.outcome === 'applied' && (record.proven?.version ?? 0) < version
    const proven = first ? { agent, version, at: now } : record.proven
    const over = holder?.agent === agent ? { holder: null, until: 0 } : {}
    return { next: { ...record, ...over, failed, proven } }
  }
  const refused = refusedByCanary(record, request, facts)
  if (refused !== null) return refused
  if (request.op === 'follow') return { next: record }
  if (holder !== null && holder.agent !== agent && record.until > now && !hasEnded(holder)) {
    return { refused: `it is the turn of ${holder.agent}`, final: false }
  }
  return { next: { ...record, holder: { agent, version }, until: now + turnTime } }
}

/** What the first server of this version says to all others. */
function refusedByCanary(
  { failed, proven }: TurnRecord,
  { agent, version, op }: TurnRequest,
  facts: TurnFacts,
): Refused | null {
  const { now, turnTime, tolerates, confirms, appliedBy, refusedBy, canaryUntil, newest } = facts
  // it may have been taken back while this one waited
  if (version < newest) return { refused: `version ${newest} has replaced version ${version}`, final: true }
  const told = failed?.version === version ? [failed.agent] : []
  const refusing = [...told, ...refusedBy(version)].find((name) => name !== agent && !tolerates(name))
  if (refusing !== undefined) {
    return { refused: `${refusing} had to put version ${version} back`, final: true }
  }
  const known = proven?.version === version ? proven : null
  const first = known ?? appliedBy(version)
  if (first !== null) {
    // a report is repeated: its moment is not that of the proof
    const until = known === null ? canaryUntil(version) : known.at + turnTime
    const open = first.agent === agent || now >= until || confirms(first)
    return open ? null : { refused: `${first.agent}, the first server, is looked at`, final: false }
  }
  if (op === 'acquire' || (proven?.version ?? 0) > version || now >= canaryUntil(version)) return null
  return { refused: `no server has proven version ${version} yet`, final: false }
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
  #known: (StoredTurn & { readonly at: Instant }) | null = null
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

  /** Something has changed by which those who wait may go on. */
  look(): void {
    for (const bell of this.#bells) bell.ring()
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
    for (let known = this.#known; ; known = null) {
      const now = this.#clock.now()
      const justRead = known === null
      known ??= await this.#read(nc)
      const { record, revision, at } = known
      const outcome = takeTurn(record, request, { now, ...this.#facts() })
      if ('refused' in outcome) {
        // a thousand may wait to follow, and the record is read for all of them at once
        const fresh = request.op === 'follow' && Math.abs(now - at) < LOOK_AGAIN
        if (!justRead && !fresh) continue
        return outcome
      }
      if (request.op === 'follow') return null
      this.#known = null
      try {
        const kv = await this.#bucket(nc)
        const bytes = encodeRecord(outcome.next)
        const written = await (revision === 0
          ? kv.create(TURN_KEY, bytes)
          : kv.update(TURN_KEY, bytes, revision))
        this.#known = { record: outcome.next, revision: written, at: now }
      } catch (cause) {
        if (cause instanceof JetStreamApiError && (cause.code === 10071 || cause.code === 10164)) continue
        throw cause
      }
      if (request.op === 'release') this.look()
      return null
    }
  }

  async #read(nc: NatsConnection): Promise<StoredTurn & { readonly at: Instant }> {
    const entry = await (await this.#bucket(nc)).get(TURN_KEY)
    const what = `${this.#names.stateBucket}/${TURN_KEY}`
    const stored =
      entry === null
        ? { record: NO_TURN, revision: 0 }
        : { record: decodeRecord(turnRecord, entry.value, what), revision: entry.revision }
    this.#known = { ...stored, at: this.#clock.now() }
    return this.#known
  }

  #bucket(nc: NatsConnection): Promise<KV> {
    return new Kvm(jetstream(nc, { timeout: 5000 })).open(this.#names.stateBucket)
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
