/** Asking the issuer for the turn to change a server, and giving it back. */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import { type Clock, type Duration, type Instant, sleep } from '../src/time.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../src/wire/record.ts'
import { type TurnRequest, turnAnswer } from '../src/wire/requests.ts'
import { insist } from './insist.ts'

/** The issuer lets a request wait for a few seconds. */
const REQUEST_TIMEOUT: Duration = 8_000
const PATIENCE: Duration = 60_000
/** After this time without an answer nobody waits for the first server any more: an issuer that moves is back by then. */
const WITHOUT_ISSUER: Duration = 5_000
const ASK_AGAIN: Duration = 250

/** Who asks, on which connection, to change to which version. */
export interface TurnOf {
  /** The one that is open now. */
  readonly nc: () => NatsConnection
  readonly names: DomainNames
  readonly agent: string
  readonly version: number
}

/** Returns when it is our turn. Throws ERR_TURN_REFUSED after a minute, or at once when the canary failed. */
export async function acquireTurn(turn: TurnOf, clock: Clock, signal: AbortSignal): Promise<void> {
  const deadline = clock.now() + PATIENCE
  for (;;) {
    signal.throwIfAborted()
    const refused = await ask(turn, clock, 'acquire')
    if (refused === null) return
    const { error, retryAfter } = refused
    if (error.code !== 'ERR_TURN_REFUSED' || retryAfter > 0 || clock.now() > deadline) throw error
    await sleep(10, signal, clock)
  }
}

/**
 * Returns when a server has proven this version, or none is expected to any more: a bundle that the first server puts
 * back is taken by nobody else. Throws ERR_TURN_REFUSED when it did. Without an issuer that answers nobody waits for long:
 * this is a protection, and no lock that could keep a node from what is signed and public.
 */
export async function followCanary(turn: TurnOf, clock: Clock, signal: AbortSignal): Promise<void> {
  let silentSince: Instant | null = null
  for (;;) {
    signal.throwIfAborted()
    const refused = await ask(turn, clock, 'follow').catch((cause) => ({
      error: RotorError.from(cause, 'ERR_NATS_UNAVAILABLE'),
      retryAfter: 0,
    }))
    if (refused === null) return
    const { error, retryAfter } = refused
    if (error.code === 'ERR_TURN_REFUSED') {
      if (retryAfter > 0) throw error
      silentSince = null
      await sleep(10, signal, clock)
    } else if (error.code === 'ERR_NATS_UNAVAILABLE') {
      // it moves, the servers elect, or it is gone: only the last one lasts
      silentSince ??= clock.now()
      if (clock.now() - silentSince >= WITHOUT_ISSUER) return
      await sleep(ASK_AGAIN, signal, clock)
    } else return
  }
}

/** Undefined: it did not end well, and nobody has refused the version. */
export type TurnOutcome = 'applied' | 'rolled-back' | undefined

/** Gives the turn back and says how it went. A lost release ends by itself at the issuer. */
export async function releaseTurn(turn: TurnOf, outcome: TurnOutcome, clock: Clock): Promise<void> {
  await ask(turn, clock, 'release', outcome)
}

async function ask(
  { nc, names, agent, version }: TurnOf,
  clock: Clock,
  op: TurnRequest['op'],
  outcome?: TurnOutcome,
): Promise<{ error: RotorError; retryAfter: number } | null> {
  const subject = names.turnSubject(agent)
  const request: TurnRequest = { v: 1, agent, version, op, ...(outcome === undefined ? {} : { outcome }) }
  try {
    const message = await insist(nc, subject, encodeRecord(request), REQUEST_TIMEOUT, clock)
    const answer = decodeRecord(turnAnswer, message.data, `answer on ${subject}`)
    return answer.ok
      ? null
      : { error: new RotorError(answer.code, answer.message), retryAfter: answer.retryAfter ?? 0 }
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_NATS_UNAVAILABLE', `no answer on ${subject}`)
  }
}
