/** The names in a certificate or request: SubjectAltName (RFC 5280 4.2.1.6) and the subject (4.1.2.6). */
import { isIP } from 'node:net'
import {
  Extension,
  GeneralNames,
  type JsonGeneralNames,
  Name,
  type SubjectAlternativeNameExtension,
} from './library.ts'

export interface Names {
  readonly dns: readonly string[]
  readonly ip: readonly string[]
  readonly uri: readonly string[]
}

export const NO_NAMES: Names = { dns: [], ip: [], uri: [] }

const SUBJECT_ALT_NAME = '2.5.29.17'

/**
 * The DNS, IP and URI names of an extension; other kinds are passed over. IPs in RFC 5952 form. Throws SyntaxError
 * for bytes that another reader could take for another name.
 */
export function readNames(extension: SubjectAlternativeNameExtension): Names {
  const names = { dns: [] as string[], ip: [] as string[], uri: [] as string[] }
  for (const { type, value } of extension.names.items) {
    if (type === 'dns') names.dns.push(assertAscii(value))
    else if (type === 'url') names.uri.push(assertAscii(value))
    else if (type === 'ip') {
      if (isIP(value) === 0) throw new SyntaxError('expected an IP address of 4 or 16 bytes')
      names.ip.push(value)
    }
  }
  if (!Buffer.from(extension.names.rawData).equals(Buffer.from(extension.value))) {
    throw new SyntaxError('expected the names in DER')
  }
  return names
}

/** A SubjectAltName extension. Throws TypeError for a name that is no DNS name, IP address or absolute URI. */
export function writeNames(names: Names): Extension {
  assertNames(names)
  const list: JsonGeneralNames = [
    ...names.dns.map((value) => ({ type: 'dns' as const, value })),
    ...names.ip.map((address) => ({ type: 'ip' as const, value: canonicalIp(address) })),
    ...names.uri.map((value) => ({ type: 'url' as const, value })),
  ]
  return new Extension(SUBJECT_ALT_NAME, false, new GeneralNames(list).rawData)
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
function assertAscii(text: string): string {
  if (!/^[\x20-\x7e]*$/.test(text)) throw new SyntaxError('expected printable ASCII in a name')
  return text
}

/** Also one with a zone (`fe80::1%eth0`) is none. The library takes IPv6 addresses with groups in hex only. */
function canonicalIp(address: string): string {
  const version = address.includes('%') ? 0 : isIP(address)
  if (version === 0) throw new TypeError(`expected an IP address, found ${JSON.stringify(address)}`)
  // the host of a WHATWG URL: RFC 5952 compression, all groups in hex
  return version === 4 ? address : new URL(`tls://[${address}]`).hostname.slice(1, -1)
}

/** ub-common-name and ub-organization-name (RFC 5280 appendix A.1). */
const MAX_NAME = 64

/** A subject: common name, then organisation. Throws TypeError when one is empty, too long or not printable. */
export function writeSubject(commonName: string, organization?: string): Name {
  // Values as objects: the library would take a plain string apart ("#", quotes, escapes).
  return new Name([
    { CN: [{ utf8String: assertText(commonName) }] },
    ...(organization === undefined ? [] : [{ O: [{ utf8String: assertText(organization) }] }]),
  ])
}

/** The common name of a subject, "" without one. Throws SyntaxError or TypeError when it is broken. */
export function readCommonName(subject: Name): string {
  const [text, ...others] = subject.getField('CN')
  if (text === undefined) return ''
  if (others.length > 0) throw new SyntaxError('expected one common name')
  // JSON has a value that is no text as "#" and hex, where the field has the hex alone.
  if (subject.toJSON().find(({ CN }) => CN !== undefined)?.CN?.[0] !== text) {
    throw new SyntaxError('expected the common name as text')
  }
  return assertText(text)
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
