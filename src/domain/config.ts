/** The configuration files of issuer and agent: strict schemas, all problems at once, a new value with absolute paths. */
import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { parseAddress } from '../probe/address.ts'
import { PROBE_KINDS } from '../probe/listeners.ts'
import { LISTENER_KINDS } from '../rotation/state.ts'
import { parseDuration } from '../time.ts'
import { isDnsName } from '../trust/names.ts'
import { isName } from '../wire/names.ts'
import { describeIssues } from '../wire/record.ts'

export const nameText = z.string().refine(isName, 'expected lower-case letters, digits and "-" (at most 63)')

const durationText = z.string().transform((text, context) => {
  try {
    return parseDuration(text)
  } catch (cause) {
    context.addIssue({ code: 'custom', message: RotorError.from(cause).message })
    return z.NEVER
  }
})

export const serverUrl = z.string().regex(/^(tls|nats):\/\/[^\s/]+:\d+$/, 'expected tls://host:port')
const address = z.string().refine((text) => !/[/@]/.test(text) && isAddress(text), 'expected host:port')

function isAddress(text: string): boolean {
  try {
    parseAddress(text)
    return true
  } catch {
    return false
  }
}

export const listener = z.strictObject({
  kind: z.enum(LISTENER_KINDS),
  address,
  /** TLS before INFO, as the server's `handshake_first`. */
  handshakeFirst: z.boolean().default(false),
})
export type ListenerConfig = z.infer<typeof listener>

export const certificateNames = z.strictObject({
  dns: z.array(z.string().refine(isDnsName, 'expected a DNS name')).default([]),
  ip: z.array(z.union([z.ipv4(), z.ipv6()])).default([]),
})

/** What the issuer knows of an agent: its policy for signing, and for a server where to probe. */
export const agentEntry = z.strictObject({
  name: nameText,
  role: z.enum(['server', 'service', 'issuer']),
  /** Names besides the SPIFFE ID that its certificates carry; it gets no others. */
  names: certificateNames.prefault({}),
  /** Of the nats-server beside a `server` agent. */
  listeners: z.array(listener).default([]),
})
export type AgentEntry = z.infer<typeof agentEntry>

const issuerSchema = z.strictObject({
  domain: nameText,
  /** Name of the issuer's own node. */
  name: nameText,
  /** Key store of the embedded authority; relative to this file. */
  keys: z.string(),
  /** File with the passphrase of the key store. */
  passphraseFile: z.string().optional(),
  identity: z.string(),
  servers: z.array(serverUrl).min(1),
  /** The servers begin with TLS, as their `handshake_first`. */
  handshakeFirst: z.boolean().default(false),
  /** Copies of the rotor's streams: 3 in a cluster. */
  replicas: z.int().min(1).max(5).default(1),
  agents: z.array(agentEntry).min(1),
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
  // The parser writes every IPv4 address as four numbers. A name can be made to lead elsewhere, so "localhost" is none.
  if (url.protocol === 'http:' && url.hostname !== '[::1]' && !/^127(\.\d{1,3}){3}$/.test(url.hostname)) {
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
  targets: z.array(target).default([]),
  /** Spread renewals of many services over time; servers go one at a time in any case. */
  spread: z.boolean().default(true),
  /** Trust anchors in ca.pem: the authorities themselves, or the root for clients that can not use them. */
  anchors: z.enum(['authorities', 'root']).default('authorities'),
  /** Old generations to keep. */
  keep: z.int().min(2).max(100).default(4),
})
export type AgentConfig = z.infer<typeof agentSchema>

/** Reads and checks `issuer.json`. Throws ERR_CONFIG_INVALID with every problem. */
export async function readIssuerConfig(file: string): Promise<IssuerConfig> {
  const config = await readConfig(issuerSchema, file)
  const names = config.agents.map((agent) => agent.name)
  const twice = names.filter((name, i) => names.indexOf(name) !== i)
  const problems = twice.map((name) => `agents: ${JSON.stringify(name)} is there twice`)
  if (!names.includes(config.name))
    problems.push(`agents: expected an entry for the issuer itself, ${JSON.stringify(config.name)}`)
  for (const agent of config.agents) {
    if (agent.role === 'server' && agent.listeners.length === 0)
      problems.push(`agents.${agent.name}.listeners: a server needs at least one`)
  }
  if (problems.length > 0) throw new RotorError('ERR_CONFIG_INVALID', `${file}: ${problems.join('; ')}`)
  const at = absolute(file)
  return {
    ...config,
    keys: at(config.keys),
    identity: at(config.identity),
    ...(config.passphraseFile === undefined ? {} : { passphraseFile: at(config.passphraseFile) }),
  }
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

const absolute = (file: string) => (path: string) => (isAbsolute(path) ? path : resolve(dirname(file), path))

async function readConfig<T extends z.ZodType>(schema: T, file: string): Promise<z.infer<T>> {
  let value: unknown
  try {
    value = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError('ERR_CONFIG_INVALID', `${file}: expected a JSON file: ${text}`, { cause })
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new RotorError('ERR_CONFIG_INVALID', `${file}: ${describeIssues(parsed.error)}`)
  return parsed.data
}
