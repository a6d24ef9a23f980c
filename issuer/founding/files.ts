/** The configuration files of a founded domain: issuer.json, agent.json of each node, and the folder of each server. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { JoinConfig } from '../../src/domain/config.ts'
import { type AccountUser, accountsBlock, serverSettings } from '../../src/domain/nats-config.ts'
import { parseAddress } from '../../src/probe/address.ts'
import { formatDuration } from '../../src/time.ts'
import {
  clientUrls,
  type FoundingPlan,
  isFirstIssuer,
  issuersOf,
  listenersOf,
  type NodePlan,
  nodesOf,
  type ServerPlan,
} from './plan.ts'

type Place = (...parts: string[]) => string

export interface ConfigFiles {
  readonly issuerConfig: string
  readonly agentConfigs: Readonly<Record<string, string>>
  readonly serverConfigs: Readonly<Record<string, string>>
}

/** Writes them below `at`; paths in them are those of `seenAt`. */
export async function writeConfigFiles(plan: FoundingPlan, at: Place, seenAt: Place): Promise<ConfigFiles> {
  const nodes = nodesOf(plan)
  const agentConfigs: Record<string, string> = {}
  for (const node of nodes) {
    const file = isFirstIssuer(plan, node)
      ? at('issuer', 'agent.json')
      : at('agents', node.name, 'agent.json')
    agentConfigs[node.name] = file
    await writeJson(file, agentConfig(plan, node, seenAt))
  }
  const issuerConfig = at('issuer', 'issuer.json')
  await writeJson(issuerConfig, {
    domain: plan.domain,
    name: issuersOf(plan)[0],
    keys: './keys',
    ...(plan.passphraseFile === undefined ? {} : { passphraseFile: plan.passphraseFile }),
    ...(plan.vault === undefined
      ? {}
      : { vault: { ...plan.vault, timeout: formatDuration(plan.vault.timeout) } }),
    identity: './identity',
    servers: clientUrls(plan),
    replicas: Math.min(3, plan.servers.length >= 3 ? 3 : 1),
    agents: nodes.map((node) => ({
      name: node.name,
      role: node.role,
      names: node.names,
      listeners: listenersOf(plan, node.name),
    })),
    ...(plan.join === undefined ? {} : { join: joinBlock(plan.join) }),
    ...(plan.policy === undefined ? {} : { policy: plan.policy }),
  })
  const serverConfigs: Record<string, string> = {}
  for (const server of plan.servers) serverConfigs[server.name] = await writeServer(plan, server, at, seenAt)
  return { issuerConfig, agentConfigs, serverConfigs }
}

/** A name is where nodes reach it; the issuer then listens on every address of its machine. */
function joinBlock(address: string): JoinConfig {
  const { host, port } = parseAddress(address, 'join')
  return isIP(host) === 0 ? { listen: `0.0.0.0:${port}`, addresses: [address] } : { listen: address }
}

function agentConfig(plan: FoundingPlan, node: NodePlan, seenAt: Place) {
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
    ...(plan.key === undefined ? {} : { key: plan.key }),
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
  at: Place,
  seenAt: Place,
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
            ...(isIP(server.host) === 0 ? { advertise: `${server.host}:${server.clusterPort}` } : {}),
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
  return fileURLToPath(
    new URL(inDist ? '../../../nats-server.conf' : '../../nats-server.conf', import.meta.url),
  )
}

async function writeJson(file: string, value: unknown): Promise<void> {
  await mkdir(join(file, '..'), { recursive: true })
  await writeFile(file, `${JSON.stringify(value, null, 2)}\n`)
}
