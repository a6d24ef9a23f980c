/** The configuration files of issuer and agent: strict schemas, all problems at once, a new value with absolute paths. */
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { PROBE_KINDS } from '../probe/listeners.ts'
import { KEY_ALGORITHMS } from '../trust/keys.ts'
import { agentEntry, certificateNames, listener, problemsOfEntries } from './agents.ts'
import { permittedNames, problemsOfPermitted } from './permitted.ts'
import { absolute, address, durationText, isLoopback, nameText, readConfig, serverUrl } from './values.ts'
import { absoluteVault, vaultBlock } from './vault-config.ts'

export type { AgentEntry, ListenerConfig } from './agents.ts'

/** Where nodes join that have no certificate yet: a small HTTPS server in the issuer. */
const joinBlock = z.strictObject({
  /** `host:port` to listen on. */
  listen: address,
  /** `host:port` where nodes reach it. @default `listen` */
  addresses: z.array(address).min(1).max(8).optional(),
})
export type JoinConfig = z.infer<typeof joinBlock>

const issuerSchema = z.strictObject({
  domain: nameText,
  /** Name of the issuer's own node. */
  name: nameText,
  /** The signer of bundles and version 1, and the keys of the embedded authority; relative to this file. */
  keys: z.string(),
  /** Authorities live in OpenBao or Vault. @default the embedded authority, in `keys` */
  vault: vaultBlock.optional(),
  /** File with the passphrase of the key store. */
  passphraseFile: z.string().optional(),
  identity: z.string(),
  servers: z.array(serverUrl).min(1),
  /** The servers begin with TLS, as their `handshake_first`. */
  handshakeFirst: z.boolean().default(false),
  /** Copies of the rotor's streams: 3 in a cluster. */
  replicas: z.int().min(1).max(5).default(1),
  agents: z.array(agentEntry).min(1),
  /** Of every authority that is made from now on. */
  authorities: z.strictObject({ permitted: permittedNames.optional() }).optional(),
  /** @default nobody can join: every node gets its identity from `rotor init` */
  join: joinBlock.optional(),
  /** With more than one issuer: another one takes over after this time without a sign of the leader. */
  lease: durationText.prefault('10s'),
  policy: z
    .strictObject({
      /** A rotation goes on without stragglers when the signer has less than this left. */
      goOnBelow: durationText.optional(),
      /** An authority leaves trust this long after its successor became active. */
      retireAfter: durationText.optional(),
      /** What a retirement does while the connections can not be counted: see RotationPolicy. */
      census: z.enum(['required', 'optional']).optional(),
      /** Connections that nobody of ours moves. @default they stay until their authority ends */
      strangers: z
        .strictObject({
          after: durationText.prefault('10m'),
          ldm: z.boolean().default(true),
          kick: z.strictObject({ perSecond: z.number().positive().max(1000).default(1) }).optional(),
        })
        .optional(),
      /** A tainted authority is out of use and out of trust after this time in each phase, whoever stays behind. */
      taintPatience: durationText.optional(),
      /** A rotation that more nodes refuse is taken back: number of servers, and part of all other agents. */
      maxFailures: z
        .strictObject({
          servers: z.int().min(0).default(0),
          clients: z.number().min(0).max(1).default(0.05),
        })
        .optional(),
    })
    .prefault({}),
})
export type IssuerConfig = z.infer<typeof issuerSchema>

/** A real TLS handshake with a listener of the process: it must serve the new leaf. */
const probe = z.strictObject({
  address,
  /** `tls`: anything that begins with TLS. The others are spoken by a nats-server. */
  kind: z.enum(PROBE_KINDS).default('tls'),
  handshakeFirst: z.boolean().default(false),
  /** Asked for, and looked for in the certificate. Without it the fingerprint alone tells whose leaf it is. */
  serverName: z.string().min(1).optional(),
  /** It must also take the certificate of this node. */
  accepts: z.boolean().default(true),
})
export type ProbeConfig = z.infer<typeof probe>

/** How a process that is not ours shows that it came back with the new files, after it was told. */
const proof = {
  /** A command; exit code 0 means yes. */
  check: z.array(z.string()).min(1).optional(),
  probe: probe.optional(),
  /** How long telling may take, and then each of the proofs. */
  timeout: durationText.prefault('10s'),
}
export interface ProofConfig {
  readonly check?: readonly string[] | undefined
  readonly probe?: ProbeConfig | undefined
  /** Milliseconds. */
  readonly timeout: number
}

const reloadUrl = z.string().superRefine((text, context) => {
  const message = problemOfUrl(text)
  if (message !== null) context.addIssue({ code: 'custom', message })
})

/** Never shows the text: somebody may have put a password in it. */
function problemOfUrl(text: string): string | null {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return 'expected https://host/path'
  if (url.username !== '' || url.password !== '') {
    return 'expected no user and password: a secret belongs in headersFile'
  }
  if (url.protocol === 'http:' && !isLoopback(url)) {
    return `http:// goes to 127.0.0.1 or [::1] only, because anybody on the way could read and change it; use https:// for ${url.hostname}`
  }
  return null
}

const target = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('nats-server'),
    name: nameText,
    listeners: z.array(listener).min(1),
    /** For SIGHUP where the server has no RELOAD request (before 2.10). */
    pidFile: z.string().optional(),
    /** For a dry run before the reload. */
    configFile: z.string().optional(),
    binary: z.string().optional(),
    timeout: durationText.prefault('10s'),
  }),
  z.strictObject({
    type: z.literal('signal'),
    pidFile: z.string(),
    signal: z.enum(['SIGHUP', 'SIGUSR1', 'SIGUSR2']).default('SIGHUP'),
    /** Text that is in the command line of the process: a pid may be given to another one. Linux only. */
    commandLine: z.string().min(1).optional(),
    ...proof,
  }),
  z.strictObject({ type: z.literal('exec'), command: z.array(z.string()).min(1), ...proof }),
  z.strictObject({
    type: z.literal('http'),
    url: reloadUrl,
    method: z.enum(['POST', 'PUT', 'PATCH', 'GET']).default('POST'),
    /** Lines of `Name: value`, read for each request. Secrets stand here, never in this configuration. */
    headersFile: z.string().optional(),
    /** Status codes that mean "told". A redirect is not followed. */
    expect: z.array(z.int().min(200).max(599)).min(1).default([200, 202, 204]),
    /** PEM file to trust for https instead of the node's own trust. */
    ca: z.string().optional(),
    /** Looked for in the certificate of an https service. @default the host of the URL */
    serverName: z.string().min(1).optional(),
    ...proof,
  }),
])
export type TargetConfig = z.infer<typeof target>

const agentSchema = z.strictObject({
  domain: nameText,
  agent: nameText,
  role: z.enum(['server', 'service', 'issuer']),
  identity: z.string(),
  servers: z.array(serverUrl).min(1),
  /** The servers begin with TLS, as their `handshake_first`. */
  handshakeFirst: z.boolean().default(false),
  names: certificateNames.prefault({}),
  /** Kind of key that this node makes for each certificate. */
  key: z.enum(KEY_ALGORITHMS).default('P-256'),
  targets: z.array(target).default([]),
  /** Spread renewals of many services over time; servers go one at a time in any case. */
  spread: z.boolean().default(true),
  /** Trust anchors in ca.pem: the authorities themselves, or the root for clients that can not use them. */
  anchors: z.enum(['authorities', 'root']).default('authorities'),
  /** Old generations to keep. */
  keep: z.int().min(2).max(100).default(4),
})
export type AgentConfig = z.infer<typeof agentSchema>

/** Shorter ones end by nothing but a busy machine; longer ones leave a domain without a leader for too long. */
const LEASES = { min: 1_000, max: 600_000 }

/** Names of the issuers of the domain: every agent with this role. */
export const issuersOf = ({ agents }: Pick<IssuerConfig, 'agents'>): string[] =>
  agents.filter(({ role }) => role === 'issuer').map(({ name }) => name)

/**
 * Reads and checks `issuer.json`. `name`: which of the issuers is meant. @default the `name` of the file
 * Throws ERR_CONFIG_INVALID with every problem.
 */
export async function readIssuerConfig(file: string, name?: string): Promise<IssuerConfig> {
  const read = await readConfig(issuerSchema, file)
  const config = name === undefined ? read : { ...read, name }
  const problems = [...problemsOfEntries(config.agents, config.name), ...problemsOfPermitted(config)]
  problems.push(...problemsOfIssuers(config))
  if (config.join !== undefined && config.join.addresses === undefined && isEverywhere(config.join.listen))
    problems.push(`join.addresses: expected where nodes reach ${config.join.listen}`)
  if (problems.length > 0) throw new RotorError('ERR_CONFIG_INVALID', `${file}: ${problems.join('; ')}`)
  const at = absolute(file)
  return {
    ...config,
    keys: at(config.keys),
    identity: at(config.identity),
    ...(config.vault === undefined ? {} : { vault: absoluteVault(config.vault, at) }),
    ...(config.passphraseFile === undefined ? {} : { passphraseFile: at(config.passphraseFile) }),
  }
}

function problemsOfIssuers(config: IssuerConfig): string[] {
  const problems: string[] = []
  const issuers = issuersOf(config)
  const own = config.agents.find(({ name }) => name === config.name)
  if (own !== undefined && own.role !== 'issuer')
    problems.push(`agents.${own.name}.role: expected issuer for the issuer itself, found ${own.role}`)
  if (issuers.length > 1 && config.vault === undefined && config.passphraseFile === undefined)
    problems.push(
      `passphraseFile: expected one, because ${issuers.length} issuers (${issuers.join(', ')}) share the key store`,
    )
  if (config.lease < LEASES.min || config.lease > LEASES.max) problems.push('lease: expected 1s to 10m')
  return problems
}

/** Reads and checks `agent.json`. Throws ERR_CONFIG_INVALID with every problem. */
export async function readAgentConfig(file: string): Promise<AgentConfig> {
  const config = await readConfig(agentSchema, file)
  const at = absolute(file)
  return {
    ...config,
    identity: at(config.identity),
    targets: config.targets.map((t) => absoluteTarget(t, at)),
  }
}

/** An address to listen on that is none to dial. */
const isEverywhere = (address: string): boolean => /^(0\.0\.0\.0|\[?::\]?):\d+$/.test(address)

function absoluteTarget(t: TargetConfig, at: (path: string) => string): TargetConfig {
  switch (t.type) {
    case 'exec':
      return t
    case 'signal':
      return { ...t, pidFile: at(t.pidFile) }
    case 'http':
      return {
        ...t,
        ...(t.headersFile === undefined ? {} : { headersFile: at(t.headersFile) }),
        ...(t.ca === undefined ? {} : { ca: at(t.ca) }),
      }
    case 'nats-server':
      return {
        ...t,
        ...(t.pidFile === undefined ? {} : { pidFile: at(t.pidFile) }),
        ...(t.configFile === undefined ? {} : { configFile: at(t.configFile) }),
      }
  }
}
