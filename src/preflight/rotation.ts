/** Is there an issuer that works, and is anything under way that a new order would meet? */
import type { Instant } from '../time.ts'
import { formatDuration } from '../time.ts'
import type { Facts } from './facts.ts'
import { type Finding, finding } from './findings.ts'

/** A lease that was not renewed for so many of its lengths has no living holder, even if the clocks differ a little. */
const MISSED = 3

export function judgeRotation({ state, issuer }: Facts, now: Instant): Finding[] {
  const { domain, paused, tainted, order, phase } = state
  const found: Finding[] = []
  const leaderless = whyLeaderless(issuer.lease, now)
  if (leaderless !== null) found.push(finding('no-leader', 'domain', domain, leaderless))
  if (issuer.problem !== null) {
    const { code, message, since } = issuer.problem
    found.push(finding('issuer-problem', 'domain', domain, `since ${since}: ${code} ${message}`))
  }
  if (paused !== null)
    found.push(finding('paused', 'domain', domain, `paused by ${paused.by}: ${paused.reason}`))
  for (const [epoch, { by, reason }] of Object.entries(tainted))
    found.push(finding('tainted', 'authority', `epoch ${epoch}`, `tainted by ${by}: ${reason}`))
  if (phase !== 'steady' || order !== null) {
    const what = order === null ? '' : `, ordered by ${order.by}: ${order.reason}`
    found.push(finding('rotation-under-way', 'domain', domain, `phase ${phase}${what}`))
  }
  for (const { name, kind, missing } of issuer.waitingFor)
    found.push(finding('rotation-holds', kind === 'server' ? 'server' : 'agent', name, missing))
  return found
}

function whyLeaderless(lease: Facts['issuer']['lease'], now: Instant): string | null {
  if (lease === null) return 'no issuer has ever led'
  if (lease.holder === null) return 'the last one gave the lease back, and nobody took it'
  const age = now - lease.at
  return age > MISSED * lease.duration
    ? `${lease.holder} has not renewed its lease of ${formatDuration(lease.duration)} for ${formatDuration(age)}`
    : null
}
