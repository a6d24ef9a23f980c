/**
 * Why a phase may not end yet: one chain of named checks for each gate, agents and listeners apart.
 * A check answers null, or in words what is missing; the first answer of a chain is the one that is told.
 * Gathered before, judged here: no check asks the world anything.
 */
import { formatReading, surelyOff } from '../clock-reading.ts'
import type { Epoch } from '../schedule.ts'
import { formatDuration, formatInstant } from '../time.ts'
import type { AgentStatus } from '../wire/status.ts'
import type { Situation } from './situation.ts'
import type { Observations, ObservedListener, ObservedServer, Straggler, Taint } from './state.ts'

type ObservedAgent = Observations['agents'][number]
type AgentCheck = (s: Situation, status: AgentStatus) => string | null
type Removed = NonNullable<Taint['removed']>
type ListenerCheck = (s: Situation, listener: ObservedListener, epoch: Epoch) => string | null

// ---- agents

/** The bundle of this phase, or a later one, is applied and proven. A number an agent reported never goes down (I4). */
const hasAppliedPhase: AgentCheck = (s, status) =>
  status.version >= s.state.phaseVersion
    ? null
    : `reports version ${status.version} of ${s.state.phaseVersion}${lastError(status)}`

/** A higher number than ours is from another writer, and what it says of trust is unknown. */
const knowsNoOtherBundle: AgentCheck = (s, status) => {
  if (status.version > s.state.version) return `reports version ${status.version}, ours is ${s.state.version}`
  if (status.version === s.state.version && status.digest !== s.state.digest) {
    return `holds another bundle with version ${status.version}: ${status.digest} instead of ${s.state.digest}`
  }
  return null
}

/** While a step is under way or was put back, files and targets may still show the generation before. */
const isSettled: AgentCheck = (_, status) => {
  if (status.state === 'applied') return null
  return status.state === 'applying'
    ? `is applying a bundle, step ${status.step}`
    : `went back to version ${status.version}${lastError(status)}`
}

/** Its leaf comes from the authority that signs now; a leaf of any other one still needs that other one. */
const holdsLeafOfActive: AgentCheck = (s, status) =>
  status.leaf.issuerEpoch === s.state.active
    ? null
    : `holds a leaf of epoch ${status.leaf.issuerEpoch}, ${s.state.active} signs${lastError(status)}`

/** Certificates are back-dated by `lead`, no more: a clock that is surely further off finds a fresh leaf not valid yet. */
const clockIsClose: AgentCheck = (s, { clockOffsetMs, clockBoundMs }) => {
  if (clockOffsetMs === null) return null
  const reading = { offsetMs: clockOffsetMs, boundMs: clockBoundMs }
  return surelyOff(reading) < s.schedule.lead
    ? null
    : `ERR_CLOCK_SKEW: its clock is off by ${formatReading(reading)}, the lead is ${formatDuration(s.schedule.lead)}`
}

/** distributing may end: nobody can meet a leaf of `next` that it does not trust (I1). */
export const TRUSTS_NEXT: readonly AgentCheck[] = [
  hasAppliedPhase, // the bundle that contains next, or a later one of this phase
  knowsNoOtherBundle, // and it is ours
  isSettled, // and it stays
  clockIsClose, // and a leaf of next will be valid for it
]

/** converging may end: nobody holds a leaf of the authority before, so a next rotation can not cut it off (I2). */
export const HOLDS_NEW_LEAF: readonly AgentCheck[] = [
  hasAppliedPhase, // the bundle in which active signs
  knowsNoOtherBundle,
  isSettled, // a step that is put back brings the old leaf back
  holdsLeafOfActive,
]

/** withdrawing may end: nobody trusts the dropped authority any more. */
export const FORGOT_DROPPED: readonly AgentCheck[] = [hasAppliedPhase, knowsNoOtherBundle, isSettled]

/** introducing may end: everybody has the new root, in the bundle and, where it is the anchor, in the trust file. */
export const KNOWS_ROOT: readonly AgentCheck[] = [hasAppliedPhase, knowsNoOtherBundle, isSettled]

/** The old signer may leave: everybody has applied a bundle that names the new one, and so knows it. */
export const KNOWS_SIGNER = (version: number): readonly AgentCheck[] => [
  (_, status) =>
    status.version >= version ? null : `reports version ${status.version} of ${version}${lastError(status)}`,
  knowsNoOtherBundle,
]

/** A tainted authority is out of use on a node: the bundle without it is applied, and no socket stands on a leaf of it. */
export const FORGOT_TAINTED = (epoch: Epoch, { version, cutOff }: Removed): readonly AgentCheck[] => [
  (_, status) =>
    status.version >= version || cutOff.includes(status.agent)
      ? null
      : `reports version ${status.version} of ${version}${lastError(status)}`,
  (s, status) => (cutOff.includes(status.agent) ? null : isSettled(s, status)),
  (_, { agent, usage }) =>
    cutOff.includes(agent) || !usage.some(({ issuerEpoch }) => issuerEpoch === epoch)
      ? null
      : `still has sockets on a leaf of epoch ${epoch}`,
]

// ---- servers

const wasDialled: ListenerCheck = (_, listener) => (listener.proof === null ? 'no handshake was made' : null)

/** A handshake from before the phase shows what was, not what is. */
const wasDialledInPhase: ListenerCheck = (s, { proof }) =>
  proof !== null && proof.at < s.state.since
    ? `the last handshake, ${formatInstant(proof.at)}, is older than this phase`
    : null

const acceptsLeafOf: ListenerCheck = (_, { proof }, epoch) =>
  proof === null || proof.accepts.includes(epoch)
    ? null
    : `does not accept a leaf of epoch ${epoch}${because(proof.error)}`

const servesLeafOf: ListenerCheck = (_, { proof }, epoch) =>
  proof === null || proof.serves === epoch
    ? null
    : `serves a leaf of epoch ${proof.serves ?? '(unknown)'}, not ${epoch}${because(proof.error)}`

/** distributing may end: every listener was seen to take a leaf of next. */
export const ACCEPTS_NEXT: readonly ListenerCheck[] = [wasDialled, wasDialledInPhase, acceptsLeafOf]

/** converging may end: every listener was seen to serve a leaf of active. */
export const SERVES_ACTIVE: readonly ListenerCheck[] = [wasDialled, wasDialledInPhase, servesLeafOf]

/** A tainted authority counts for nothing: every listener was seen to refuse a leaf of it since it left trust. */
export const REFUSES_TAINTED = ({ at }: Removed): readonly ListenerCheck[] => [
  (_, { proof }, epoch) =>
    proof?.refuses?.epoch === epoch && proof.at >= at
      ? null
      : `was not seen to refuse a leaf of epoch ${epoch}${because(proof?.error ?? null)}`,
]

// ---- who fails a chain

export function agentStragglers(s: Situation, chain: readonly AgentCheck[]): Straggler[] {
  return s.seen.agents.flatMap((agent) => {
    const missing = missingOfAgent(s, agent, chain)
    return missing === null ? [] : [{ name: agent.name, kind: 'agent' as const, missing }]
  })
}

/** An agent that never reported may trust and hold anything: it is always missing. */
function missingOfAgent(s: Situation, agent: ObservedAgent, chain: readonly AgentCheck[]): string | null {
  const { status } = agent
  return status === null ? 'never reported' : first(chain, (check) => check(s, status))
}

export function serverStragglers(s: Situation, chain: readonly ListenerCheck[], epoch: Epoch): Straggler[] {
  return s.seen.servers.flatMap((server) =>
    missingOfServer(s, server, chain, epoch).map((missing) => ({
      name: server.name,
      kind: 'server' as const,
      missing,
    })),
  )
}

/** Nothing is said for a server whose files nobody keeps, and "every listener" is no proof when none is known. */
function missingOfServer(
  s: Situation,
  server: ObservedServer,
  chain: readonly ListenerCheck[],
  epoch: Epoch,
): string[] {
  if (server.agent === null) return ['no agent beside it']
  if (server.listeners.length === 0) return ['no TLS listener of it is known, so it can not be dialled']
  return server.listeners.flatMap((listener) => {
    const missing = first(chain, (check) => check(s, listener, epoch))
    return missing === null ? [] : [`${listener.kind} listener ${listener.address}: ${missing}`]
  })
}

function first<T>(chain: readonly T[], ask: (check: T) => string | null): string | null {
  for (const check of chain) {
    const missing = ask(check)
    if (missing !== null) return missing
  }
  return null
}

const lastError = (status: AgentStatus): string =>
  status.lastError === null
    ? ''
    : `, last error ${status.lastError.code} at version ${status.lastError.version}: ${status.lastError.message}`

const because = (error: string | null): string => (error === null ? '' : `: ${error}`)
