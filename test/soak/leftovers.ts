/** Is everything as it should be at the end, and nothing there that nobody needs? Each finding is a sentence. */
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import { readAgentConfig } from '../../agent/index.ts'
import { EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { Vault } from '../../issuer/authority/vault/client.ts'
import { STATE_KEY } from '../../issuer/store.ts'
import { TURN_KEY } from '../../issuer/turns.ts'
import type { Overview } from '../../src/domain/overview.ts'
import { CURRENT, GENERATIONS, LOCK, MATERIAL_FILES, STATE } from '../../src/identity/layout.ts'
import { silentLogger } from '../../src/log.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { LEASE_KEY } from '../../src/wire/lease.ts'
import { PROBLEM_KEY, REPORT_KEY } from '../../src/wire/report.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { contentsOf } from '../support/engine.ts'
import { eventually } from '../support/eventually.ts'

import { type Fleet, ISSUERS, PASSPHRASE } from './fleet.ts'
import { consumerOf, SOAK_STREAM } from './service.ts'

/** What goes by itself a while after who made it was killed: consumers of a watch, mostly. */
const GOES_WITHIN = 30_000

/** Of a fleet that runs and rests. Looks again for a while before it complains. */
export async function findLeftovers(fleet: Fleet): Promise<string[]> {
  const look = async (): Promise<string[]> => {
    const overview = await fleet.domain.overview()
    const found = await Promise.all([
      standing(fleet, overview),
      history(fleet),
      onJetStream(fleet),
      keysOf(fleet, overview),
      onDisk(fleet),
      processes(fleet),
    ])
    return found.flat()
  }
  let last: string[] = []
  await eventually(
    async () => {
      last = await look()
      return last.length === 0
    },
    { timeout: GOES_WITHIN, interval: 500 },
  ).catch((cause) => {
    if (last.length === 0) throw cause
  })
  return last
}

/** Every node, on its disk and as its listeners prove it, stands on the authority that signs, and trusts no other. */
async function standing(fleet: Fleet, overview: Overview): Promise<string[]> {
  const { domain } = fleet
  const problems: string[] = []
  const trusted = overview.authorities.map(({ sha256 }) => sha256)
  if (trusted.length !== 1) problems.push(`${trusted.length} authorities are trusted`)
  for (const node of fleet.nodes) {
    const { leaf, ca, epoch } = await domain.identity(node)
    const anchors = parseCertificates(ca, `ca.pem of ${node}`).map(({ sha256 }) => sha256)
    const status = overview.agents.find(({ name }) => name === node)?.status
    if (epoch !== overview.active) problems.push(`${node}: its leaf is of epoch ${epoch}`)
    if (anchors.join() !== trusted.join()) problems.push(`${node}: trusts ${anchors.length} authorities`)
    if (status?.leaf.fingerprint !== leaf.sha256) problems.push(`${node}: reports another leaf than it has`)
  }
  const material = await domain.identity(fleet.services[0] ?? '')
  for (const { server, kind, result } of await domain.probe(material, ['client', 'cluster'])) {
    const { leaf } = await domain.identity(server)
    if (result.served.sha256 !== leaf.sha256)
      problems.push(`${server}: its ${kind} listener serves another leaf`)
    if (!result.accepted)
      problems.push(`${server}: its ${kind} listener does not accept ${fleet.services[0]}`)
  }
  return problems
}

/** One message for each version, and each names the one before. */
async function history(fleet: Fleet): Promise<string[]> {
  const bundles = await fleet.domain.history()
  const { state } = await fleet.domain.asOperator(async ({ nc, names }) =>
    (await jetstreamManager(nc)).streams.info(names.bundleStream),
  )
  const strange = state.messages - bundles.length
  return [
    ...chainProblems(bundles),
    ...(strange === 0 ? [] : [`the bundle stream has ${strange} messages that are no bundle`]),
  ]
}

async function onJetStream(fleet: Fleet): Promise<string[]> {
  const { names } = fleet.domain
  const buckets = [names.stateBucket, names.statusBucket].map((bucket) => `KV_${bucket}`)
  const durable = new Map([
    [names.bundleStream, fleet.nodes.map((node) => names.consumer(node))],
    [SOAK_STREAM, fleet.services.map(consumerOf)],
  ])
  const problems: string[] = []
  const streams = await fleet.asWatcher(async (jsm) => {
    const found: string[] = []
    for await (const { config } of jsm.streams.list()) found.push(config.name)
    return found
  })
  problems.push(...beyond('the stream', streams, [...buckets, ...durable.keys()]))
  const lookAt = async (stream: string, jsm: JetStreamManager): Promise<void> => {
    const consumers: string[] = []
    let watching = 0
    for await (const { name, config, push_bound } of jsm.consumers.list(stream)) {
      if (config.durable_name !== undefined || !buckets.includes(stream)) consumers.push(name)
      else if (push_bound === true) watching += 1
      // of a watch that ended: the server forgets it by itself, when it was told after which time
      else if ((config.inactive_threshold ?? 0) / NANOS > FORGOTTEN_WITHIN) consumers.push(name)
    }
    problems.push(...beyond(`on ${stream} the consumer`, consumers, durable.get(stream) ?? []))
    if (watching > WATCHES * ISSUERS.length) problems.push(`${stream} is read by ${watching} watches`)
  }
  await fleet.asWatcher((jsm) => lookAt(SOAK_STREAM, jsm))
  await fleet.domain.asOperator(async ({ nc }) => {
    const jsm = await jetstreamManager(nc)
    for (const stream of [names.bundleStream, ...buckets]) await lookAt(stream, jsm)
  })
  const keysIn = (bucket: string): Promise<string[]> =>
    fleet.domain.asOperator(async ({ nc }) => {
      const space = `$KV.${bucket}.`
      const { state } = await (await jetstreamManager(nc)).streams.info(`KV_${bucket}`, {
        subjects_filter: `${space}>`,
      })
      return Object.keys(state.subjects ?? {}).map((subject) => subject.slice(space.length))
    })
  problems.push(
    ...beyond('the status', await keysIn(names.statusBucket), fleet.nodes),
    ...beyond(
      'the key',
      // there once an issuer could not work for a while, or stopped in the middle of a wave
      (await keysIn(names.stateBucket)).filter((key) => key !== PROBLEM_KEY && key !== TURN_KEY),
      [STATE_KEY, REPORT_KEY, LEASE_KEY],
    ),
  )
  return problems
}

/** Of a bucket, by one issuer at a time: records that it follows. */
const WATCHES = 4
const NANOS = 1_000_000
/** The NATS client says 5 minutes for the consumer of a watch. */
const FORGOTTEN_WITHIN = 300_000

/** Authorities outside of what is trusted, in the key store or in OpenBao. */
async function keysOf(fleet: Fleet, { authorities }: Overview): Promise<string[]> {
  const { openBao, dir, name } = fleet.domain.local
  if (openBao === null) {
    const keys = new EmbeddedAuthority({
      domain: name,
      dir: join(dir, 'issuer', 'keys'),
      passphrase: PASSPHRASE,
    })
    const held = (await keys.list()).map(({ sha256 }) => sha256)
    return beyond(
      'the key of the authority',
      held,
      authorities.map(({ sha256 }) => sha256),
    )
  }
  const { bao, config } = openBao
  const root = { config, name: 'operator', token: bao.rootToken, logger: silentLogger }
  await using operator = await Vault.open(root)
  const { issuers, keys } = await contentsOf(operator, config.mounts.authorities, name)
  const epochs = authorities.map(({ epoch }) => `rotor-${name}-${epoch}`)
  return [
    ...beyond('the issuer in OpenBao', issuers, epochs),
    ...beyond(
      'the key in OpenBao',
      keys.map((key) => key.replace(/-[0-9a-f]{16}$/, '')),
      epochs,
    ),
  ]
}

/** Unfinished files anywhere, and identity directories with more in them than they need. */
async function onDisk(fleet: Fleet): Promise<string[]> {
  const { dir } = fleet.domain.local
  const problems: string[] = []
  for (const place of ['issuer', 'agents']) {
    const all = await readdir(join(dir, place), { recursive: true })
    // whatever is under way has a name that begins like this, for a moment
    problems.push(
      ...all
        .filter((path) => path.split('/').some((part) => part.startsWith('.')))
        .map((path) => `the file ${place}/${path}`),
    )
  }
  for (const node of fleet.nodes) {
    const identity = fleet.domain.identityDir(node)
    const { keep } = await readAgentConfig(fleet.domain.agentConfig(node))
    problems.push(
      ...beyond(`${node}: the file`, await readdir(identity), [
        STATE,
        GENERATIONS,
        CURRENT,
        LOCK,
        ...MATERIAL_FILES,
      ]),
    )
    const generations = await readdir(join(identity, GENERATIONS))
    if (generations.length > keep) problems.push(`${node} keeps ${generations.length} generations`)
    const locks = await readdir(join(identity, LOCK))
    if (locks.length !== 1) problems.push(`${node}: ${locks.length} lock files`)
  }
  return problems
}

async function processes(fleet: Fleet): Promise<string[]> {
  const { local } = fleet.domain
  const ours = [...local.children.values(), ...local.servers].map(({ pid }) => pid)
  if (local.openBao !== null) ours.push(local.openBao.bao.pid)
  const running = await processesOf(dirname(local.dir))
  return beyond('the process', running.map(String), ours.map(String))
}

/** Ids of all processes with a path below this folder on their command line; none where there is no /proc. */
export async function processesOf(dir: string): Promise<number[]> {
  const ids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(
    ids.map(async (pid) => {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      return pid !== process.pid && command.includes(`${dir}/`) ? [pid] : []
    }),
  )
  return found.flat()
}

/** Missing and unexpected ones, by name. */
function beyond(what: string, found: readonly string[], expected: readonly string[]): string[] {
  return [
    ...found.filter((name) => !expected.includes(name)).map((name) => `${what} ${name} is left over`),
    ...expected.filter((name) => !found.includes(name)).map((name) => `${what} ${name} is missing`),
  ]
}
