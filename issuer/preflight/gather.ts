/** The facts of a preflight, gathered from records, servers, listeners and the key store of this machine. Writes nothing. */
import type { NatsConnection } from '@nats-io/transport-node'
import type { Signer } from '../../src/bundle/envelope.ts'
import { type AgentEntry, entryFor } from '../../src/domain/agents.ts'
import type { Operator } from '../../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { connectWith } from '../../src/nats/connect.ts'
import type { Facts, NodeFacts } from '../../src/preflight/facts.ts'
import type { ObservedServer } from '../../src/rotation/state.ts'
import { leafLifetime } from '../../src/schedule.ts'
import type { Duration, Instant } from '../../src/time.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { type BundlePayload, bundlePayload, scheduleOf } from '../../src/wire/bundle.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { countConnections, type ServerCount } from '../census/count.ts'
import { Signers } from '../loop/roots.ts'
import { newestBundle, readState } from '../store.ts'
import { viewKeys } from './keys.ts'
import { viewListeners, viewServers } from './servers.ts'

/** A dial takes milliseconds. */
const SECOND_CONNECTION: Duration = 5_000

/** Throws as `gatherOverview` and `readIdentity` do; what else can not be seen is in `notSeen`. */
export async function gatherFacts(operator: Operator, now: Instant): Promise<Facts> {
  const { config, names, nc } = operator
  const overview = await gatherOverview(nc, names, config, now)
  const stored = await readState(nc, names)
  if (stored === null) throw new RotorError('ERR_NATS_UNAVAILABLE', `${names.stateBucket}: no rotation state`)
  const { state } = stored
  const bundle = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
  const entries = overview.agents.flatMap(({ name }) => entryFor(config.agents, name) ?? [])
  const servers = entries.filter(({ role }) => role === 'server')
  const material = await readIdentity(config.identity)
  const [keys, count, listeners] = await Promise.all([
    viewKeys(config, state),
    countConnections(nc, { expected: servers.map(({ name }) => name), now }),
    viewListeners(servers, material),
  ])
  // after the handshakes: those are connections of this account, too
  const secondConnection = await trySecondConnection(operator, nc, new HeldIdentity(material))
  const view = await viewServers(nc, count.servers, ownStreams(names))
  const published = await publishedVersion(nc, names, keys.signers)
  const counted = count.problem === null ? [] : [{ what: 'connections', why: count.problem }]
  return {
    state,
    seen: {
      held: keys.held,
      roots: keys.roots,
      signedBy: new Signers().of(bundle, keys.held, keys.roots),
      published: published.version ?? state.version,
      agents: overview.agents.map(({ name, status }) => ({ name, status })),
      servers: observed(servers, count),
    },
    policy: config.policy,
    issuer: issuerOf(overview),
    nodes: nodesOf(entries, count, bundle),
    servers: count.servers.length === 0 ? null : view.servers,
    listeners,
    secondConnection,
    streams: view.streams,
    keys: keys.facts,
    rootEnds: rootEndsOf(bundle),
    notSeen: [...counted, ...published.notSeen, ...view.notSeen, ...keys.notSeen],
  }
}

/** `version` null when nobody can say which message is ours: the state tells then which one has to be. */
async function publishedVersion(
  nc: NatsConnection,
  names: DomainNames,
  signers: readonly Signer[],
): Promise<{ readonly version: number | null } & Pick<Facts, 'notSeen'>> {
  if (signers.length === 0) return { version: null, notSeen: [] }
  try {
    return { version: (await newestBundle(nc, names, signers))?.version ?? 0, notSeen: [] }
  } catch (cause) {
    const { message } = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
    return { version: null, notSeen: [{ what: `stream ${names.bundleStream}`, why: message }] }
  }
}

/** A handoff opens one more connection beside the one there is; the limits of an account are told by nothing but this. */
async function trySecondConnection(
  { config, names }: Operator,
  first: NatsConnection,
  identity: HeldIdentity,
): Promise<string | null> {
  try {
    const second = await connectWith({
      servers: [first.getServer()],
      identity,
      handshakeFirst: config.handshakeFirst,
      name: 'rotor-preflight',
      inboxPrefix: names.inbox(config.name),
      reconnect: false,
      signal: AbortSignal.timeout(SECOND_CONNECTION),
    })
    await second.close()
    return null
  } catch (cause) {
    return RotorError.from(cause).message
  }
}

/** The streams of the domain itself: their consumers are made for what a rotation does. */
const ownStreams = ({ bundleStream, statusBucket, stateBucket }: DomainNames): ReadonlySet<string> =>
  new Set([bundleStream, `KV_${statusBucket}`, `KV_${stateBucket}`])

const issuerOf = ({ lease, problem, waitingFor }: Overview): Facts['issuer'] => ({
  lease: lease && { holder: lease.holder, at: Date.parse(lease.renewed), duration: lease.duration },
  problem,
  waitingFor,
})

/** Without proofs: those count for one phase, and the leader makes them. */
function observed(servers: readonly AgentEntry[], { servers: found }: ServerCount): ObservedServer[] {
  const known = servers.map(({ name, listeners }) => ({
    name,
    agent: name,
    listeners: listeners.map(({ kind, address }) => ({ kind, address, proof: null })),
  }))
  const names = new Set(servers.map(({ name }) => name))
  const strangers = found.filter(({ name }) => !names.has(name))
  return [...known, ...strangers.map(({ name }) => ({ name, agent: null, listeners: [] }))]
}

function nodesOf(entries: readonly AgentEntry[], count: ServerCount, bundle: BundlePayload): NodeFacts[] {
  const connected = new Set(count.connections.map(({ name }) => name))
  const longest = leafLifetime(scheduleOf(bundle))
  return entries.map(({ name, role, lifetime }) => ({
    name,
    role,
    lifetime: Math.min(lifetime ?? longest, longest),
    connected: connected.has(`rotor-agent-${name}`) || (count.problem === null ? false : null),
  }))
}

const rootEndsOf = ({ roots }: BundlePayload): Facts['rootEnds'] =>
  Object.fromEntries(
    roots.map((pem) => {
      const { sha256, notAfter } = parseCertificate(pem, 'root')
      return [sha256, notAfter]
    }),
  )
