/**
 * What has to be in OpenBao or Vault for a domain: as data that can be printed as commands, compared with what is
 * there, and made. What is there is never changed: a difference is told, and the operator decides.
 */
import { isDeepStrictEqual } from 'node:util'
import type { VaultConfig } from '../../../src/domain/vault-config.ts'
import { RotorError } from '../../../src/errors.ts'
import type { Duration } from '../../../src/time.ts'
import { domainNames } from '../../../src/wire/names.ts'
import type { VaultClient } from './client.ts'
import { ROLE_ENDINGS } from './names.ts'
import { issuerPolicy } from './policy.ts'

export interface SetupOptions {
  readonly config: VaultConfig
  readonly domain: string
  /** How far back a certificate may begin: the clock skew between nodes, at least the `lead` of the domain. */
  readonly skew: Duration
  /** The longest life of the root. */
  readonly rootLife: Duration
  /** The longest life of an authority: at least the `validity` of the domain. */
  readonly authorityLife: Duration
}

export interface SetupItem {
  readonly what: string
  /** Where it is read; `key` is its entry in the answer. */
  readonly look: { readonly path: string; readonly key?: string }
  /** It is there and as it has to be when these fields of the answer have these values. */
  readonly want: Readonly<Record<string, unknown>>
  /** It is not there when this field is empty. @default when there is no answer */
  readonly absentWhenEmpty?: string
  readonly write: { readonly path: string; readonly data: Readonly<Record<string, unknown>> }
}

export type Finding = 'missing' | 'there' | 'different'

export interface ItemState {
  readonly item: SetupItem
  readonly finding: Finding
  /** `field: expected x, found y` */
  readonly differences: readonly string[]
}

const seconds = (ms: Duration): number => Math.ceil(ms / 1000)

export const policyName = (domain: string): string => `rotor-${domain}`

/** Everything, in the order in which it can be made. Pure. */
export function setupItems(options: SetupOptions): SetupItem[] {
  const { config, domain } = options
  const { root, authorities, kv } = config.mounts
  return [
    mount(root, 'pki', 'signs authorities', options.rootLife),
    rootCertificate(options),
    mount(authorities, 'pki', 'holds the authorities', options.authorityLife),
    ...leafRoles(options),
    mount(kv, 'kv', 'keeps every bundle'),
    {
      what: `policy ${policyName(domain)}`,
      look: { path: `sys/policies/acl/${policyName(domain)}` },
      want: { policy: issuerPolicy(config, domain) },
      write: {
        path: `sys/policies/acl/${policyName(domain)}`,
        data: { policy: issuerPolicy(config, domain) },
      },
    },
    ...loginItems(config, domain),
  ]
}

function mount(path: string, type: 'pki' | 'kv', purpose: string, life?: Duration): SetupItem {
  const config = life === undefined ? {} : { max_lease_ttl: seconds(life) }
  const options = type === 'kv' ? { version: '2' } : {}
  return {
    what: `${type.toUpperCase()} engine ${path} (${purpose})`,
    look: { path: 'sys/mounts', key: `${path}/` },
    want: {
      type,
      ...(life === undefined ? {} : { 'config.max_lease_ttl': seconds(life) }),
      ...(type === 'kv' ? { 'options.version': '2' } : {}),
    },
    write: {
      path: `sys/mounts/${path}`,
      data: { type, description: `nats-rotor: ${purpose}`, config, options },
    },
  }
}

/** A root that is there already is kept, whoever made it. */
function rootCertificate({ config, domain, rootLife, skew }: SetupOptions): SetupItem {
  const { root } = config.mounts
  return {
    what: `root certificate in ${root}, its key is made there and stays there`,
    look: { path: `${root}/config/issuers` },
    want: {},
    absentWhenEmpty: 'default',
    write: {
      path: `${root}/root/generate/internal`,
      data: {
        common_name: `${domain} root`,
        organization: domain,
        issuer_name: `rotor-${domain}-root`,
        key_name: `rotor-${domain}-root`,
        key_type: 'ec',
        key_bits: 256,
        // what it signs may sign leaves only
        max_path_length: 1,
        ttl: `${seconds(rootLife)}s`,
        not_before_duration: `${seconds(skew)}s`,
        exclude_cn_from_sans: true,
      },
    },
  }
}

/**
 * Names are decided by the issuer's own policy, agent by agent, and given with each request. The names in a CSR count
 * for nothing, and of URIs only the SPIFFE IDs of the domain are signed.
 */
function leafRoles({ config, domain, skew }: SetupOptions): SetupItem[] {
  const { authorities } = config.mounts
  const data = {
    allow_any_name: true,
    enforce_hostnames: false,
    allow_wildcard_certificates: false,
    allow_ip_sans: true,
    allowed_uri_sans: [domainNames(domain).spiffeId('*')],
    use_csr_common_name: false,
    use_csr_sans: false,
    cn_validations: ['disabled'],
    code_signing_flag: false,
    email_protection_flag: false,
    key_type: 'any',
    key_usage: ['DigitalSignature'],
    basic_constraints_valid_for_non_ca: true,
    // the status of every agent tells its leaf; nothing here would ever read the store again
    no_store: true,
    generate_lease: false,
    not_before_duration: seconds(skew),
  }
  return Object.entries(ROLE_ENDINGS).map(([usage, ending]) => {
    const name = `${config.role}${ending}`
    const path = `${authorities}/roles/${name}`
    const of = { ...data, server_flag: usage !== 'clientAuth', client_flag: usage !== 'serverAuth' }
    return {
      what: `leaf role ${name} at ${authorities}`,
      look: { path },
      want: of,
      write: { path, data: of },
    }
  })
}

function loginItems({ auth }: VaultConfig, domain: string): SetupItem[] {
  if (auth.method === 'token') return []
  const login: SetupItem = {
    what: `login method ${auth.method} at auth/${auth.mount}`,
    look: { path: 'sys/auth', key: `${auth.mount}/` },
    want: { type: auth.method },
    write: { path: `sys/auth/${auth.mount}`, data: { type: auth.method, description: 'nats-rotor' } },
  }
  // who may log in from Kubernetes is known there, not here
  if (auth.method === 'kubernetes') return [login]
  const path = approlePath(auth.mount, domain)
  const data = {
    token_policies: [policyName(domain)],
    token_no_default_policy: true,
    token_ttl: 3600,
    token_max_ttl: 86_400,
    token_num_uses: 0,
    bind_secret_id: true,
    secret_id_num_uses: 0,
    secret_id_ttl: 0,
  }
  return [login, { what: `AppRole ${policyName(domain)}`, look: { path }, want: data, write: { path, data } }]
}

export const approlePath = (mount: string, domain: string): string =>
  `auth/${mount}/role/${policyName(domain)}`

/** How an item stands, by what was read. Pure. */
export function judgeItem(item: SetupItem, answer: Readonly<Record<string, unknown>> | null): ItemState {
  const { key } = item.look
  const found = key === undefined ? answer : recordOr(answer?.[key])
  const empty = item.absentWhenEmpty !== undefined && (found?.[item.absentWhenEmpty] ?? '') === ''
  if (found === null || empty) return { item, finding: 'missing', differences: [] }
  const differences = Object.entries(item.want).flatMap(([path, wanted]) => {
    const value = path.split('.').reduce<unknown>((at, name) => recordOr(at)?.[name], found)
    return same(wanted, value) ? [] : [`${path}: expected ${show(wanted)}, found ${show(value)}`]
  })
  return { item, finding: differences.length === 0 ? 'there' : 'different', differences }
}

const recordOr = (value: unknown): Record<string, unknown> | null =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null

function same(wanted: unknown, found: unknown): boolean {
  if (typeof wanted === 'string' && typeof found === 'string') return wanted.trim() === found.trim()
  return isDeepStrictEqual(wanted, found)
}

const show = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value))

/** How everything stands. Reads only. */
export async function inspectSetup(client: VaultClient, items: readonly SetupItem[]): Promise<ItemState[]> {
  const states: ItemState[] = []
  for (const item of items) states.push(judgeItem(item, await readOrNothing(client, item.look.path)))
  return states
}

/** Below an engine or a login method that is not there yet the answer is 404 with words. */
async function readOrNothing(client: VaultClient, path: string): Promise<Record<string, unknown> | null> {
  try {
    return await client.read(path)
  } catch (cause) {
    if (RotorError.is(cause) && cause.details.status === 404) return null
    throw cause
  }
}

/**
 * Makes what is missing; returns how everything stood before. Makes nothing at all when something is there and
 * different: throws ERR_CONFIG_INVALID with every difference.
 */
export async function applySetup(client: VaultClient, items: readonly SetupItem[]): Promise<ItemState[]> {
  const states = await inspectSetup(client, items)
  const different = states.filter(({ finding }) => finding === 'different')
  if (different.length > 0) {
    const text = different
      .map(({ item, differences }) => `${item.what}: ${differences.join(', ')}`)
      .join('; ')
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      `nothing was changed, because this is there and different: ${text}`,
    )
  }
  for (const { item, finding } of states) {
    if (finding === 'missing') await client.write(item.write.path, { ...item.write.data })
  }
  return states
}
