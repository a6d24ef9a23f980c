/** Who may be an agent of a domain, and with which certificates: the `agents` of issuer.json, exact names and patterns. */
import { z } from 'zod'
import { LISTENER_KINDS } from '../rotation/state.ts'
import { KEY_ALGORITHMS } from '../trust/keys.ts'
import { assertNames, isDnsName } from '../trust/names.ts'
import { isName } from '../wire/names.ts'
import { address, durationText } from './values.ts'

export const listener = z.strictObject({
  kind: z.enum(LISTENER_KINDS),
  address,
  /** TLS before INFO, as the server's `handshake_first`. */
  handshakeFirst: z.boolean().default(false),
})
export type ListenerConfig = z.infer<typeof listener>

/**
 * No SPIFFE ID: NATS takes any URI of a certificate for the user, so one of another node would be that node. In any
 * case and form, because Go reads the scheme as `spiffe` however it is written.
 */
const uri = z
  .string()
  .refine(isUri, 'expected an absolute URI')
  .refine((text) => !/^spiffe:/i.test(text), 'expected no SPIFFE ID: an agent has exactly its own')

const ip = z.union([z.ipv4(), z.ipv6()])

export const certificateNames = z.strictObject({
  dns: z.array(z.string().refine(isDnsName, 'expected a DNS name')).default([]),
  ip: z.array(ip).default([]),
  uri: z.array(uri).default([]),
})

/** Stands for the name of the agent in the names of an entry. */
const PLACEHOLDER = '{name}'
const filled = (text: string, name: string): string => text.replaceAll(PLACEHOLDER, name)

const hasOneAtMost = (text: string): boolean => text.split(PLACEHOLDER).length <= 2

/** Names of a policy: as above, with one `{name}` for the name of the agent. */
const policyNames = z.strictObject({
  dns: z
    .array(
      z.string().refine((text) => hasOneAtMost(text) && isDnsName(filled(text, 'x')), 'expected a DNS name'),
    )
    .default([]),
  ip: z.array(ip).default([]),
  uri: z
    .array(
      z
        .string()
        .refine(
          (text) => hasOneAtMost(text) && uri.safeParse(filled(text, 'x')).success,
          'expected a URI, no SPIFFE ID',
        ),
    )
    .default([]),
})

/** `orders-*`: every name that begins so. */
const isPattern = (text: string): boolean => text.endsWith('*') && isName(`${text.slice(0, -1)}x`)
const fits = (pattern: string, name: string): boolean => name.startsWith(pattern.slice(0, -1))

/** What the issuer knows of an agent: its policy for signing, and for a server where to probe. */
export const agentEntry = z.strictObject({
  /** A name, or the beginning of names and `*`. An entry with the whole name counts before one with a pattern. */
  name: z
    .string()
    .refine(
      (text) => isName(text) || isPattern(text),
      'expected lower-case letters, digits and "-" (at most 63), and "*" at the end for every name that begins so',
    ),
  role: z.enum(['server', 'service', 'issuer']),
  /** Names besides the SPIFFE ID that its certificates carry; it gets no others. */
  names: policyNames.prefault({}),
  /** Of the nats-server beside a `server` agent. */
  listeners: z.array(listener).default([]),
  /**
   * What its certificates are for. Every agent is a TLS client of NATS; routes of a server need both.
   * @default both
   */
  usages: z
    .array(z.enum(['serverAuth', 'clientAuth']))
    .min(1)
    .refine((usages) => new Set(usages).size === usages.length, 'expected each once')
    .optional(),
  /** The longest its certificates live, milliseconds. @default two epochs, the longest of all */
  lifetime: durationText.optional(),
  /** Kinds of key it may have. @default every kind that is strong enough */
  keys: z.array(z.enum(KEY_ALGORITHMS)).min(1).optional(),
})
export type AgentEntry = z.infer<typeof agentEntry>

/** Shorter lives are nothing but renewals. */
const MIN_LIFETIME = 10_000

/** What is wrong with the entries together. Pure. */
export function problemsOfEntries(entries: readonly AgentEntry[], issuer: string): string[] {
  const problems: string[] = []
  const names = entries.map((entry) => entry.name)
  for (const name of new Set(names.filter((name, i) => names.indexOf(name) !== i)))
    problems.push(`agents: ${JSON.stringify(name)} is there twice`)
  if (!names.includes(issuer))
    problems.push(`agents: expected an entry for the issuer itself, ${JSON.stringify(issuer)}`)
  const patterns = names.filter(isPattern)
  for (const [i, one] of patterns.entries()) {
    // the same one twice was told above
    const other = patterns.slice(i + 1).find((p) => p !== one && (fits(one, p) || fits(p, one)))
    if (other !== undefined)
      problems.push(`agents: the patterns ${one} and ${other} fit the same names; write one of them longer`)
  }
  const ofServers = entries.flatMap(({ role, names }) => (role === 'server' ? names.dns : []))
  for (const { name, role, names: own, listeners, usages, lifetime } of entries) {
    const taken = ofServers.filter(
      (host) => role !== 'server' && own.dns.some((dns) => reaches(name, dns, host, names)),
    )
    if (taken.length > 0)
      problems.push(`agents.${name}.names.dns: ${[...new Set(taken)].join(', ')} is for servers only`)
    if (isPattern(name) && role !== 'service')
      problems.push(`agents.${name}.role: a pattern is for services, found ${role}`)
    if (role === 'server' && listeners.length === 0)
      problems.push(`agents.${name}.listeners: a server needs at least one`)
    if (usages?.includes('clientAuth') === false)
      problems.push(`agents.${name}.usages: expected clientAuth, every agent is a client of NATS`)
    if (role === 'server' && usages?.includes('serverAuth') === false)
      problems.push(`agents.${name}.usages: expected serverAuth for a server`)
    if (lifetime !== undefined && lifetime < MIN_LIFETIME)
      problems.push(`agents.${name}.lifetime: expected 10s or more`)
  }
  return problems
}

/** Could an agent of this entry get a certificate for `host`, and so join the cluster as a server? */
function reaches(entry: string, dns: string, host: string, named: readonly string[]): boolean {
  // a wildcard stands for one label (RFC 6125 6.4.3)
  if (dns.startsWith('*.')) return reaches(entry, dns.slice(2), host.slice(host.indexOf('.') + 1), named)
  const [before = '', after] = dns.split(PLACEHOLDER)
  if (!isPattern(entry) || after === undefined) return filled(dns, entry) === host
  const name = host.slice(before.length, host.length - after.length)
  return before + name + after === host && isName(name) && fits(entry, name) && !named.includes(name)
}

/** The policy of an agent, its own name filled in; null when no entry fits. Pure. */
export function entryFor(entries: readonly AgentEntry[], agent: string): AgentEntry | null {
  if (!isName(agent)) return null
  const entry =
    entries.find(({ name }) => name === agent) ??
    entries.find(({ name }) => isPattern(name) && fits(name, agent))
  if (entry === undefined) return null
  const { dns, ip, uri } = entry.names
  return {
    ...entry,
    name: agent,
    names: { dns: dns.map((text) => filled(text, agent)), ip, uri: uri.map((text) => filled(text, agent)) },
  }
}

/** Names that have an entry of their own: agents from the beginning, without joining. */
export const namedAgents = (entries: readonly AgentEntry[]): string[] =>
  entries.map(({ name }) => name).filter((name) => !isPattern(name))

function isUri(text: string): boolean {
  try {
    assertNames({ dns: [], ip: [], uri: [text] })
    return true
  } catch {
    return false
  }
}
