/**
 * Which connections should be asked to move? A stranger is one that nobody of ours moves: it stands on an authority
 * that no longer signs, long after every node had what a new dial needs. First a hint (LDM), later the end (KICK), after
 * which a client dials again with whatever its files hold by then. Pure; what was asked before is an argument.
 */
import type { Duration, Instant } from '../time.ts'
import type { Known, LiveConnection, Placed } from './census.ts'

export interface StrangerPolicy {
  /** How long one may stand on an authority that was replaced; then as long again after the hint. */
  readonly after: Duration
  /** Send the hint first: an INFO with `ldm:true`. */
  readonly ldm: boolean
  /** Close those that stay. Absent: never. */
  readonly kick?: { readonly perSecond: number } | undefined
}

export interface Step {
  readonly kind: 'LDM' | 'KICK'
  readonly connection: LiveConnection
  readonly epoch: number
}

/** Names a connection of a server for ever: the id of a server is new at each start, and a cid is used once. */
export const keyOf = ({ serverId, cid }: Pick<LiveConnection, 'serverId' | 'cid'>): string =>
  `${serverId} ${cid}`

/**
 * Those that have waited longest come first. `hinted`: when each key was sent the hint.
 *
 * Left alone: who may stand on the signing authority as well, connections of servers, and those of a node whose own agent
 * has not left that authority yet, because it would come back on the same leaf.
 */
export function strangerSteps(
  placed: readonly Placed[],
  known: Known,
  policy: StrangerPolicy,
  hinted: ReadonlyMap<string, Instant>,
  now: Instant,
): Step[] {
  return placed
    .flatMap((one) => {
      const since = leftBehindSince(one, known)
      return since === null || now - since < policy.after ? [] : [{ ...one, since }]
    })
    .sort((a, b) => a.since - b.since)
    .flatMap(({ connection, epochs: [epoch = 0] }): Step[] => {
      const at = hinted.get(keyOf(connection))
      if (policy.ldm && at === undefined) return [{ kind: 'LDM', connection, epoch }]
      const due = policy.kick !== undefined && (at === undefined || now - at >= policy.after)
      return due ? [{ kind: 'KICK', connection, epoch }] : []
    })
}

/** Null for one that is no stranger. One that dialled since then began to be left behind when it did. */
function leftBehindSince({ connection, epochs }: Placed, { state, agentOf }: Known): Instant | null {
  if (connection.kind !== 'client' || epochs.length === 0) return null
  const replaced = epochs.map((epoch) => state.replaced[epoch])
  if (replaced.includes(undefined)) return null
  const status = agentOf(connection.user)
  if (status !== undefined && (status.state !== 'applied' || epochs.includes(status.leaf.issuerEpoch)))
    return null
  return Math.max(connection.start ?? 0, ...replaced.map((one) => one?.at ?? 0))
}
