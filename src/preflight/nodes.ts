/** Would every agent follow a rotation now? */
import { formatReading, surelyOff } from '../clock-reading.ts'
import { type Situation, situation } from '../rotation/situation.ts'
import { formatDuration, type Instant } from '../time.ts'
import { type AgentStatus, SILENT } from '../wire/status.ts'
import type { Facts, NodeFacts } from './facts.ts'
import { type Finding, type FindingId, finding } from './findings.ts'

/** A leaf is renewed with a third of its life left; with half of that something is in the way. */
const OVERDUE = 1 / 6

/** Of one agent at most one finding says why it would not follow: the others would be consequences. */
export function judgeNodes(facts: Facts, now: Instant): Finding[] {
  const s = situation(facts.state, facts.seen, facts.policy, now)
  const statuses = new Map(facts.seen.agents.map(({ name, status }) => [name, status]))
  return facts.nodes.flatMap((node) => {
    const status = statuses.get(node.name) ?? null
    const found = [whyNotFollowing(s, node, status), clockOff(s, status), leafTrouble(node, status, now)]
    return found.flatMap((one) => (one === null ? [] : [finding(one[0], 'agent', node.name, one[1])]))
  })
}

/** Ids of agents that would not move by themselves. */
export const STANDS_STILL: ReadonlySet<FindingId> = new Set([
  'agent-never-reported',
  'agent-silent',
  'agent-not-connected',
  'agent-rolled-back',
  'agent-other-bundle',
  'leaf-ended',
] as const)

type Found = readonly [FindingId, string] | null

function whyNotFollowing({ state, now }: Situation, node: NodeFacts, status: AgentStatus | null): Found {
  if (status === null) return ['agent-never-reported', 'there is no status record of it']
  const { at, version, digest, lastError } = status
  if (now - Date.parse(at) > SILENT) return ['agent-silent', `its last report is of ${at}`]
  if (node.connected === false) return ['agent-not-connected', `its last report is of ${at}`]
  if (version > state.version || (version === state.version && digest !== state.digest))
    return [
      'agent-other-bundle',
      `it holds version ${version} ${digest}, ours is ${state.version} ${state.digest}`,
    ]
  const why =
    lastError === null ? '' : `: ${lastError.code} at version ${lastError.version}: ${lastError.message}`
  if (status.state === 'rolled-back') return ['agent-rolled-back', `it went back to version ${version}${why}`]
  return version < state.version || status.state === 'applying'
    ? ['agent-behind', `version ${version} of ${state.version}, ${status.state} ${status.step}${why}`]
    : null
}

function clockOff({ schedule }: Situation, status: AgentStatus | null): Found {
  if (status === null || status.clockOffsetMs === null) return null
  const reading = { offsetMs: status.clockOffsetMs, boundMs: status.clockBoundMs }
  return surelyOff(reading) < schedule.lead
    ? null
    : ['agent-clock-off', `off by ${formatReading(reading)}, the lead is ${formatDuration(schedule.lead)}`]
}

function leafTrouble({ lifetime }: NodeFacts, status: AgentStatus | null, now: Instant): Found {
  if (status === null) return null
  const { notAfter } = status.leaf
  const left = Date.parse(notAfter) - now
  if (left <= 0) return ['leaf-ended', `it ended at ${notAfter}`]
  return left < lifetime * OVERDUE
    ? ['leaf-overdue', `it ends at ${notAfter}, in ${formatDuration(left)}`]
    : null
}
