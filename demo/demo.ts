/** The demo: a live cluster rotates its CA under traffic, and every message is counted. */
import { RotorError } from '../src/errors.ts'
import { freePorts } from '../src/local/ports.ts'
import { sleep } from '../src/time.ts'
import { type Findings, inspectDomain } from './check.ts'
import type { ChildEvent } from './child.ts'
import { type AuthorityKind, editJson, type LocalDomain, makeLocalDomain } from './domain.ts'
import { Progress, percentile } from './progress.ts'

export interface DemoOptions {
  /** Rotations to see; 0 runs until stopped. */
  readonly epochs: number
  readonly epochSeconds: number
  readonly services: number
  /** Messages per second of all services together. */
  readonly rate: number
  /** Where authorities are made and stay. @default 'embedded' */
  readonly authority?: AuthorityKind
  /** Keep the files here. */
  readonly keep?: string
  readonly signal: AbortSignal
  readonly onEvent: (event: ChildEvent, progress: Progress) => void
}

export interface DemoSummary extends Readonly<Record<string, unknown>> {
  readonly type: 'summary'
  readonly ok: boolean
}

const NAMES = ['orders', 'billing', 'shipping', 'stock']
/** The counts have settled when they did not change for this long; each service says them four times a second. */
const QUIET = 1_500
const SETTLE_AT_MOST = 20_000
/** The first certificates end with the first authority: a slow machine needs this long to start everything. */
const START_AT_MOST = 40_000

interface ServiceSpec {
  readonly name: string
  readonly mode: 'library' | 'sidecar'
  readonly neighbour: string
}

/** Runs it and returns the summary. Throws ERR_ABORTED when stopped while starting; everything is cleaned up always. */
export async function runDemo(options: DemoOptions): Promise<DemoSummary> {
  const services = planServices(options.services)
  const progress = new Progress(
    [
      { name: 'issuer', role: 'issuer' },
      ...[1, 2, 3].map((i) => ({ name: `nats-${i}`, role: 'server' as const })),
      ...services.map(({ name, mode }) => ({ name, role: mode })),
    ],
    new Map(services.map(({ name, neighbour }) => [name, neighbour])),
  )
  const tell = (event: ChildEvent): void => {
    progress.take(event)
    options.onEvent(event, progress)
  }
  const phase = (text: string): void => {
    tell({ type: 'phase', text, at: new Date().toISOString() })
  }

  const { authority = 'embedded' } = options
  const inBao = authority === 'openbao'
  phase(inBao ? 'starting OpenBao and founding the trust domain in it' : 'founding the trust domain')
  await using domain = await makeLocalDomain({
    epochDuration: options.epochSeconds * 1000,
    schedule: { validity: Math.max(4 * options.epochSeconds * 1000, START_AT_MOST) },
    // epochs of seconds, and a machine that may take many of them to start everything: nobody is left behind
    policy: { goOnBelow: `${options.epochSeconds * 500}ms` },
    services: services.map(({ name }) => ({
      name,
      publish: ['demo.>'],
      subscribe: ['demo.>'],
      streams: ['DEMO'],
      dns: [dnsName(name)],
    })),
    onEvent: tell,
    authority,
    ...(options.keep === undefined ? {} : { dir: options.keep }),
  })
  phase('starting three nats-servers with TLS')
  await domain.startServers()
  options.signal.throwIfAborted()
  phase('starting the issuer, the agents and the services')
  await Promise.all([
    domain.startIssuer(),
    ...domain.plans.map(({ name }) => domain.startAgent(name)),
    ...services.map((service) => startService(domain, service, options)),
  ])
  for (const { name } of domain.plans)
    await domain.children.get(`agent-${name}`)?.started('started', options.signal)
  for (const { name } of services) await domain.children.get(name)?.started('started', options.signal)
  for (const { name } of services) domain.children.get(name)?.send('publish')
  phase('everything runs; the first rotation begins shortly before the first epoch ends')

  await untilDone(domain, progress, options)
  // Without a number of epochs, stopping is how it ends; otherwise it is how it is given up.
  if (options.epochs > 0 || progress.rotations === 0) options.signal.throwIfAborted()
  phase('the publishers stop, late messages are waited for')
  await settle(domain, services, progress)
  const findings = await inspectAtRest(domain)
  return summarise(findings, progress, options)
}

function planServices(count: number): ServiceSpec[] {
  const names = Array.from({ length: count }, (_, i) => NAMES[i] ?? `service-${i + 1}`)
  return names.map((name, i) => ({
    name,
    mode: i % 2 === 0 ? 'library' : 'sidecar',
    neighbour: names[(i + 1) % count] ?? name,
  }))
}

async function startService(domain: LocalDomain, service: ServiceSpec, options: DemoOptions): Promise<void> {
  const { name, mode, neighbour } = service
  const config = domain.founded.agentConfigs[name] ?? ''
  const [port = 0] = await freePorts(1)
  const settings = { mode, config, port, neighbour, rate: options.rate / options.services, replicas: 3 }
  if (mode === 'sidecar') await editJson(config, { targets: [sidecarTarget(name, port)] })
  const child = await domain.start(name, 'demo/service', [JSON.stringify(settings)])
  if (mode === 'library') return
  await child.started('started', options.signal)
  await domain.startAgent(name)
}

const dnsName = (service: string): string => `${service}.demo`

/** Told by a request that is answered when the service has moved, proven by a handshake: see moved.ts. */
function sidecarTarget(name: string, port: number): object {
  const address = `127.0.0.1:${port}`
  const serverName = dnsName(name)
  return { type: 'http', url: `https://${address}/moved`, serverName, probe: { address, serverName } }
}

/** Until enough rotations have converged, or somebody stops us. A process that ends by itself ends the demo. */
async function untilDone(domain: LocalDomain, progress: Progress, options: DemoOptions): Promise<void> {
  const ended = Promise.race(
    [...domain.children.values()].map((child) => child.exited.then((how) => ({ child, how }))),
  )
  let dead: { child: { name: string; logFile: string }; how: string } | null = null
  void ended.then((found) => {
    dead = found
  })
  while (!options.signal.aborted && (options.epochs === 0 || progress.rotations < options.epochs)) {
    if (dead !== null) throw processEnded(dead)
    await sleep(50, options.signal).catch(() => {})
  }
}

const processEnded = ({
  child,
  how,
}: {
  child: { name: string; logFile: string }
  how: string
}): RotorError =>
  new RotorError('ERR_INTERNAL', `${child.name} ended by itself (${how}); its log: ${child.logFile}`)

async function settle(
  domain: LocalDomain,
  services: readonly ServiceSpec[],
  progress: Progress,
): Promise<void> {
  for (const { name } of services) domain.children.get(name)?.send('stop-publishing')
  const deadline = Date.now() + SETTLE_AT_MOST
  let last = ''
  let since = Date.now()
  while (Date.now() < deadline && Date.now() - since < QUIET) {
    const now = JSON.stringify(progress.flows)
    if (now !== last) since = Date.now()
    last = now
    await sleep(100)
  }
}

/** Looks when no rotation is under way, or the picture would be of two moments. */
async function inspectAtRest(domain: LocalDomain): Promise<Findings> {
  const deadline = Date.now() + SETTLE_AT_MOST
  for (;;) {
    const before = await inspectDomain(domain)
    const after = await inspectDomain(domain)
    const still = before.overview.phase === 'steady' && after.overview.version === before.overview.version
    if (still || Date.now() > deadline) return after
    await sleep(200)
  }
}

function summarise({ overview, servers }: Findings, progress: Progress, options: DemoOptions): DemoSummary {
  const { core, jetstream, requests } = progress.flows
  const agents = overview.agents.map(({ name, role, status }) => ({
    name,
    role,
    version: status?.version ?? 0,
    leafEpoch: status?.leaf.issuerEpoch ?? null,
  }))
  const signed = (epoch: number | null) => epoch === overview.active
  const ok =
    progress.rotations >= Math.max(1, options.epochs) &&
    jetstream.published > 0 &&
    jetstream.lost === 0 &&
    jetstream.duplicated === 0 &&
    jetstream.received === jetstream.published &&
    core.published > 0 &&
    core.lost === 0 &&
    core.duplicated === 0 &&
    core.reordered === 0 &&
    core.received === core.published &&
    requests.sent > 0 &&
    requests.failed === 0 &&
    servers.every((server) => signed(server.servedEpoch)) &&
    agents.every((agent) => signed(agent.leafEpoch))
  const ms = (p: number) => percentile(progress.rotationMs, p)
  return {
    type: 'summary',
    ok,
    authority: options.authority ?? 'embedded',
    epochs: options.epochs,
    rotations: progress.rotations,
    bundleVersion: overview.version,
    jetstream,
    core,
    requests,
    rotationMs: { p50: ms(50), p99: ms(99), max: ms(100) },
    servers,
    agents,
  }
}
