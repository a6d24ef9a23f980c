/** The extensions of certificates and requests (RFC 5280 4.2), read from their bytes; a second instance is refused. */
import { DerReader, der, sequence, TAG, tagged, wrapped } from './der.ts'
import { NAME_CONSTRAINTS, type Permitted, readPermitted } from './name-constraints.ts'
import { type Names, NO_NAMES, readNames, SUBJECT_ALT_NAME } from './names.ts'

export interface RawExtension {
  /** OID in dotted decimals. */
  readonly id: string
  readonly critical: boolean
  /** What the OCTET STRING holds. */
  readonly value: Buffer
}

export interface Extensions {
  readonly ca: boolean
  /** How many CA certificates may follow below; null without a limit. */
  readonly pathLength: number | null
  /** False also without a keyUsage extension: a CA of ours always has one. */
  readonly keyCertSign: boolean
  /** OIDs of extendedKeyUsage; empty without one. */
  readonly usages: readonly string[]
  readonly names: Names
  /** Hex, null when absent. */
  readonly subjectKeyId: string | null
  readonly authorityKeyId: string | null
  /** What a CA may certify; null without name constraints. */
  readonly permitted: Permitted | null
  /** OIDs of critical extensions that nobody here understands: such a certificate verifies nowhere (RFC 5280 4.2). */
  readonly unknownCritical: readonly string[]
}

/** Those of the arc id-ce, 2.5.29 (RFC 5280 4.2.1): the last number of their OID is one byte. */
const ID_CE = '2.5.29.'

const TRUE = der(TAG.boolean, Buffer.of(0xff))

/** An extension in DER. `id` is an OID of the arc 2.5.29. */
export function writeExtension(id: string, value: Uint8Array, critical = false): Buffer {
  if (!id.startsWith(ID_CE)) throw new TypeError(`expected an OID of ${ID_CE}, found ${id}`)
  const objectId = Buffer.of(TAG.objectId, 3, 0x55, 0x1d, Number(id.slice(ID_CE.length)))
  const flag = critical ? [TRUE] : []
  return sequence(objectId, ...flag, der(TAG.octetString, value))
}

/** KeyUsage bit 5 (RFC 5280 4.2.1.3). */
const KEY_CERT_SIGN = 2 ** 5

/** `Extensions ::= SEQUENCE OF Extension`, the next value of `reader`. Throws SyntaxError. */
export function readExtensionList(reader: DerReader): RawExtension[] {
  const list = reader.sequence()
  const found: RawExtension[] = []
  while (list.more) {
    const one = list.sequence()
    const id = one.objectId()
    const critical = one.flag()
    const value = one.take(TAG.octetString).content
    one.end()
    // RFC 5280 4.2: at most one instance of each; two readers could pick different ones.
    if (found.some((other) => other.id === id)) throw new SyntaxError(`extension ${id} appears twice`)
    found.push({ id, critical, value })
  }
  return found
}

export const SUBJECT_KEY_ID = '2.5.29.14'
export const AUTHORITY_KEY_ID = '2.5.29.35'

type Found = { -readonly [K in keyof Extensions]: Extensions[K] }
type Read = (reader: DerReader, found: Found) => void

const READ: Readonly<Record<string, Read>> = {
  // basicConstraints
  '2.5.29.19': (reader, found) => {
    const inner = reader.sequence()
    found.ca = inner.flag()
    found.pathLength = inner.more ? inner.smallInteger() : null
    inner.end()
  },
  // keyUsage
  '2.5.29.15': (reader, found) => {
    found.keyCertSign = (reader.namedBits() & KEY_CERT_SIGN) !== 0
  },
  // extendedKeyUsage
  '2.5.29.37': (reader, found) => {
    const list = reader.sequence()
    const usages: string[] = []
    while (list.more) usages.push(list.objectId())
    found.usages = usages
  },
  [SUBJECT_KEY_ID]: (reader, found) => {
    found.subjectKeyId = reader.take(TAG.octetString).content.toString('hex')
  },
  // key, names of the issuer, serial number
  [AUTHORITY_KEY_ID]: (reader, found) => {
    const inner = reader.sequence()
    found.authorityKeyId = inner.optional(tagged(0))?.content.toString('hex') ?? null
    inner.optional(wrapped(1))
    inner.optional(tagged(2))
    inner.end()
  },
}

/** What these extensions say. Throws SyntaxError for one that we know and that is not what it should be, in DER. */
export function readExtensions(extensions: readonly RawExtension[]): Extensions {
  const found: Found = {
    ca: false,
    pathLength: null,
    keyCertSign: false,
    usages: [],
    names: NO_NAMES,
    subjectKeyId: null,
    authorityKeyId: null,
    permitted: null,
    unknownCritical: [],
  }
  for (const { id, critical, value } of extensions) {
    const read = READ[id]
    if (id === SUBJECT_ALT_NAME) found.names = readNames(value)
    else if (id === NAME_CONSTRAINTS) {
      found.permitted = readPermitted(value)
      if (found.permitted === null) found.unknownCritical = [...found.unknownCritical, id]
    } else if (read !== undefined) {
      const reader = new DerReader(value, `extension ${id}`)
      read(reader, found)
      reader.end()
    } else if (critical) found.unknownCritical = [...found.unknownCritical, id]
  }
  return found
}
