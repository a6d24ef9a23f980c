/** Live connections as plain values, in the small domain of rotation-world.ts. */
import { type Known, type LiveConnection, observed, placeAll } from '../../src/rotation/census.ts'
import type { ObservedConnections, RotationState } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { held, hex } from './rotation-world.ts'

/** Fingerprint of a leaf of `who`, issued by the authority of `epoch`. */
export const leafOf = (who: string, epoch: Epoch): string => hex(`leaf of ${who}, epoch ${epoch}`)

/** Leaf and authority, as the files of an identity have them. */
export const chainOf = (who: string, epoch: Epoch): string[] => [leafOf(who, epoch), held(epoch).sha256]

let cids = 0

/** A client with TLS that showed nothing. */
export const client = (start: Instant, change: Partial<LiveConnection> = {}): LiveConnection => ({
  serverId: 'NS1',
  server: 'n1',
  cid: ++cids,
  kind: 'client',
  name: 'billing',
  peer: null,
  user: 'spiffe://prod/billing',
  address: '127.0.0.1:50000',
  start,
  offset: 0,
  tls: true,
  certificates: [],
  ...change,
})

/** A domain with agents beside the servers n1 and n2, of which n1 has the id NS1. */
export const knownIn = (
  state: RotationState,
  leaves: ReadonlyMap<string, Epoch> = new Map(),
  statuses: Readonly<Record<string, AgentStatus>> = {},
): Known => ({
  state,
  leaves,
  cleared: new Map(),
  agentOf: (user) => statuses[user],
  hasAgent: (server) => ['n1', 'n2', 'NS1'].includes(server),
})

/** What is told of a full count that began at this time. */
export const countedAt = (
  state: RotationState,
  at: Instant,
  connections: readonly LiveConnection[] = [],
  problem: string | null = null,
): ObservedConnections => observed({ at, problem }, placeAll(connections, knownIn(state)))
