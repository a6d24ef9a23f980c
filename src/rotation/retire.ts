/** Which authorities may leave trust, when that is due, and who still depends on one. */
import type { Epoch } from '../schedule.ts'
import { formatInstant, type Instant } from '../time.ts'
import type { UsageStatus } from '../wire/status.ts'
import { lastLeafEnds } from './census.ts'
import { liveConnections, uncounted } from './connections.ts'
import { inShort, isPaused, namesOf } from './hold.ts'
import { MAX_AUTHORITIES } from './payloads.ts'
import { endOf, hasEnded, type Situation } from './situation.ts'
import type { Straggler } from './state.ts'
import { removeBy, taintOf } from './taint.ts'

/** Authorities the phase itself stands on; they never retire while it lasts, unless their time has ended. */
function standing(s: Situation): Epoch[] {
  const { state } = s
  switch (state.phase) {
    case 'distributing':
      return [state.active, state.next]
    case 'converging':
      // nodes are moving off the previous one, and which listener has moved is proven only at the end of the phase
      return [state.active, state.previous]
    case 'steady':
    case 'withdrawing':
    case 'introducing':
      return [state.active]
  }
}

const trusted = (s: Situation): Epoch[] => s.bundle.authorities.map((authority) => authority.epoch)

/** Trusted, and no longer in use by the phase: oldest first. */
const candidates = (s: Situation): Epoch[] => {
  const kept = standing(s)
  return trusted(s)
    .filter((epoch) => !kept.includes(epoch))
    .sort((a, b) => a - b)
}

/**
 * When a candidate should leave: `lead` before it ends, so that no node with a fast clock meets an ended authority
 * in the newest bundle; sooner by policy; at once when it is tainted, was rolled back, or the bundle is full and it is
 * the oldest. While the rotation is paused only its end takes out an authority that is not tainted.
 */
function dueAt(s: Situation, epoch: Epoch): Instant {
  // tainted; or newer than the signer, so it was given up and will not be back
  if (taintOf(s, epoch) !== undefined) return s.now
  if (isPaused(s)) return endOf(s, epoch)
  if (epoch > s.state.active) return s.now
  const full = trusted(s).length >= MAX_AUTHORITIES && candidates(s)[0] === epoch
  if (full) return s.now
  const replaced = s.state.replaced[epoch]
  return Math.min(
    endOf(s, epoch) - s.schedule.lead,
    replaced === undefined ? Number.POSITIVE_INFINITY : replaced.at + s.policy.retireAfter,
  )
}

/** Until when an agent that has not told us otherwise may hold a leaf of this authority. */
const silentUntil = (s: Situation, epoch: Epoch): Instant =>
  lastLeafEnds(s.state, epoch, s.schedule, endOf(s, epoch))

type DependencyCheck = (s: Situation, epoch: Epoch) => Straggler[]

/**
 * A leaf that was reported and has not ended; or, from an agent that has not yet reported a version in which the
 * authority no longer signs, silence: it may have been issued a leaf that it could not report.
 */
const agentsWithLeaf: DependencyCheck = (s, epoch) =>
  s.seen.agents.flatMap(({ name, status }) => {
    const depends = (missing: string): Straggler[] => [{ name, kind: 'agent', missing }]
    const stopped = s.state.replaced[epoch]?.version ?? Number.POSITIVE_INFINITY
    if (status !== null && status.leaf.issuerEpoch === epoch && Date.parse(status.leaf.notAfter) > s.now) {
      return depends(`holds a leaf of epoch ${epoch} until ${status.leaf.notAfter}`)
    }
    if (status !== null && status.version >= stopped) return []
    if (s.now >= silentUntil(s, epoch)) return []
    return depends(`may hold a leaf of epoch ${epoch}: ${silence(status?.version ?? null)}`)
  })

const silence = (version: number | null): string =>
  version === null ? 'never reported' : `reports version ${version} only`

/**
 * Sockets that were opened with a leaf of it: nothing is verified on them again, but what their process dials and
 * serves next may still need it, and they are what a retirement would leave behind unseen. The end of the leaf says
 * nothing of them. A leaf its agent does not know may be of any authority.
 */
const agentsWithSockets: DependencyCheck = (s, epoch) =>
  s.seen.agents.flatMap(({ name, status }): Straggler[] => {
    const standing = status?.usage.filter((u) => u.issuerEpoch === epoch || u.issuerEpoch === null) ?? []
    if (standing.length === 0) return []
    const known = standing.every((usage) => usage.issuerEpoch === epoch)
    const leaf = known ? `a leaf of epoch ${epoch}` : `a leaf that may be of epoch ${epoch}`
    const one = standing.length === 1 && standing[0]?.sockets === 1
    return [
      { name, kind: 'agent', missing: `${inWords(standing)} still ${one ? 'stands' : 'stand'} on ${leaf}` },
    ]
  })

/** More than these are counted together, so that a hold stays readable. */
const TOLD = 5

/** `3 connections of orders, 1 socket accepted by api`. */
function inWords(standing: readonly UsageStatus[]): string {
  const told = standing.slice(0, TOLD).map(({ type, name, sockets }) => `${count(sockets, type)} ${name}`)
  const rest = standing.slice(TOLD).reduce((sum, { sockets }) => sum + sockets, 0)
  return [...told, ...(rest > 0 ? [`${rest} more`] : [])].join(', ')
}

function count(sockets: number, type: string): string {
  const s = sockets === 1 ? '' : 's'
  if (type === 'connection') return `${sockets} connection${s} of`
  return type === 'server' ? `${sockets} socket${s} accepted by` : `${sockets} socket${s} of ${type}`
}

/** A listener that was seen to serve such a leaf; and a server without an agent, of which nothing is known. */
const serversWithLeaf: DependencyCheck = (s, epoch) =>
  s.seen.servers.flatMap(({ name, agent, listeners }): Straggler[] => {
    const serving = listeners.find((listener) => listener.proof?.serves === epoch)
    if (serving !== undefined) {
      return [{ name, kind: 'server', missing: `${serving.kind} listener serves a leaf of epoch ${epoch}` }]
    }
    return agent === null
      ? [{ name, kind: 'server', missing: `may serve a leaf of epoch ${epoch}: no agent beside it` }]
      : []
  })

/** All must find nobody before an authority leaves trust (I2). */
const DEPENDENCIES: readonly DependencyCheck[] = [
  agentsWithLeaf,
  agentsWithSockets,
  serversWithLeaf,
  liveConnections,
]

const dependents = (s: Situation, epoch: Epoch): Straggler[] =>
  DEPENDENCIES.flatMap((check) => check(s, epoch))

export interface Retirement {
  /** May leave with the next bundle: nobody depends on them, or their time has ended. */
  readonly ready: readonly Epoch[]
  /** Of those that are ready: which nodes stand on it, and are cut off, because a tainted one does not wait for ever. */
  readonly cutOff: Readonly<Record<Epoch, readonly string[]>>
  /** Due, and held back by these. */
  readonly heldBackBy: readonly Straggler[]
  /** When time alone may change this answer. */
  readonly moments: readonly Instant[]
}

/** The issuer that decides: cut off, it could give nobody a certificate, itself included. */
function ownLeaf({ seen: { own }, now }: Situation, epoch: Epoch): Straggler[] {
  if (own === undefined || own.epoch !== epoch || own.notAfter <= now) return []
  return [{ name: own.name, kind: 'agent', missing: `this issuer holds a leaf of epoch ${epoch}` }]
}

/** What may retire now. An ended authority goes in any case: it verifies nothing, and agents refuse a bundle with it. */
export function retirement(s: Situation): Retirement {
  const ready: Epoch[] = []
  const heldBackBy: Straggler[] = []
  const cutOff: Record<Epoch, readonly string[]> = {}
  const moments: Instant[] = []
  for (const epoch of trusted(s)) {
    if (epoch !== s.state.active && hasEnded(s, epoch)) ready.push(epoch)
  }
  for (const epoch of candidates(s)) {
    if (ready.includes(epoch)) continue
    if (s.now < dueAt(s, epoch)) {
      moments.push(dueAt(s, epoch))
      continue
    }
    moments.push(...leafEnds(s, epoch), silentUntil(s, epoch), endOf(s, epoch))
    const itself = ownLeaf(s, epoch)
    if (s.seen.own !== undefined) moments.push(s.seen.own.notAfter)
    const needed = [...itself, ...dependents(s, epoch)]
    const taint = taintOf(s, epoch)
    const until = taint === undefined ? Number.POSITIVE_INFINITY : removeBy(s, epoch, taint)
    moments.push(until)
    const overdue = s.now >= until && itself.length === 0
    if (needed.length === 0 || overdue) {
      ready.push(epoch)
      // a client chooses the name of its connection: it must not pass for that of a node
      cutOff[epoch] = namesOf(needed.filter(({ kind }) => kind !== 'connection'))
    } else heldBackBy.push(...needed)
  }
  return { ready, cutOff, heldBackBy, moments }
}

const leafEnds = (s: Situation, epoch: Epoch): Instant[] =>
  s.seen.agents.flatMap(({ status }) =>
    status?.leaf.issuerEpoch === epoch ? [Date.parse(status.leaf.notAfter)] : [],
  )

export const retireReason = (s: Situation, epochs: readonly Epoch[], { cutOff }: Retirement): string =>
  epochs
    .map((epoch) => {
      if (hasEnded(s, epoch)) return `retire epoch ${epoch}, which ended at ${formatInstant(endOf(s, epoch))}`
      const taint = taintOf(s, epoch)
      if (taint === undefined) return `retire epoch ${epoch}, on which nobody depends${uncounted(s)}`
      const names = cutOff[epoch] ?? []
      const left = names.length === 0 ? '' : `; cut off with it: ${inShort(names)}`
      return `remove epoch ${epoch}, tainted by ${taint.by}: ${taint.reason}${left}`
    })
    .join('; ')
