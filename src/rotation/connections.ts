/** Does a live connection still need an authority? What the census says to a retirement, and when it says nothing. */
import type { Epoch } from '../schedule.ts'
import { type Duration, formatInstant, type Instant } from '../time.ts'
import type { Situation } from './situation.ts'
import type { ConnectionExample, ObservedConnections, Straggler } from './state.ts'

/** A count that is older says nothing any more. */
export const FRESH: Duration = 60_000

/**
 * Connections that stand on it, or may. While it was signing, they were right to; so only a count from after it was
 * replaced counts, and a recent one. Until there is one the authority waits; when there can be none, the policy decides.
 */
export const liveConnections = (s: Situation, epoch: Epoch): Straggler[] =>
  standingOn(s, epoch, s.state.replaced[epoch]?.at ?? 0)

/** Connections that stand on an authority, or may, by a count that began after `since`. */
export function standingOn(s: Situation, epoch: Epoch, since: Instant): Straggler[] {
  const seen = s.seen.connections
  if (seen === undefined) return s.policy.census === 'required' ? [census('nobody counts them')] : []
  if (seen.at < since || s.now - seen.at > FRESH) return [census(tooOld(seen))]
  const found = seen.standing.find((one) => one.epoch === epoch)
  const named = (found?.examples ?? []).map((example) => straggler(example, epoch))
  const more = (found?.certain ?? 0) + (found?.possible ?? 0) - named.length
  return [
    ...named,
    ...(more > 0 ? [census(`${more} more stand on a leaf of epoch ${epoch}, or may`)] : []),
    ...(seen.problem !== null && s.policy.census === 'required' ? [census(seen.problem)] : []),
  ]
}

/** In the bundle that lets an authority go: what was not looked at. */
export function uncounted(s: Situation): string {
  const problem = s.seen.connections?.problem ?? null
  return problem === null ? '' : ` (not all connections were counted: ${problem})`
}

const census = (missing: string): Straggler => ({ name: 'census', kind: 'connection', missing })

const tooOld = ({ at }: ObservedConnections): string =>
  at === 0
    ? 'the connections were not counted yet'
    : `the connections were last counted at ${formatInstant(at)}`

function straggler(
  { name, kind, user, server, cid, address, since, certain }: ConnectionExample,
  epoch: Epoch,
) {
  const leaf = certain ? `stands on a leaf of epoch ${epoch}` : `may stand on a leaf of epoch ${epoch}`
  const who = [kind, user === name ? '' : user, address, since === null ? '' : `since ${since}`]
  const words = who.filter((word) => word !== '').join(', ')
  return { name, kind: 'connection' as const, missing: `cid ${cid} of ${server} ${leaf} (${words})` }
}
