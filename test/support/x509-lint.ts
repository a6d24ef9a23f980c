/**
 * Is this certificate what RFC 5280 wants? A linter over the raw bytes, with its own reader: it knows nothing of the
 * code that made the certificate. Each finding starts with the section that asks for it; no finding means clean.
 */
import { type Node, oidOf, readAll } from './x509-tree.ts'

/** Not forbidden by RFC 5280, and without use: until the issuer begins nobody can verify it. */
export const BEGINS_BEFORE_ISSUER = '4.1.2.5: it begins before its issuer'

/** The certificate and, unless it is self-signed, the certificate that issued it; both in DER. */
export function lintCertificate(der: Uint8Array, issuerDer?: Uint8Array): string[] {
  const problems: string[] = []
  const certificate = takeApart(Buffer.from(der), problems)
  if (certificate === null) return problems
  const issuer = issuerDer === undefined ? certificate : takeApart(Buffer.from(issuerDer), [])
  if (issuer === null) return [...problems, 'the issuer can not be read']
  const say = (text: string, wrong: boolean): void => {
    if (wrong) problems.push(text)
  }
  lintFrame(certificate, issuer, say)
  lintNames(certificate, issuer, say)
  lintTimes(certificate, issuer, say)
  lintKey(certificate, say)
  lintExtensions(certificate, issuer, say)
  return problems
}

type Say = (text: string, wrong: boolean) => void

interface Extension {
  readonly id: string
  readonly critical: boolean
  readonly value: Node | undefined
}

interface Parts {
  readonly version: Node | undefined
  readonly serial: Node | undefined
  readonly innerAlgorithm: Node | undefined
  readonly issuer: Node | undefined
  readonly validity: Node | undefined
  readonly subject: Node | undefined
  readonly spki: Node | undefined
  readonly uniqueIds: number
  readonly extensions: readonly Extension[]
  readonly outerAlgorithm: Node | undefined
  readonly signature: Node | undefined
}

function takeApart(der: Buffer, problems: string[]): Parts | null {
  const [whole, ...rest] = readAll(der, problems)
  if (rest.length > 0) problems.push('4.1: bytes after the certificate')
  const [tbs, outerAlgorithm, signature, ...more] = whole?.children ?? []
  if (tbs === undefined || signature === undefined || more.length > 0) {
    problems.push('4.1: a certificate has three parts')
    return null
  }
  const fields = [...tbs.children]
  const version = fields[0]?.tag === 0xa0 ? fields.shift() : undefined
  const [serial, innerAlgorithm, issuer, validity, subject, spki, ...tail] = fields
  const uniqueIds = tail.filter(({ tag }) => tag === 0x81 || tag === 0x82).length
  const list = tail.find(({ tag }) => tag === 0xa3)?.children[0]
  if (tail.length > uniqueIds + (list === undefined ? 0 : 1)) problems.push('4.1: unknown fields')
  const extensions = (list?.children ?? []).map((one): Extension => {
    const [id, ...parts] = one.children
    const [flag, value] = parts.length === 2 ? parts : [undefined, parts[0]]
    // X.690 11.5: a default value is not written
    if (flag !== undefined && flag.content[0] !== 0xff) problems.push('4.1: critical FALSE is written')
    if (value?.tag !== 0x04) problems.push(`4.1.2.9: extension ${oidOf(id)} holds no OCTET STRING`)
    const [inner, ...others] = readAll(value?.content ?? Buffer.alloc(0), problems)
    if (inner === undefined || others.length > 0)
      problems.push(`4.2: extension ${oidOf(id)} is not one value`)
    return { id: oidOf(id), critical: flag !== undefined, value: inner }
  })
  return {
    version,
    serial,
    innerAlgorithm,
    issuer,
    validity,
    subject,
    spki,
    uniqueIds,
    extensions,
    outerAlgorithm,
    signature,
  }
}

const same = (a: Node | undefined, b: Node | undefined): boolean =>
  a !== undefined && b !== undefined && a.whole.equals(b.whole)

// ---- 4.1

const ECDSA = ['1.2.840.10045.4.3.2', '1.2.840.10045.4.3.3', '1.2.840.10045.4.3.4']
const RSA = ['1.2.840.113549.1.1.11', '1.2.840.113549.1.1.12', '1.2.840.113549.1.1.13']
const ED25519 = '1.3.101.112'
const KEY_OF_ALGORITHM: Readonly<Record<string, string>> = {
  ...Object.fromEntries(ECDSA.map((id) => [id, 'ec'])),
  ...Object.fromEntries(RSA.map((id) => [id, 'rsa'])),
  [ED25519]: 'ed25519',
}

function lintFrame(certificate: Parts, issuer: Parts, say: Say): void {
  const { version, serial, innerAlgorithm, outerAlgorithm, signature } = certificate
  say('4.1.2.1: the version is not 3', version?.children[0]?.whole.toString('hex') !== '020102')
  const number = serial?.content ?? Buffer.alloc(0)
  say('4.1.2.2: the serial number is not positive', serial?.tag !== 2 || (number[0] ?? 0x80) >= 0x80)
  say(
    '4.1.2.2: the serial number is zero',
    number.every((byte) => byte === 0),
  )
  say('4.1.2.2: the serial number has more than 20 octets', number.length > 20)
  // CA/Browser Forum BR 7.1: 64 bits of a random source, so 8 octets at least
  say('4.1.2.2: the serial number has less than 64 bits', number.length < 8)
  say('4.1.1.2: the two signature algorithms differ', !same(innerAlgorithm, outerAlgorithm))
  const [id, parameters] = outerAlgorithm?.children ?? []
  const key = KEY_OF_ALGORITHM[oidOf(id)]
  say(`4.1.1.2: unknown signature algorithm ${oidOf(id)}`, key === undefined)
  say('4.1.1.2: the algorithm is not for the key of the issuer', key !== keyKind(issuer.spki))
  // RFC 4055 5: NULL with RSA; RFC 5758 3.2 and RFC 8410 3: nothing with the others
  say(
    '4.1.1.2: parameters of the algorithm',
    key === 'rsa' ? parameters?.tag !== 5 : parameters !== undefined,
  )
  say(
    '4.1.1.3: the signature is no BIT STRING of whole bytes',
    signature?.tag !== 3 || signature.content[0] !== 0,
  )
  if (key === 'ec') {
    const [pair] = readAll(signature?.content.subarray(1) ?? Buffer.alloc(0), [])
    const positive = pair?.children.map(({ tag, content }) => tag === 2 && (content[0] ?? 0x80) < 0x80)
    say('RFC 3279 2.2.3: no ECDSA signature', positive?.length !== 2 || positive.includes(false))
  }
  say('4.1.2.8: unique identifiers', certificate.uniqueIds > 0)
}

const COMMON_NAME = '2.5.4.3'

function lintNames({ subject, issuer, extensions }: Parts, parent: Parts, say: Say): void {
  say('4.1.2.4: the issuer is empty', (issuer?.children.length ?? 0) === 0)
  say('4.1.2.4: the issuer is not the subject of the issuing certificate', !same(issuer, parent.subject))
  const san = extensions.find(({ id }) => id === SAN)
  const empty = subject?.children.length === 0
  say('4.1.2.6: an empty subject without a critical subjectAltName', empty && san?.critical !== true)
  say('4.1.2.6: an empty subject in a CA', empty && isCa(extensions))
  let commonNames = 0
  for (const set of [...(subject?.children ?? []), ...(issuer?.children ?? [])]) {
    say('4.1.2.4: an empty set in a name', set.tag !== 0x31 || set.children.length === 0)
    for (const { children } of set.children) {
      const [type, value] = children
      if (oidOf(type) === COMMON_NAME && subject?.children.includes(set)) commonNames += 1
      // "MUST use either PrintableString or UTF8String", with old exceptions
      say('4.1.2.4: a name in another string type', value === undefined || ![0x0c, 0x13].includes(value.tag))
      const text = value?.content.toString('utf8') ?? ''
      say('A.1: a name of 0 or more than 64 characters', text.length === 0 || text.length > 64)
    }
  }
  say('A.1: more than one common name', commonNames > 1)
}

function lintTimes({ validity }: Parts, issuer: Parts, say: Say): void {
  const [from, to] = windowOf(validity, say)
  const [issuerFrom, issuerTo] = windowOf(issuer.validity, () => {})
  say('4.1.2.5: the certificate ends before it starts', !(from < to))
  say('4.1.2.5: it ends after its issuer', to > issuerTo)
  say(BEGINS_BEFORE_ISSUER, from < issuerFrom)
}

function windowOf(validity: Node | undefined, say: Say): [number, number] {
  const times = (validity?.children ?? []).map(({ tag, content }) => {
    const text = content.toString('latin1')
    const full = tag === 0x17 ? `${Number(text.slice(0, 2)) >= 50 ? '19' : '20'}${text}` : text
    const year = Number(full.slice(0, 4))
    say(
      '4.1.2.5: UTCTime is for the years to 2049, GeneralizedTime for later ones',
      tag !== (year < 2050 ? 0x17 : 0x18),
    )
    const iso = full.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z')
    say(`4.1.2.5: ${text} is no time`, Number.isNaN(Date.parse(iso)))
    return Date.parse(iso)
  })
  say('4.1.2.5: no two times', times.length !== 2)
  return [times[0] ?? Number.NaN, times[1] ?? Number.NaN]
}

/** Named curve to bytes of a point that is not compressed. */
const CURVES: Readonly<Record<string, number>> = {
  '1.2.840.10045.3.1.7': 65,
  '1.3.132.0.34': 97,
  '1.3.132.0.35': 133,
}
const KEYS: Readonly<Record<string, string>> = {
  '1.2.840.10045.2.1': 'ec',
  '1.2.840.113549.1.1.1': 'rsa',
  [ED25519]: 'ed25519',
}

const keyKind = (spki: Node | undefined): string | undefined => KEYS[oidOf(spki?.children[0]?.children[0])]

function lintKey({ spki }: Parts, say: Say): void {
  const [algorithm, key] = spki?.children ?? []
  const parameters = algorithm?.children[1]
  const bits = key?.content.subarray(1) ?? Buffer.alloc(0)
  say('4.1.2.7: the key is no BIT STRING of whole bytes', key?.tag !== 3 || key.content[0] !== 0)
  const kind = keyKind(spki)
  if (kind === 'ec') {
    const size = CURVES[oidOf(parameters)]
    say('RFC 5480 2.1.1: no curve of NIST by name', size === undefined)
    say('RFC 5480 2.2: no uncompressed point', bits.length !== size || bits[0] !== 4)
  } else if (kind === 'rsa') {
    const [modulus, exponent] = readAll(bits, [])[0]?.children ?? []
    say('RFC 3279 2.3.1: the parameters are not NULL', parameters?.tag !== 5)
    // a leading zero byte keeps the number positive
    say('an RSA key of less than 2048 bits', (modulus?.content.length ?? 0) < 257)
    say(
      'an RSA exponent below 65537 or even',
      (exponent?.content.length ?? 0) < 3 || (exponent?.content.at(-1) ?? 0) % 2 === 0,
    )
  } else if (kind === 'ed25519') {
    say('RFC 8410 3: parameters', parameters !== undefined)
    say('RFC 8410 4: no 32 bytes', bits.length !== 32)
  } else say(`4.1.2.7: unknown key ${oidOf(algorithm?.children[0])}`, true)
}

// ---- 4.2

const AKI = '2.5.29.35'
const SKI = '2.5.29.14'
const KEY_USAGE = '2.5.29.15'
const SAN = '2.5.29.17'
const CONSTRAINTS = '2.5.29.19'
const NAME_CONSTRAINTS = '2.5.29.30'
const EXT_KEY_USAGE = '2.5.29.37'
/** May stand in a certificate, and must not be critical: CRL points, policies of others, access to the issuer. */
const OTHERS = ['2.5.29.31', '2.5.29.32', '1.3.6.1.5.5.7.1.1']

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

const find = (extensions: readonly Extension[], id: string): Extension | undefined =>
  extensions.find((one) => one.id === id)

const isCa = (extensions: readonly Extension[]): boolean =>
  find(extensions, CONSTRAINTS)?.value?.children[0]?.whole.toString('hex') === '0101ff'

const pathLength = (extensions: readonly Extension[]): number | null => {
  const limit = find(extensions, CONSTRAINTS)?.value?.children.find(({ tag }) => tag === 2)
  return limit === undefined ? null : Number(BigInt(`0x${limit.content.toString('hex')}`))
}

function lintExtensions(certificate: Parts, issuer: Parts, say: Say): void {
  const { extensions } = certificate
  const ids = extensions.map(({ id }) => id)
  for (const id of new Set(ids))
    say(`4.2: extension ${id} is there twice`, ids.indexOf(id) !== ids.lastIndexOf(id))
  const known = [AKI, SKI, KEY_USAGE, SAN, CONSTRAINTS, NAME_CONSTRAINTS, EXT_KEY_USAGE, ...OTHERS]
  for (const { id, critical } of extensions) {
    say(`4.2: unknown extension ${id}`, !known.includes(id))
    say(`4.2: extension ${id} must not be critical`, critical && OTHERS.includes(id))
  }
  const ca = isCa(extensions)
  lintKeyIds(certificate, issuer, say)
  lintConstraints(extensions, issuer.extensions, certificate === issuer, say)
  lintUsages(certificate, ca, say)
  lintAltNames(find(extensions, SAN), certificate.subject?.children.length === 0, say)
  lintNameConstraints(find(extensions, NAME_CONSTRAINTS), ca, say)
}

function lintNameConstraints(found: Extension | undefined, ca: boolean, say: Say): void {
  if (found === undefined) return
  say('4.2.1.10: name constraints in a leaf, or not critical', !ca || !found.critical)
  const parts = found.value?.children ?? []
  say('4.2.1.10: neither permitted nor excluded subtrees', parts.length === 0)
  for (const { tag, children } of parts) {
    say('4.2.1.10: unknown subtrees, or none', ![0xa0, 0xa1].includes(tag) || children.length === 0)
    for (const { children: subtree } of children) {
      const [base] = subtree
      const text = base?.content.toString('latin1') ?? ''
      // minimum 0 is the default, maximum must be absent
      say('4.2.1.10: a subtree with a minimum or a maximum', subtree.length !== 1)
      if (base?.tag === 0x82) say(`4.2.1.10: ${JSON.stringify(text)} is no DNS name`, !isHost(text))
      else if (base?.tag === 0x86)
        say(`4.2.1.10: ${JSON.stringify(text)} is no host or domain`, !isHost(text.replace(/^\./, '')))
      else if (base?.tag === 0x87)
        say('4.2.1.10: no address and mask of equal length', ![8, 32].includes(base.content.length))
      else say(`4.2.1.10: a subtree of the kind 0x${base?.tag.toString(16)}`, true)
    }
  }
}

function lintKeyIds(certificate: Parts, issuer: Parts, say: Say): void {
  const ski = find(certificate.extensions, SKI)
  const aki = find(certificate.extensions, AKI)
  say('4.2.1.2: no subjectKeyIdentifier', ski?.value?.tag !== 4 || ski.value.content.length === 0)
  say('4.2.1.2: subjectKeyIdentifier is critical', ski?.critical === true)
  say('4.2.1.1: authorityKeyIdentifier is critical', aki?.critical === true)
  // only a self-signed certificate may do without
  say('4.2.1.1: no authorityKeyIdentifier', aki === undefined && certificate !== issuer)
  const wanted = find(issuer.extensions, SKI)?.value?.content
  const named = aki?.value?.children.find(({ tag }) => tag === 0x80)?.content
  say('4.2.1.1: no keyIdentifier', aki !== undefined && named === undefined)
  say(
    '4.2.1.1: authorityKeyIdentifier is not the subjectKeyIdentifier of the issuer',
    named !== undefined && wanted !== undefined && !named.equals(wanted),
  )
}

function lintConstraints(
  extensions: readonly Extension[],
  issuer: readonly Extension[],
  self: boolean,
  say: Say,
): void {
  const found = find(extensions, CONSTRAINTS)
  const ca = isCa(extensions)
  const limit = pathLength(extensions)
  const above = pathLength(issuer)
  say('4.2.1.9: basicConstraints of a CA are not critical', ca && found?.critical !== true)
  say(
    '4.2.1.9: cA FALSE is written',
    found?.value?.children.some(({ tag, content }) => tag === 1 && content[0] === 0) === true,
  )
  say('4.2.1.9: a path length without cA', limit !== null && !ca)
  say('4.2.1.9: the issuer is no CA', !isCa(issuer))
  if (self) return
  say('4.2.1.9: the issuer allows no CA below it', ca && above !== null && above < 1)
  say(
    '4.2.1.9: the path length is not below that of the issuer',
    ca && above !== null && (limit === null || limit >= above),
  )
}

const BITS = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
]

function lintUsages({ extensions, spki }: Parts, ca: boolean, say: Say): void {
  const usage = find(extensions, KEY_USAGE)
  const [unused = 0, ...bytes] = usage?.value?.content ?? []
  const set = BITS.filter((_, i) => ((bytes[i >> 3] ?? 0) & (0x80 >> (i & 7))) !== 0)
  const last = bytes.at(-1) ?? 0
  say('4.2.1.3: no keyUsage', usage?.value?.tag !== 3 || set.length === 0)
  say('4.2.1.3: keyUsage is not critical', usage?.critical !== true)
  say('X.690 11.2.2: zeros at the end of named bits', bytes.length > 0 && (last >> unused) % 2 === 0)
  say('4.2.1.3: a CA without keyCertSign', ca && !set.includes('keyCertSign'))
  say('4.2.1.9: keyCertSign without cA', !ca && set.includes('keyCertSign'))
  say('4.2.1.3: a leaf that does not sign', !ca && !set.includes('digitalSignature'))
  const kind = keyKind(spki)
  say(
    'RFC 8813 3: this key can not encipher',
    kind !== 'rsa' && (set.includes('keyEncipherment') || set.includes('dataEncipherment')),
  )
  say(
    'RFC 8410 5, RFC 4055 1.2: this key does not agree on keys',
    kind !== 'ec' && set.includes('keyAgreement'),
  )
  const purposes = find(extensions, EXT_KEY_USAGE)
  const wanted = purposes?.value?.children.map((one) => oidOf(one)) ?? []
  say('4.2.1.12: an empty extendedKeyUsage', purposes !== undefined && wanted.length === 0)
  // nats-server: a route is client and server with one certificate
  say(
    '4.2.1.12: a leaf for servers and clients',
    !ca && !(wanted.includes(SERVER_AUTH) && wanted.includes(CLIENT_AUTH)),
  )
}

function lintAltNames(found: Extension | undefined, mustBeCritical: boolean, say: Say): void {
  if (found === undefined) return
  const names = found.value?.children ?? []
  say('4.2.1.6: an empty subjectAltName', names.length === 0)
  say('4.2.1.6: subjectAltName is critical beside a subject', found.critical && !mustBeCritical)
  for (const { tag, content } of names) {
    const text = content.toString('latin1')
    if (tag === 0x82) say(`4.2.1.6: ${JSON.stringify(text)} is no DNS name`, !isHost(text))
    // RFC 3986: a scheme and something after it, in ASCII without spaces
    else if (tag === 0x86)
      say(`4.2.1.6: ${JSON.stringify(text)} is no URI`, !/^[a-z][a-z0-9+.-]*:[!-~]+$/i.test(text))
    else if (tag === 0x87)
      say('4.2.1.6: an IP address of another size', content.length !== 4 && content.length !== 16)
    else say(`4.2.1.6: a name of the kind 0x${tag.toString(16)}`, true)
  }
}

/** RFC 1034 3.5 with a digit first (RFC 1123) and underscores; a wildcard as the whole first label (RFC 6125 6.4.3). */
const isHost = (text: string): boolean =>
  text.length <= 253 && /^(\*\.)?(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*$/.test(text)
