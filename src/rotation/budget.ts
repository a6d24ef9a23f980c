/**
 * Have more nodes refused the new material than a rotation may go on with? Then it is taken back. Only a verdict
 * counts, of somebody who looked at the material: that nobody answered says nothing of it, and is what a hold is for.
 */
import type { RotorErrorCode } from '../errors.ts'
import type { Duration, Instant } from '../time.ts'
import { passOverAt } from './hold.ts'
import { type Situation, signerLoss, situation } from './situation.ts'
import type { Observations, RotationPolicy, RotationState } from './state.ts'

/** What a node reports when its target, or a server, has looked at the new material and did not take it. */
const VERDICTS: ReadonlySet<RotorErrorCode> = new Set<RotorErrorCode>([
  'ERR_IDENTITY_INVALID',
  'ERR_RELOAD_REFUSED',
  'ERR_NOTIFY_FAILED',
  'ERR_PROOF_FAILED',
  'ERR_PROBE_REFUSED',
  'ERR_PROBE_UNTRUSTED',
  'ERR_HANDOFF_FAILED',
  'ERR_NATS_DENIED',
])

/** Has somebody looked at the material, and not taken it? */
export const isVerdict = (code: RotorErrorCode): boolean => VERDICTS.has(code)

/** A reload may be answered a moment before the listener has the new trust: one refusal is none. */
const REFUSAL_LASTS: Duration = 500

export interface Failure {
  readonly name: string
  readonly server: boolean
  /** Code, or the listener. */
  readonly why: string
}

/** Every node that has refused what this phase brought it; a node that has followed since is not among them. */
export function failures(s: Situation): Failure[] {
  const serverAgents = new Set(s.seen.servers.flatMap(({ agent }) => agent ?? []))
  const told = s.seen.agents.flatMap(({ name, status }): Failure[] => {
    const error = status?.lastError ?? null
    if (error === null || error.version < s.state.phaseVersion || !isVerdict(error.code)) return []
    return [{ name, server: serverAgents.has(name), why: error.code }]
  })
  return [...told, ...refusals(s).filter(({ name }) => !told.some((one) => one.name === name))]
}

/** Listeners that refuse the next authority although the agent beside them said that it is trusted. */
function refusals(s: Situation): Failure[] {
  const { state } = s
  if (state.phase !== 'distributing') return []
  return s.seen.servers.flatMap(({ name, listeners }): Failure[] => {
    const refusing = listeners.find(
      ({ proof }) => proof?.refuses?.epoch === state.next && proof.at - proof.refuses.since >= REFUSAL_LASTS,
    )
    return refusing === undefined ? [] : [{ name, server: true, why: `${refusing.kind} listener refuses it` }]
  })
}

/** `1 of 3 servers refused it (n1: ERR_RELOAD_REFUSED), 0 may`, or null within the budget. */
function exceeded(s: Situation, found: readonly Failure[]): string | null {
  const { servers, clients } = s.policy.maxFailures
  const serverAgents = new Set(s.seen.servers.map(({ agent, name }) => agent ?? name))
  const others = s.seen.agents.filter(({ name }) => !serverAgents.has(name)).length
  const failed = { servers: found.filter((one) => one.server), clients: found.filter((one) => !one.server) }
  const parts: string[] = []
  if (failed.servers.length > servers) parts.push(part(failed.servers, serverAgents.size, 'server', servers))
  if (failed.clients.length > clients * others) {
    parts.push(part(failed.clients, others, 'client', Math.floor(clients * others)))
  }
  return parts.length === 0 ? null : parts.join('; ')
}

/** More names than this are counted. */
const NAMES_TOLD = 5

function part(failed: readonly Failure[], of: number, kind: string, allowed: number): string {
  const told = failed.slice(0, NAMES_TOLD).map(({ name, why }) => `${name}: ${why}`)
  const rest = failed.length - told.length
  const names = [...told, ...(rest > 0 ? [`${rest} more`] : [])].join(', ')
  return `${failed.length} of ${of} ${kind}${of === 1 ? '' : 's'} refused it (${names}), ${allowed} may`
}

/**
 * Is there a way back, and the time for it? Not when nothing else can sign, when the operator forces the rotation, and
 * when the signer is about to end: a domain without a signer is worse than a node that does not follow.
 */
const mayTurnBack = (s: Situation): boolean =>
  signerLoss(s) === null && s.state.order?.force !== true && s.now < passOverAt(s)

/** Why this rotation has to be taken back, or null. */
export const overBudget = (s: Situation): string | null => (mayTurnBack(s) ? exceeded(s, failures(s)) : null)

/** May the other servers go on although this one has put a version back? Asked before the loop has seen its status. */
export function toleratesFailure(
  state: RotationState,
  seen: Observations,
  policy: RotationPolicy,
  now: Instant,
  agent: string,
): boolean {
  const s = situation(state, seen, policy, now)
  const known = failures(s).filter(({ name }) => name !== agent)
  return !mayTurnBack(s) || exceeded(s, [...known, { name: agent, server: true, why: 'put back' }]) === null
}
