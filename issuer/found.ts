/**
 * Founding a trust domain: root, signer, first authority, bundle version 1, and the first identity of every node,
 * laid out so that servers, issuer and agents can be started from it. Refuses a directory that is not empty.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateSigner, type Signer, signBundle, signerToPem } from '../src/bundle/envelope.ts'
import { caFile, encodePayload, payloadDigest } from '../src/bundle/payload.ts'
import { type AccountUser, accountsBlock, serverSettings } from '../src/domain/nats-config.ts'
import { RotorError } from '../src/errors.ts'
import { openDirectory } from '../src/identity/directory.ts'
import { writeFileDurable } from '../src/identity/durable.ts'
import { epochAt, epochEnd, type Schedule } from '../src/schedule.ts'
import { formatInstant, type Instant } from '../src/time.ts'
import { generateKeyPair, privateKeyToPem } from '../src/trust/keys.ts'
import { BUNDLE_FORMAT, type BundlePayload } from '../src/wire/bundle.ts'
import { assertName, domainNames } from '../src/wire/names.ts'
import { createRoot, EmbeddedAuthority } from './authority/embedded.ts'

/** Name of the issuer's own node. */
export const ISSUER = 'issuer'
const YEAR = 365 * 86_400_000

export interface ServerPlan {
  readonly name: string
  /** Where clients and other servers reach it: a DNS name or an IP address. */
  readonly host: string
  readonly clientPort: number
  readonly clusterPort: number
}

export interface ServicePlan {
  readonly name: string
  /** Names of a service that is a TLS server itself. @default none */
  readonly dns?: readonly string[]
  /** NATS subjects of its own traffic. @default none */
  readonly publish?: readonly string[]
  readonly subscribe?: readonly string[]
  readonly streams?: readonly string[]
}

export interface FoundingPlan {
  readonly domain: string
  readonly out: string
  /** Where `out` will be when the nodes use it: configuration files carry these paths. @default out */
  readonly pathsAs?: string
  readonly schedule: Schedule
  readonly servers: readonly ServerPlan[]
  readonly services: readonly ServicePlan[]
  readonly account?: string
  /** Encrypts root, authority and signer keys. The file is read here and again by the issuer. */
  readonly passphraseFile?: string
  readonly policy?: { readonly goOnBelow?: string; readonly retireAfter?: string }
  readonly now: Instant
}

export interface Founded {
  readonly domain: string
  readonly out: string
  readonly issuerConfig: string
  readonly agentConfigs: Readonly<Record<string, string>>
  readonly serverConfigs: Readonly<Record<string, string>>
  readonly signer: string
  readonly epoch: number
}

interface NodePlan {
  readonly name: string
  readonly role: 'server' | 'service' | 'issuer'
  readonly names: { readonly dns: readonly string[]; readonly ip: readonly string[] }
}

/** Founds the domain and returns where everything is. Throws ERR_CONFIG_INVALID, ERR_IDENTITY_WRITE. */
export async function found(plan: FoundingPlan): Promise<Founded> {
  checkPlan(plan)
  await assertEmpty(plan.out)
  const names = domainNames(plan.domain)
  const at = (...parts: string[]) => join(plan.out, ...parts)
  const seenAt = (...parts: string[]) => join(plan.pathsAs ?? plan.out, ...parts)
  const passphrase =
    plan.passphraseFile === undefined ? undefined : (await readPassphrase(plan.passphraseFile)).trimEnd()
  const keys = at('issuer', 'keys')
  const root = await createRoot({
    domain: plan.domain,
    dir: keys,
    passphrase,
    notBefore: plan.now - plan.schedule.lead,
    notAfter: plan.now + 10 * YEAR,
  })
  const authority = new EmbeddedAuthority({ domain: plan.domain, dir: keys, passphrase })
  const signer = await generateSigner()
  await writeFileDurable(join(keys, 'signer.key'), signerToPem(signer, passphrase), 0o600)
  const genesis = await makeGenesis(plan, authority, signer, root)
  await writeFileDurable(join(keys, 'genesis.jws'), genesis.envelope, 0o644)

  const nodes = nodesOf(plan)
  for (const node of nodes) await enrol(plan, node, identityOf(at, node), authority, genesis)
  const agentConfigs: Record<string, string> = {}
  for (const node of nodes) {
    const file = node.role === 'issuer' ? at('issuer', 'agent.json') : at('agents', node.name, 'agent.json')
    agentConfigs[node.name] = file
    await writeJson(file, agentConfig(plan, node, seenAt))
  }
  const issuerConfig = at('issuer', 'issuer.json')
  await writeJson(issuerConfig, {
    domain: plan.domain,
    name: ISSUER,
    keys: './keys',
    ...(plan.passphraseFile === undefined ? {} : { passphraseFile: plan.passphraseFile }),
    identity: './identity',
    servers: clientUrls(plan),
    replicas: Math.min(3, plan.servers.length >= 3 ? 3 : 1),
    agents: nodes.map((node) => ({
      name: node.name,
      role: node.role,
      names: node.names,
      listeners: listenersOf(plan, node.name),
    })),
    ...(plan.policy === undefined ? {} : { policy: plan.policy }),
  })
  const serverConfigs: Record<string, string> = {}
  for (const server of plan.servers) serverConfigs[server.name] = await writeServer(plan, server, at, seenAt)
  return {
    domain: names.domain,
    out: plan.out,
    issuerConfig,
    agentConfigs,
    serverConfigs,
    signer: signer.key.kid,
    epoch: genesis.payload.epoch,
  }
}

interface Genesis {
  readonly payload: BundlePayload
  readonly digest: string
  readonly envelope: Uint8Array
  readonly signer: Signer
}

async function makeGenesis(
  plan: FoundingPlan,
  authority: EmbeddedAuthority,
  signer: Signer,
  root: string,
): Promise<Genesis> {
  const { schedule, now } = plan
  const epoch = epochAt(schedule, now)
  const first = await authority.prepare(epoch, {
    notBefore: now - schedule.lead,
    notAfter: epochEnd(schedule, epoch),
  })
  const payload: BundlePayload = {
    v: BUNDLE_FORMAT,
    domain: plan.domain,
    version: 1,
    epoch,
    issuedAt: formatInstant(now),
    expiresAt: formatInstant(now + schedule.validity),
    previous: null,
    reason: 'the domain is founded',
    authorities: [{ epoch, status: 'active', certificate: first.certificate, sha256: first.sha256 }],
    roots: [root],
    signers: [signer.key],
    schedule: { ...schedule, epochZero: formatInstant(schedule.epochZero) },
  }
  const text = encodePayload(payload)
  return { payload, digest: payloadDigest(text), envelope: await signBundle(text, [signer]), signer }
}

/**
 * The first identity of a node. Its leaf lives as long as its authority: nodes may be started a while after the
 * founding, and renew as soon as the next authority signs.
 */
async function enrol(
  plan: FoundingPlan,
  node: NodePlan,
  dir: string,
  authority: EmbeddedAuthority,
  genesis: Genesis,
): Promise<void> {
  const { domain, now, schedule } = plan
  const { payload } = genesis
  const keyPair = await generateKeyPair()
  const certificate = await authority.sign(payload.epoch, {
    publicKey: keyPair.publicKey,
    commonName: node.name,
    names: { ...node.names, uri: [domainNames(domain).spiffeId(node.name)] },
    notBefore: now - schedule.lead,
    notAfter: epochEnd(schedule, payload.epoch),
  })
  await using directory = await openDirectory(dir)
  const facts = { version: 1, digest: genesis.digest }
  const material = { key: privateKeyToPem(keyPair.privateKey), certificate, ca: caFile(payload) }
  const staged = await directory.stage(material, { ...facts, epoch: payload.epoch }, now, {
    skew: schedule.lead,
  })
  await directory.publish(staged)
  await directory.writeState({
    v: 1,
    domain,
    agent: node.name,
    highest: facts,
    signers: payload.signers,
    roots: payload.roots,
    envelope: Buffer.from(genesis.envelope).toString('utf8'),
    proven: { ...facts, generation: staged.name },
  })
}

function nodesOf(plan: FoundingPlan): NodePlan[] {
  const issuer: NodePlan = { name: ISSUER, role: 'issuer', names: { dns: [], ip: [] } }
  const servers = plan.servers.map(
    (server): NodePlan => ({
      name: server.name,
      role: 'server',
      names:
        isIP(server.host) === 0
          ? { dns: [...new Set([server.name, server.host, 'localhost'])], ip: ['127.0.0.1'] }
          : { dns: [server.name, 'localhost'], ip: [...new Set([server.host, '127.0.0.1'])] },
    }),
  )
  const services = plan.services.map(
    (service): NodePlan => ({
      name: service.name,
      role: 'service',
      names: { dns: service.dns ?? [], ip: [] },
    }),
  )
  return [issuer, ...servers, ...services]
}

const identityOf = (at: (...parts: string[]) => string, node: NodePlan): string =>
  node.role === 'issuer' ? at('issuer', 'identity') : at('agents', node.name, 'identity')

const clientUrls = (plan: FoundingPlan): string[] =>
  plan.servers.map((server) => `tls://${server.host}:${server.clientPort}`)

function listenersOf(plan: FoundingPlan, name: string) {
  const server = plan.servers.find((s) => s.name === name)
  if (server === undefined) return []
  const client = { kind: 'client', address: `${server.host}:${server.clientPort}` }
  return plan.servers.length === 1
    ? [client]
    : [client, { kind: 'cluster', address: `${server.host}:${server.clusterPort}` }]
}

function agentConfig(plan: FoundingPlan, node: NodePlan, seenAt: (...parts: string[]) => string) {
  const own = clientUrls(plan)
  const server = plan.servers.findIndex((s) => s.name === node.name)
  return {
    domain: plan.domain,
    agent: node.name,
    role: node.role,
    identity: './identity',
    // A server's agent asks its own server first.
    servers: server === -1 ? own : [...own.slice(server), ...own.slice(0, server)],
    names: node.names,
    targets:
      node.role === 'server'
        ? [
            {
              type: 'nats-server',
              name: node.name,
              listeners: listenersOf(plan, node.name),
              pidFile: seenAt('servers', node.name, 'nats-server.pid'),
              configFile: seenAt('servers', node.name, 'nats-server.conf'),
            },
          ]
        : [],
  }
}

async function writeServer(
  plan: FoundingPlan,
  server: ServerPlan,
  at: (...parts: string[]) => string,
  seenAt: (...parts: string[]) => string,
): Promise<string> {
  const dir = at('servers', server.name)
  await mkdir(dir, { recursive: true, mode: 0o755 })
  const everywhere = isIP(server.host) === 0 ? '0.0.0.0' : server.host
  const settings = serverSettings({
    name: server.name,
    client: `${everywhere}:${server.clientPort}`,
    ...(plan.servers.length === 1
      ? {}
      : {
          cluster: {
            name: plan.domain,
            listen: `${everywhere}:${server.clusterPort}`,
            routes: plan.servers.map((s) => `${isIP(s.host) === 0 ? s.host : 'localhost'}:${s.clusterPort}`),
          },
        }),
    identity: seenAt('agents', server.name, 'identity'),
    storeDir: seenAt('servers', server.name, 'jetstream'),
    pidFile: seenAt('servers', server.name, 'nats-server.pid'),
  })
  const users: AccountUser[] = nodesOf(plan).map((node) => {
    const {
      publish = [],
      subscribe = [],
      streams = [],
    } = plan.services.find((s) => s.name === node.name) ?? {}
    return { name: node.name, role: node.role, publish, subscribe, streams }
  })
  await writeFile(join(dir, 'server.conf'), settings)
  await writeFile(
    join(dir, 'accounts.conf'),
    accountsBlock({
      domain: plan.domain,
      ...(plan.account === undefined ? {} : { account: plan.account }),
      users,
    }),
  )
  const config = join(dir, 'nats-server.conf')
  await writeFile(config, await readFile(shippedConfig(), 'utf8'))
  return config
}

/** `nats-server.conf` of this package: beside the sources, or one level above `dist`. */
function shippedConfig(): string {
  const inDist = /[\\/]dist[\\/]issuer[\\/]/.test(fileURLToPath(import.meta.url))
  return fileURLToPath(new URL(inDist ? '../../nats-server.conf' : '../nats-server.conf', import.meta.url))
}

function checkPlan(plan: FoundingPlan): void {
  assertName(plan.domain, 'domain')
  const nodes = [...plan.servers, ...plan.services]
  for (const { name } of nodes) assertName(name, 'name')
  const all = [ISSUER, ...nodes.map((node) => node.name)]
  const twice = all.filter((name, i) => all.indexOf(name) !== i)
  const problems = [...new Set(twice)].map((name) => `the name ${JSON.stringify(name)} is there twice`)
  for (const { name, clientPort, clusterPort } of plan.servers) {
    const wrong = [clientPort, clusterPort].filter((port) => port < 1 || port > 65_535)
    if (wrong.length > 0) problems.push(`${name}: expected a port of 1 to 65535, found ${wrong.join(', ')}`)
  }
  if (plan.servers.length === 0) problems.push('expected at least one server')
  if (
    plan.servers.length > 1 &&
    new Set(plan.servers.map((s) => (isIP(s.host) === 0 ? 'name' : 'ip'))).size > 1
  ) {
    problems.push('servers: expected all hosts as names or all as IP addresses')
  }
  // Routes are checked by DNS name; several machines known by IP address only would all be "localhost".
  const ips = new Set(plan.servers.map((s) => s.host).filter((host) => isIP(host) !== 0))
  if (plan.servers.length > 1 && (ips.size > 1 || [...ips].some((ip) => !ip.startsWith('127.')))) {
    problems.push(
      'servers: a cluster needs DNS names as hosts, because routes are checked by name (or 127.0.0.1 for all)',
    )
  }
  if (problems.length > 0) throw new RotorError('ERR_CONFIG_INVALID', problems.join('; '))
}

async function readPassphrase(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause) => {
    throw new RotorError('ERR_CONFIG_INVALID', `passphrase file: ${cause.message}`, { cause })
  })
}

async function assertEmpty(dir: string): Promise<void> {
  const entries = await readdir(dir).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return []
    throw new RotorError('ERR_IDENTITY_WRITE', `${dir}: ${cause.message}`, { cause })
  })
  if (entries.length > 0) {
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      `${dir}: expected an empty or a new directory, found ${entries.length} entries`,
    )
  }
}

async function writeJson(file: string, value: unknown): Promise<void> {
  await mkdir(join(file, '..'), { recursive: true })
  await writeFile(file, `${JSON.stringify(value, null, 2)}\n`)
}
