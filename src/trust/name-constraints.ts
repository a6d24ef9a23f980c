/**
 * Which names may an authority certify? Name constraints (RFC 5280 4.2.1.10), as far as we use them: permitted DNS, IP
 * and URI subtrees. A kind without a subtree is not limited. Where verifiers differ, ours is the narrower reading.
 */
import { isIP } from 'node:net'
import { RotorError } from '../errors.ts'
import { DerReader, der, sequence, tagged, wrapped } from './der.ts'
import { isDnsName, type Names, readIp, writeIp } from './names.ts'

export interface Permitted {
  /** `example.com`: it, and every name that ends so. */
  readonly dns: readonly string[]
  /** Blocks of addresses, `10.0.0.0/8` or `2001:db8::/32`. */
  readonly ip: readonly string[]
  /** Hosts of URIs: `prod` is that host alone, `.example.com` every host below it. */
  readonly uri: readonly string[]
}

export const NAME_CONSTRAINTS = '2.5.29.30'

/** GeneralName: dNSName [2], uniformResourceIdentifier [6], iPAddress [7]. */
const DNS = tagged(2)
const URI = tagged(6)
const IP = tagged(7)

/** What is wrong with a subtree, null when nothing is. */
export const PROBLEM_OF: Readonly<Record<keyof Permitted, (text: string) => string | null>> = {
  dns: (text) =>
    isDnsName(text) && !text.startsWith('*')
      ? null
      : 'expected a DNS name such as "example.com", which permits every name that ends so, too',
  ip: (text) =>
    parseBlock(text) === null
      ? 'expected a block of addresses such as "10.0.0.0/8", with zeros after its prefix'
      : null,
  uri: (text) =>
    isHostName(text.replace(/^\./, ''))
      ? null
      : 'expected a host, or "." and a domain for every host below it',
}

/** The value of the extension; null when nothing is limited. Throws TypeError for a subtree that is none. */
export function writePermitted(permitted: Permitted): Buffer | null {
  for (const kind of ['dns', 'ip', 'uri'] as const) {
    for (const text of permitted[kind]) {
      const problem = PROBLEM_OF[kind](text)
      if (problem !== null) throw new TypeError(`${problem}, found ${JSON.stringify(text)}`)
    }
  }
  const subtrees = [
    ...permitted.dns.map((name) => der(DNS, Buffer.from(name, 'latin1'))),
    ...permitted.ip.map((text) => der(IP, writeBlock(text))),
    ...permitted.uri.map((host) => der(URI, Buffer.from(host, 'latin1'))),
  ]
  // minimum 0 and no maximum: DEFAULT and absent
  return subtrees.length === 0 ? null : sequence(der(wrapped(0), ...subtrees.map((base) => sequence(base))))
}

/**
 * The value of the extension, read; null when it limits names in a way that we do not understand, such as excluded
 * subtrees: such a certificate is not to be used. Throws SyntaxError for what is no such extension.
 */
export function readPermitted(value: Uint8Array): Permitted | null {
  const outside = new DerReader(value, 'name constraints')
  const constraints = outside.sequence()
  outside.end()
  const subtrees = constraints.more ? constraints.any() : null
  if (subtrees?.tag !== wrapped(0) || constraints.more) return null
  const found = { dns: [] as string[], ip: [] as string[], uri: [] as string[] }
  const list = new DerReader(subtrees.content, 'name constraints')
  while (list.more) {
    const subtree = list.sequence()
    const { tag, content } = subtree.any()
    const kind = tag === DNS ? 'dns' : tag === IP ? 'ip' : tag === URI ? 'uri' : null
    const text = kind === null ? null : kind === 'ip' ? readBlock(content) : content.toString('latin1')
    if (kind === null || text === null || subtree.more || PROBLEM_OF[kind](text) !== null) return null
    found[kind].push(text)
  }
  return found
}

/** The names that stand outside of what is permitted. */
export function namesOutside(names: Names, permitted: Permitted): string[] {
  const { dns, ip, uri } = permitted
  const outside = <T>(
    all: readonly T[],
    limits: readonly string[],
    fits: (one: T, limit: string) => boolean,
  ) => (limits.length === 0 ? [] : all.filter((one) => !limits.some((limit) => fits(one, limit))))
  return [
    ...outside(names.dns, dns, isBelow),
    ...outside(names.ip, ip, isIn),
    ...outside(names.uri, uri, (text, limit) => {
      const host = hostOf(text)
      if (host === null) return false
      return limit.startsWith('.') ? host.endsWith(limit.toLowerCase()) : host === limit.toLowerCase()
    }),
  ]
}

/** Throws ERR_SIGN_REFUSED when a verifier would refuse a leaf with these names under this authority. */
export function assertPermitted(
  names: Names,
  authority: { subject: string; permitted: Permitted | null },
): void {
  const outside = authority.permitted === null ? [] : namesOutside(names, authority.permitted)
  if (outside.length === 0) return
  throw new RotorError(
    'ERR_SIGN_REFUSED',
    `names outside of what "${authority.subject}" may certify (its name constraints): ${outside.join(', ')}`,
  )
}

/** One text for equal limits, in any order. */
export const describePermitted = (permitted: Permitted | null): string =>
  (['dns', 'ip', 'uri'] as const)
    .flatMap((kind) => (permitted?.[kind] ?? []).map((text) => `${kind}:${normal(kind, text)}`))
    .sort()
    .join(', ') || 'none'

function normal(kind: keyof Permitted, text: string): string {
  const block = kind === 'ip' ? readBlock(writeBlock(text)) : null
  return block ?? text.toLowerCase()
}

function isBelow(name: string, domain: string): boolean {
  const [one, limit] = [name.toLowerCase(), domain.toLowerCase()]
  return one === limit || one.endsWith(`.${limit}`)
}

/**
 * The host of a URI. null without one, for an address, and with a user: RFC 5280 has such a URI refused, and readers
 * differ in where its host begins.
 */
function hostOf(uri: string): string | null {
  const [, host = ''] = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([A-Za-z0-9._-]+)(?::\d+)?(?:\/[^@]*)?$/.exec(uri) ?? []
  return isHostName(host) ? host.toLowerCase() : null
}

const isHostName = (text: string): boolean => isDnsName(text) && !text.startsWith('*') && isIP(text) === 0

interface Block {
  readonly address: Buffer
  /** Bits that count. */
  readonly prefix: number
}

function parseBlock(text: string): Block | null {
  const [, address = '', bits = ''] = /^([0-9A-Fa-f.:]+)\/(\d{1,3})$/.exec(text) ?? []
  if (isIP(address) === 0) return null
  const bytes = writeIp(address)
  const prefix = Number(bits)
  if (prefix > bytes.length * 8) return null
  const block = { address: bytes, prefix }
  return bytes.equals(masked(bytes, prefix)) ? block : null
}

/** Bits after the prefix become zero. */
const masked = (bytes: Buffer, prefix: number): Buffer =>
  Buffer.from(bytes.map((byte, i) => byte & maskByte(prefix - i * 8)))

const maskByte = (bits: number): number => (bits >= 8 ? 0xff : bits <= 0 ? 0 : (0xff << (8 - bits)) & 0xff)

/** Address and mask, one after the other. */
function writeBlock(text: string): Buffer {
  const block = parseBlock(text)
  if (block === null) throw new TypeError(`expected a block of addresses, found ${JSON.stringify(text)}`)
  const { address, prefix } = block
  return Buffer.concat([address, masked(Buffer.alloc(address.length, 0xff), prefix)])
}

/** null for a mask with holes, or an address with bits outside of it. */
function readBlock(content: Buffer): string | null {
  const size = content.length / 2
  if (size !== 4 && size !== 16) return null
  const ones = [...content.subarray(size)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  const prefix = ones.indexOf('0') === -1 ? size * 8 : ones.indexOf('0')
  const text = `${readIp(content.subarray(0, size))}/${prefix}`
  const block = parseBlock(text)
  return block !== null && writeBlock(text).equals(content) ? text : null
}

/** Is this address, as certificates are read, in the block? */
function isIn(address: string, text: string): boolean {
  const block = parseBlock(text)
  const bytes = writeIp(address)
  return (
    block !== null &&
    bytes.length === block.address.length &&
    masked(bytes, block.prefix).equals(block.address)
  )
}
