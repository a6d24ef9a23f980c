/** The configuration files of issuer and agent: strict schemas, all problems at once, a new value with absolute paths. */
import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { LISTENER_KINDS } from '../rotation/state.ts'
import { parseDuration } from '../time.ts'
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
const address = z.string().regex(/^[^\s/]+:\d+$/, 'expected host:port')

export const listener = z.strictObject({
  kind: z.enum(LISTENER_KINDS),
  address,
  /** TLS before INFO, as the server's `handshake_first`. */
  handshakeFirst: z.boolean().default(false),
})
export type ListenerConfig = z.infer<typeof listener>

export const certificateNames = z.strictObject({
  dns: z.array(z.string()).default([]),
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
    })
    .prefault({}),
})
export type IssuerConfig = z.infer<typeof issuerSchema>

const check = {
  /** Run after the target was told; exit code 0 means that it came back. */
  check: z.array(z.string()).min(1).optional(),
  /** How long notify and check may take. */
  timeout: durationText.prefault('10s'),
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
    ...check,
  }),
  z.strictObject({ type: z.literal('exec'), command: z.array(z.string()).min(1), ...check }),
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
  if (t.type === 'exec') return t
  if (t.type === 'signal') return { ...t, pidFile: at(t.pidFile) }
  return {
    ...t,
    ...(t.pidFile === undefined ? {} : { pidFile: at(t.pidFile) }),
    ...(t.configFile === undefined ? {} : { configFile: at(t.configFile) }),
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
