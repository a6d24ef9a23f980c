/**
 * On which authority does each live connection stand? The servers tell who is connected since when, and which
 * certificates it showed (CONNZ `auth:true`); bundle, state and the statuses of the agents tell the rest. What can not be
 * told for certain counts for every authority it may be of. Pure; the counting is the issuer's.
 */
import { createHash } from 'node:crypto'
import { type Epoch, epochEnd, leafLifetime } from '../schedule.ts'
import { type Duration, formatInstant, type Instant } from '../time.ts'
import { scheduleOf } from '../wire/bundle.ts'
import type { AgentStatus } from '../wire/status.ts'
import { bundleOf } from './payloads.ts'
import type { ConnectionExample, ObservedConnections, RotationState } from './state.ts'

/** A connection as its server tells it. The texts are the client's own, cut to a sane length. */
export interface LiveConnection {
  /** Id of the server process, and its name. */
  readonly serverId: string
  readonly server: string
  readonly cid: number
  /** client: NATS, WebSocket or MQTT. The others are of a server; which one is in `name` and `peer`. */
  readonly kind: 'client' | 'route' | 'gateway' | 'leafnode'
  readonly name: string
  /** Id of the server at the other end; null for a client, and where it is not told. */
  readonly peer: string | null
  /** The user the server took it for; empty when unknown. */
  readonly user: string
  readonly address: string
  /** By the clock of the server; null where it is not told (LEAFZ). */
  readonly start: Instant | null
  /** Added to `start` it is by our clock, or a little too early. */
  readonly offset: Duration
  readonly tls: boolean
  /** SHA-256 of each certificate it showed, leaf first; empty when none, and for connections of servers. */
  readonly certificates: readonly string[]
}

/** One count over all servers. */
export interface Count {
  readonly at: Instant
  readonly connections: readonly LiveConnection[]
  /** What is missing in it, in words; null when every server answered in full. */
  readonly problem: string | null
}

/**
 * leaf: we know its certificate. chain: it showed the certificate of the authority. start: neither, so by when it began.
 * agent: the agent of its node has what a new dial needs. plain: no TLS, so on no authority.
 */
export type Evidence = 'leaf' | 'chain' | 'start' | 'agent' | 'plain'

export interface Placed {
  readonly connection: LiveConnection
  /**
   * Authorities that it stands on, or may stand on when there are several, oldest first: trusted ones, and those that were
   * tainted until nothing stands on them.
   */
  readonly epochs: readonly Epoch[]
  readonly by: Evidence
}

/** What a count is judged with. */
export interface Known {
  readonly state: RotationState
  /** Which epoch issued the leaf with this SHA-256. */
  readonly leaves: ReadonlyMap<string, Epoch>
  /** The status of the agent whose node logs in as this user. */
  readonly agentOf: (user: string) => AgentStatus | undefined
  /**
   * When the connections of an authority that was tainted and left trust were ended: what began later is of another one,
   * because no server took a leaf of it any more.
   */
  readonly cleared: ReadonlyMap<Epoch, Instant>
  /** True for the name of a server that has an agent, and for its id. */
  readonly hasAgent: (server: string) => boolean
}

/**
 * Until when a leaf of an authority may be in use that nobody told us of: none was signed after it was replaced, and none
 * lives longer than `leafLifetime`. `lead` covers a signing that was under way, and clocks. `end`: of the authority.
 */
export function lastLeafEnds(state: RotationState, epoch: Epoch, schedule: Schedule, end: Instant): Instant {
  const replaced = state.replaced[epoch]
  return replaced === undefined ? end : Math.min(end, replaced.at + leafLifetime(schedule) + schedule.lead)
}
type Schedule = ReturnType<typeof scheduleOf>

/** Places every connection, in the order given. */
export function placeAll(connections: readonly LiveConnection[], known: Known): Placed[] {
  const trust = trustOf(known)
  return connections.map((connection) => ({ connection, ...place(connection, known, trust) }))
}

interface Trust {
  readonly schedule: Schedule
  readonly epochOf: ReadonlyMap<string, Epoch>
  readonly roots: ReadonlySet<string>
  /** Trusted authorities that ever signed, oldest first, and the time in which they did. */
  readonly signers: readonly { readonly epoch: Epoch; readonly from: Instant; readonly until: Instant }[]
  /** Tainted ones that left trust, and until when a connection may have been made with a leaf of them. */
  readonly distrusted: readonly { readonly epoch: Epoch; readonly until: Instant }[]
}

function trustOf({ state, cleared }: Known): Trust {
  const bundle = bundleOf(state)
  const gone = Object.entries(state.tainted).flatMap(([epoch, { sha256, removed }]) =>
    removed === null ? [] : [{ epoch: Number(epoch), sha256 }],
  )
  const schedule = scheduleOf(bundle)
  const replacedAt = (epoch: Epoch) => state.replaced[epoch]?.at ?? Number.POSITIVE_INFINITY
  const next = state.phase === 'distributing' ? state.next : null
  const signers = bundle.authorities
    .map(({ epoch }) => epoch)
    .filter((epoch) => epoch !== next)
    .sort((a, b) => replacedAt(a) - replacedAt(b))
  return {
    schedule,
    epochOf: new Map([...gone, ...bundle.authorities].map(({ epoch, sha256 }) => [sha256, epoch])),
    roots: new Set(bundle.roots.map(digest)),
    signers: signers.map((epoch, i) => {
      const earlier = signers.slice(0, i)
      const before = earlier.at(-1)
      // nobody remembers when the oldest one that is still trusted began, nor one that signed again after a rollback
      const isUnknown = before === undefined || earlier.some((other) => other > epoch)
      return {
        epoch,
        from: isUnknown ? Number.NEGATIVE_INFINITY : replacedAt(before),
        until: lastLeafEnds(state, epoch, schedule, epochEnd(schedule, epoch)),
      }
    }),
    distrusted: gone.map(({ epoch }) => ({ epoch, until: cleared.get(epoch) ?? Number.POSITIVE_INFINITY })),
  }
}

/** SHA-256 of the DER of the certificate, in hex. */
const digest = (pem: string): string =>
  createHash('sha256')
    .update(Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64'))
    .digest('hex')

function place(c: LiveConnection, known: Known, trust: Trust): Pick<Placed, 'epochs' | 'by'> {
  if (c.kind !== 'client') return placeServer(c, known, trust)
  if (!c.tls) return { epochs: [], by: 'plain' }
  const [leaf, ...rest] = c.certificates
  if (leaf === undefined) return placeWithoutCertificate(c, known, trust)
  const issued = known.leaves.get(leaf)
  if (issued !== undefined) return { epochs: trusted(trust, issued) ? [issued] : [], by: 'leaf' }
  const shown = new Set(rest.flatMap((sha256) => trust.epochOf.get(sha256) ?? []))
  // what a peer shows besides its leaf is its own word: a thief may show another authority than the stolen one
  const stolen = maybeStolen(trust, c)
  if (shown.size === 1) return { epochs: [...new Set([...stolen, ...shown])], by: 'chain' }
  // it showed who issued its leaf, and that is none of ours, or not any more
  if (shown.size === 0 && rest.some((sha256) => !trust.roots.has(sha256)))
    return { epochs: stolen, by: 'chain' }
  return { epochs: inUse(trust, c), by: 'start' }
}

const trusted = (trust: Trust, epoch: Epoch): boolean => [...trust.epochOf.values()].includes(epoch)

/**
 * It verified what the server served when it began, and showed nothing. An agent that has a bundle in which another one
 * signs keeps a trust file beside it that is enough for the next dial. In steady, whatever began after everybody was
 * seen to serve a leaf of the signer has verified that one.
 */
function placeWithoutCertificate(
  c: LiveConnection,
  known: Known,
  trust: Trust,
): Pick<Placed, 'epochs' | 'by'> {
  const { state } = known
  const version = known.agentOf(c.user)?.version ?? 0
  const begun = signing(trust, c.start).filter(
    (epoch) =>
      epoch === state.active ||
      state.phase !== 'steady' ||
      c.start === null ||
      c.start <= state.since + trust.schedule.lead,
  )
  const epochs = begun.filter(
    (epoch) => version < (state.replaced[epoch]?.version ?? Number.POSITIVE_INFINITY),
  )
  return { epochs, by: epochs.length < begun.length ? 'agent' : 'start' }
}

/**
 * Servers tell no certificates of each other. One with an agent has files for the next dial, and what it serves is proven
 * apart; of any other nobody knows.
 */
const placeServer = (c: LiveConnection, known: Known, trust: Trust): Pick<Placed, 'epochs' | 'by'> =>
  known.hasAgent(c.name) || (c.peer !== null && known.hasAgent(c.peer))
    ? { epochs: [], by: 'agent' }
    : { epochs: inUse(trust, c), by: 'start' }

/** Authorities of which a leaf may have been in use then. Clocks of servers may be off by `lead`. */
const signing = ({ signers, schedule: { lead } }: Trust, at: Instant | null): Epoch[] =>
  signers
    .filter(({ from, until }) => at === null || (from - lead <= at && at <= until + lead))
    .map(({ epoch }) => epoch)
    .sort((a, b) => a - b)

/** Whoever has shown a certificate, or a server, may have shown one of a tainted authority as well. */
const inUse = (trust: Trust, c: LiveConnection): Epoch[] => [
  ...maybeStolen(trust, c),
  ...signing(trust, c.start),
]

const maybeStolen = ({ distrusted }: Trust, { start, offset }: LiveConnection): Epoch[] =>
  distrusted.filter(({ until }) => start === null || start + offset <= until).map(({ epoch }) => epoch)

/** Nothing that we trust says who issued its certificate: it is of another CA, or of an authority that left trust. */
export const isForeign = ({ epochs, by }: Placed): boolean =>
  epochs.length === 0 && (by === 'leaf' || by === 'chain')

/** More than these are counted only. */
const EXAMPLES = 5

/** What a decision is told of a count: how many for each epoch, oldest epoch first, and a few of them. */
export function observed(
  count: Pick<Count, 'at' | 'problem'>,
  placed: readonly Placed[],
): ObservedConnections {
  const epochs = [...new Set(placed.flatMap((one) => one.epochs))].sort((a, b) => a - b)
  const foreign = placed.filter(isForeign)
  return {
    at: count.at,
    problem: count.problem,
    standing: epochs.map((epoch) => {
      const all = placed.filter((one) => one.epochs.includes(epoch))
      const certain = all.filter((one) => one.epochs.length === 1)
      const possible = all.filter((one) => one.epochs.length > 1)
      return {
        epoch,
        certain: certain.length,
        possible: possible.length,
        examples: [...certain, ...possible].slice(0, EXAMPLES).map(exampleOf),
      }
    }),
    foreign: { count: foreign.length, examples: foreign.slice(0, EXAMPLES).map(exampleOf) },
  }
}

export const exampleOf = ({ connection: c, by, epochs }: Placed): ConnectionExample => ({
  kind: c.kind,
  name: c.name || c.user || c.address,
  user: c.user,
  server: c.server,
  cid: c.cid,
  address: c.address,
  since: c.start === null ? null : formatInstant(c.start),
  by,
  certain: epochs.length === 1,
})
