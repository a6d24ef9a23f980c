/** What a trust domain is to consist of: the plan of a founding, checked, and the nodes that follow from it. Pure. */
import { isIP } from 'node:net'
import type { SignerKind } from '../../src/bundle/envelope.ts'
import type { VaultConfig } from '../../src/domain/vault-config.ts'
import { RotorError } from '../../src/errors.ts'
import { parseAddress } from '../../src/probe/address.ts'
import type { Schedule } from '../../src/schedule.ts'
import type { Clock } from '../../src/time.ts'
import type { KeyAlgorithm } from '../../src/trust/keys.ts'
import { isDnsName } from '../../src/trust/names.ts'
import { assertName } from '../../src/wire/names.ts'

/** Name of the issuer's own node, where the plan has no other. */
export const ISSUER = 'issuer'

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
  /** Names of the issuers. The first is laid out in `issuer/`, the others as nodes are. @default one, `issuer` */
  readonly issuers?: readonly string[]
  readonly servers: readonly ServerPlan[]
  readonly services: readonly ServicePlan[]
  readonly account?: string
  /** Encrypts root, authority and signer keys. The file is read here and again by the issuer. */
  readonly passphraseFile?: string
  /** Authorities are made in OpenBao or Vault and stay there. @default the embedded authority */
  readonly vault?: VaultConfig
  /** Kind of key of every node. @default 'P-256' */
  readonly key?: KeyAlgorithm
  /** Kind of key that signs bundles. @default 'ed25519' */
  readonly signer?: SignerKind
  /** `host:port` where further nodes join. @default none can */
  readonly join?: string
  readonly policy?: { readonly goOnBelow?: string; readonly retireAfter?: string }
  /** @default the clock of this machine */
  readonly clock?: Clock
}

export interface NodePlan {
  readonly name: string
  readonly role: 'server' | 'service' | 'issuer'
  readonly names: { readonly dns: readonly string[]; readonly ip: readonly string[] }
}

/** Throws ERR_CONFIG_INVALID with every problem. */
export function checkPlan(plan: FoundingPlan): void {
  const issuers = issuersOf(plan)
  const nodes = [...issuers, ...[...plan.servers, ...plan.services].map(({ name }) => name)]
  const problems = [...problemsOfNames([plan.domain], 'domain'), ...problemsOfNames(nodes, 'name')]
  const twice = nodes.filter((name, i) => nodes.indexOf(name) !== i)
  for (const name of new Set(twice)) problems.push(`the name ${JSON.stringify(name)} is there twice`)
  for (const { name, host } of plan.servers) {
    if (isIP(host) === 0 && !isDnsName(host))
      problems.push(`server ${name}: expected a DNS name or an IP address, found ${JSON.stringify(host)}`)
  }
  for (const { name, dns = [] } of plan.services) {
    const wrong = dns.filter((dnsName) => !isDnsName(dnsName))
    if (wrong.length > 0)
      problems.push(
        `service ${name}: expected DNS names, found ${wrong.map((w) => JSON.stringify(w)).join(', ')}`,
      )
  }
  for (const { name, clientPort, clusterPort } of plan.servers) {
    const wrong = [clientPort, clusterPort].filter((port) => port < 1 || port > 65_535)
    if (wrong.length > 0) problems.push(`${name}: expected a port of 1 to 65535, found ${wrong.join(', ')}`)
  }
  if (plan.join !== undefined) {
    try {
      parseAddress(plan.join, 'join')
    } catch (cause) {
      problems.push(RotorError.from(cause).message)
    }
  }
  if (issuers.length > 1 && plan.vault === undefined && plan.passphraseFile === undefined)
    problems.push(
      'issuers: expected a passphrase file, because several issuers share the key store; or keys in OpenBao or Vault',
    )
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
  // ... and a service with such a name could join as a server.
  const hosts = new Set(['localhost', ...plan.servers.flatMap(({ name, host }) => [name, host])])
  for (const { name, dns = [] } of plan.services) {
    const taken = dns.filter((dnsName) => hosts.has(dnsName))
    if (taken.length > 0) problems.push(`service ${name}: the name ${taken.join(', ')} is for servers only`)
  }
  if (problems.length > 0) throw new RotorError('ERR_CONFIG_INVALID', problems.join('; '))
}

function problemsOfNames(names: readonly string[], key: string): string[] {
  return [...new Set(names)].flatMap((name) => {
    try {
      assertName(name, key)
      return []
    } catch (cause) {
      return [RotorError.from(cause).message]
    }
  })
}

export const issuersOf = ({ issuers = [] }: FoundingPlan): readonly [string, ...string[]] => {
  const [first = ISSUER, ...more] = issuers
  return [first, ...more]
}

/** The issuer whose files are in the folder of the key store. */
export const isFirstIssuer = (plan: FoundingPlan, { name }: NodePlan): boolean => name === issuersOf(plan)[0]

export function nodesOf(plan: FoundingPlan): NodePlan[] {
  const issuers = issuersOf(plan).map(
    (name): NodePlan => ({ name, role: 'issuer', names: { dns: [], ip: [] } }),
  )
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
  return [...issuers, ...servers, ...services]
}

export const clientUrls = (plan: FoundingPlan): string[] =>
  plan.servers.map((server) => `tls://${server.host}:${server.clientPort}`)

export function listenersOf(plan: FoundingPlan, name: string) {
  const server = plan.servers.find((s) => s.name === name)
  if (server === undefined) return []
  const client = { kind: 'client', address: `${server.host}:${server.clientPort}` }
  return plan.servers.length === 1
    ? [client]
    : [client, { kind: 'cluster', address: `${server.host}:${server.clusterPort}` }]
}
