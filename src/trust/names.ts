/** The names in a certificate, from and to DER: SubjectAltName (RFC 5280 4.2.1.6) and the subject (4.1.2.6). */
import { isIP } from 'node:net'
import { context, DerReader, der, oid, readAscii, readOid, readSequence, sequence, TAG, utf8 } from './der.ts'

export interface Names {
  readonly dns: readonly string[]
  readonly ip: readonly string[]
  readonly uri: readonly string[]
}

export const NO_NAMES: Names = { dns: [], ip: [], uri: [] }

const DNS = context(2, false)
const URI = context(6, false)
const IP = context(7, false)

/** The DNS, IP and URI names of a GeneralNames value; other kinds are passed over. IPs in RFC 5952 form. */
export function readNames(value: Uint8Array): Names {
  const names = { dns: [] as string[], ip: [] as string[], uri: [] as string[] }
  for (const { tag, content } of readSequence(value).rest()) {
    if (tag === DNS) names.dns.push(readAscii(content))
    else if (tag === URI) names.uri.push(readAscii(content))
    else if (tag === IP) names.ip.push(ipFromBytes(content))
  }
  return names
}

/** GeneralNames in DER. Throws TypeError for a name that is no DNS name, IP address or absolute URI. */
export function writeNames(names: Names): Buffer {
  return sequence(
    ...names.dns.map((name) => der(DNS, ascii(name, DNS_NAME, 'DNS name'))),
    ...names.ip.map((address) => der(IP, ipToBytes(address))),
    ...names.uri.map((uri) => der(URI, ascii(uri, ABSOLUTE_URI, 'absolute URI'))),
  )
}

export const isEmpty = (names: Names): boolean => names.dns.length + names.ip.length + names.uri.length === 0

/** RFC 1034 preferred syntax, a leading wildcard label and "_" as used in practice. */
const DNS_NAME =
  /^(?=.{1,253}$)(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$/
const ABSOLUTE_URI = /^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]{1,2000}$/

function ascii(text: string, form: RegExp, what: string): Buffer {
  if (!form.test(text)) throw new TypeError(`expected a ${what}, found ${JSON.stringify(text)}`)
  return Buffer.from(text, 'latin1')
}

function ipFromBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.length !== 16) throw new SyntaxError('expected an IP address of 4 or 16 bytes')
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16)
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16))
  return compressIpv6(groups.join(':'))
}

/** The bytes of an address. Throws TypeError when it is none (also with a zone: `fe80::1%eth0`). */
export function ipToBytes(address: string): Buffer {
  const version = address.includes('%') ? 0 : isIP(address)
  if (version === 0) throw new TypeError(`expected an IP address, found ${JSON.stringify(address)}`)
  if (version === 4) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail] = compressIpv6(address).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const gap = Array.from({ length: 8 - left.length - right.length }, () => '0')
  const bytes = Buffer.alloc(16)
  for (const [i, group] of [...left, ...gap, ...right].entries())
    bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * i)
  return bytes
}

/** The WHATWG URL host form: RFC 5952 compression, all groups in hex. */
const compressIpv6 = (address: string): string => new URL(`tls://[${address}]`).hostname.slice(1, -1)

const COMMON_NAME = '2.5.4.3'
const ORGANIZATION = '2.5.4.10'
/** ub-common-name and ub-organization-name (RFC 5280 appendix A.1). */
const MAX_NAME = 64
const STRING_TAGS: readonly number[] = [TAG.utf8, TAG.printable, TAG.ia5]

/** A subject: common name, then organisation. Throws TypeError when one is empty, too long or not printable. */
export function writeSubject(commonName: string, organization?: string): Buffer {
  const parts = [[COMMON_NAME, commonName]]
  if (organization !== undefined) parts.push([ORGANIZATION, organization])
  return sequence(
    ...parts.map(([id = '', text = '']) => der(TAG.set, sequence(oid(id), utf8(assertText(text))))),
  )
}

/** The common name of an encoded subject, "" without one. Throws SyntaxError or TypeError when it is broken. */
export function readCommonName(subject: Uint8Array): string {
  const found: string[] = []
  for (const relative of readSequence(subject).rest()) {
    for (const attribute of new DerReader(relative.content).rest()) {
      const fields = readSequence(attribute.raw)
      if (readOid(fields.next(TAG.oid).content) !== COMMON_NAME) continue
      const { tag, content } = fields.next()
      if (!STRING_TAGS.includes(tag)) throw new SyntaxError('expected the common name in UTF-8')
      found.push(assertText(utf8Decoder.decode(content)))
    }
  }
  if (found.length > 1) throw new SyntaxError('expected one common name')
  return found[0] ?? ''
}

const utf8Decoder = new TextDecoder('utf-8', { fatal: true })

function assertText(text: string): string {
  if (text.length === 0 || text.length > MAX_NAME || /\p{C}/u.test(text)) {
    throw new TypeError(
      `expected a name of 1 to ${MAX_NAME} printable characters, found ${JSON.stringify(text)}`,
    )
  }
  return text
}
