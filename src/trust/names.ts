/** The names in a certificate or request: SubjectAltName (RFC 5280 4.2.1.6) and the subject (4.1.2.6). */
import { isIP } from 'node:net'
import { DerReader, der, sequence, TAG, tagged } from './der.ts'

export interface Names {
  readonly dns: readonly string[]
  readonly ip: readonly string[]
  readonly uri: readonly string[]
}

export const NO_NAMES: Names = { dns: [], ip: [], uri: [] }

export const SUBJECT_ALT_NAME = '2.5.29.17'

/** GeneralName: dNSName [2], uniformResourceIdentifier [6], iPAddress [7]. */
const DNS = tagged(2)
const URI = tagged(6)
const IP = tagged(7)
/** otherName [0], rfc822Name [1], x400Address [3], directoryName [4], ediPartyName [5], registeredID [8]. */
const OTHERS: ReadonlySet<number> = new Set([0xa0, 0x81, 0xa3, 0xa4, 0xa5, 0x88])

/**
 * The DNS, IP and URI names in the value of a SubjectAltName extension; other kinds are passed over. IPs in RFC 5952
 * form. Throws SyntaxError for bytes that another reader could take for another name.
 */
export function readNames(value: Uint8Array): Names {
  const names = { dns: [] as string[], ip: [] as string[], uri: [] as string[] }
  const reader = new DerReader(value, 'subjectAltName')
  const list = reader.sequence()
  reader.end()
  while (list.more) {
    const { tag, content } = list.any()
    if (tag === DNS) names.dns.push(assertAscii(content))
    else if (tag === URI) names.uri.push(assertAscii(content))
    else if (tag === IP) names.ip.push(readIp(content))
    else if (!OTHERS.has(tag)) throw new SyntaxError('expected names of the kinds of RFC 5280')
  }
  return names
}

/**
 * The value of a SubjectAltName extension. Throws TypeError for a name that is no DNS name, IP address or absolute
 * URI.
 */
export function writeNames(names: Names): Buffer {
  assertNames(names)
  return sequence(
    ...names.dns.map((name) => der(DNS, Buffer.from(name, 'latin1'))),
    ...names.ip.map((address) => der(IP, writeIp(address))),
    ...names.uri.map((name) => der(URI, Buffer.from(name, 'latin1'))),
  )
}

/** Throws TypeError for a name that can not stand in a certificate. */
export function assertNames({ dns, ip, uri }: Names): void {
  for (const name of dns) if (!isDnsName(name)) throw noName('DNS name', name)
  for (const address of ip) canonicalIp(address)
  for (const name of uri) if (!ABSOLUTE_URI.test(name)) throw noName('absolute URI', name)
}

export const isEmpty = (names: Names): boolean => names.dns.length + names.ip.length + names.uri.length === 0

/** RFC 1034 preferred syntax, a leading wildcard label and "_" as used in practice. */
const DNS_NAME =
  /^(?=.{1,253}$)(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$/
export const isDnsName = (text: string): boolean => DNS_NAME.test(text)
const ABSOLUTE_URI = /^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]{1,2000}$/

const noName = (what: string, text: string): TypeError =>
  new TypeError(`expected a ${what}, found ${JSON.stringify(text)}`)

/** A NUL or a control character ends a name in some readers. */
function assertAscii(bytes: Buffer): string {
  const text = bytes.toString('latin1')
  if (!/^[\x20-\x7e]*$/.test(text)) throw new SyntaxError('expected printable ASCII in a name')
  return text
}

export function readIp(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.length !== 16) throw new SyntaxError('expected an IP address of 4 or 16 bytes')
  return canonicalIp(bytes.toString('hex').replace(/.{4}(?=.)/g, '$&:'))
}

export function writeIp(address: string): Buffer {
  const text = canonicalIp(address)
  if (isIP(text) === 4) return Buffer.from(text.split('.').map(Number))
  const [head = '', tail = ''] = text.split('::').map(hexGroups)
  return Buffer.from(head + '0'.repeat(32 - head.length - tail.length) + tail, 'hex')
}

const hexGroups = (text: string): string =>
  text === ''
    ? ''
    : text
        .split(':')
        .map((group) => group.padStart(4, '0'))
        .join('')

/** Also one with a zone (`fe80::1%eth0`) is none. */
function canonicalIp(address: string): string {
  const version = address.includes('%') ? 0 : isIP(address)
  if (version === 0) throw new TypeError(`expected an IP address, found ${JSON.stringify(address)}`)
  // the host of a WHATWG URL: RFC 5952 compression, all groups in hex
  return version === 4 ? address : new URL(`tls://[${address}]`).hostname.slice(1, -1)
}

/** ub-common-name and ub-organization-name (RFC 5280 appendix A.1). */
const MAX_NAME = 64

/** id-at-commonName and id-at-organizationName. */
const COMMON_NAME = '2.5.4.3'
const attribute = (id: number, text: string, tag: number = TAG.utf8String): Buffer =>
  der(TAG.set, sequence(Buffer.of(TAG.objectId, 3, 0x55, 4, id), der(tag, Buffer.from(assertText(text)))))

/**
 * A subject in DER: common name, then organisation, as UTF8String (RFC 5280 4.1.2.4). Throws TypeError when one is
 * empty, too long or not printable.
 */
export function writeSubject(commonName: string, organization?: string): Buffer {
  return sequence(
    attribute(3, commonName),
    ...(organization === undefined ? [] : [attribute(10, organization)]),
  )
}

/** Is this subject, in DER, the common name and nothing else? Others write it as PrintableString where they can. */
export const isOnlyCommonName = (subject: Buffer, commonName: string): boolean =>
  subject.equals(sequence(attribute(3, commonName, TAG.printableString))) ||
  subject.equals(sequence(attribute(3, commonName)))

/** Strings of ASCII, besides UTF8String. */
const ASCII_STRINGS: ReadonlySet<number> = new Set([TAG.printableString, TAG.ia5String])

/** The common name of a subject in DER, "" without one. Throws SyntaxError or TypeError when it is broken. */
export function readCommonName(subject: Uint8Array): string {
  const names: string[] = []
  const reader = new DerReader(subject, 'subject')
  const sets = reader.sequence()
  reader.end()
  while (sets.more) {
    const set = sets.inside(TAG.set)
    do {
      const one = set.sequence()
      const id = one.objectId()
      const { tag, content } = one.any()
      one.end()
      if (id !== COMMON_NAME) continue
      if (tag === TAG.utf8String) names.push(assertText(content.toString('utf8')))
      else if (ASCII_STRINGS.has(tag)) names.push(assertText(assertAscii(content)))
      else throw new SyntaxError('expected the common name as text')
    } while (set.more)
  }
  if (names.length > 1) throw new SyntaxError('expected one common name')
  return names[0] ?? ''
}

function assertText(text: string): string {
  // U+FFFD stands for bytes that are no UTF-8
  if (text.length === 0 || text.length > MAX_NAME || /[\p{C}\ufffd]/u.test(text)) {
    throw new TypeError(
      `expected a name of 1 to ${MAX_NAME} printable characters, found ${JSON.stringify(text)}`,
    )
  }
  return text
}
