/**
 * Which DER (X.690) do these bytes hold, and how is a value written as DER? Only what certificates and signing
 * requests need. Own code because the hot paths (1,000 signatures a second) leave about 0.3 ms for each, a tenth of
 * what a general ASN.1 library takes; the tests compare every form with OpenSSL and @peculiar/x509.
 *
 * Reading is strict: minimal lengths, nothing after the value. It throws SyntaxError, translated by the callers.
 */

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8: 0x0c,
  printable: 0x13,
  ia5: 0x16,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
} as const

/** Context-specific tag, `[n]` in ASN.1; constructed for EXPLICIT and for implicit sequences. */
export const context = (n: number, constructed = true): number => (constructed ? 0xa0 : 0x80) | n

export interface DerValue {
  readonly tag: number
  /** The content, without tag and length. */
  readonly content: Uint8Array
  /** The whole encoding. */
  readonly raw: Uint8Array
}

/** Reads one value after the other from the content of a sequence. */
export class DerReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length
  }

  /** The next value, which must have this tag when one is given. */
  next(tag?: number): DerValue {
    const start = this.#at
    const found = this.#byte()
    if ((found & 0x1f) === 0x1f) throw new SyntaxError('DER: multi-byte tags are not used here')
    if (tag !== undefined && found !== tag) {
      throw new SyntaxError(`DER: expected tag 0x${tag.toString(16)}, found 0x${found.toString(16)}`)
    }
    const length = this.#length()
    const content = this.#at
    if (content + length > this.#bytes.length)
      throw new SyntaxError('DER: a value is longer than its container')
    this.#at = content + length
    return {
      tag: found,
      content: this.#bytes.subarray(content, this.#at),
      raw: this.#bytes.subarray(start, this.#at),
    }
  }

  /** The next value if it has this tag. */
  optional(tag: number): DerValue | undefined {
    return this.#bytes[this.#at] === tag ? this.next(tag) : undefined
  }

  /** All values to the end. */
  rest(): DerValue[] {
    const values: DerValue[] = []
    while (!this.done) values.push(this.next())
    return values
  }

  end(): void {
    if (!this.done) throw new SyntaxError('DER: unexpected bytes after the value')
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw new SyntaxError('DER: the data ends inside a value')
    this.#at += 1
    return byte
  }

  #length(): number {
    const first = this.#byte()
    if (first < 0x80) return first
    const count = first & 0x7f
    // Three length bytes are 16 MiB, far over every cap here; 0x80 is the indefinite form, not DER.
    if (count === 0 || count > 3) throw new SyntaxError('DER: unusable length')
    let length = 0
    for (let i = 0; i < count; i++) length = length * 256 + this.#byte()
    if (length < 0x80 || length < 256 ** (count - 1)) throw new SyntaxError('DER: length is not minimal')
    return length
  }
}

/** The single value in `bytes`, nothing after it. */
export function readDer(bytes: Uint8Array, tag?: number): DerValue {
  const reader = new DerReader(bytes)
  const value = reader.next(tag)
  reader.end()
  return value
}

/** A reader over the content of the sequence that `bytes` is. */
export const readSequence = (bytes: Uint8Array): DerReader =>
  new DerReader(readDer(bytes, TAG.sequence).content)

/** An object identifier as dotted text. */
export function readOid(content: Uint8Array): string {
  const parts: number[] = []
  let part = 0
  for (const byte of content) {
    part = part * 128 + (byte & 0x7f)
    if (part > Number.MAX_SAFE_INTEGER) throw new SyntaxError('DER: object identifier out of range')
    if ((byte & 0x80) !== 0) continue
    if (parts.length === 0)
      parts.push(Math.min(2, Math.floor(part / 40)), part - 40 * Math.min(2, Math.floor(part / 40)))
    else parts.push(part)
    part = 0
  }
  if (parts.length === 0 || ((content[content.length - 1] ?? 0) & 0x80) !== 0) {
    throw new SyntaxError('DER: broken object identifier')
  }
  return parts.join('.')
}

export function readBoolean(content: Uint8Array): boolean {
  if (content.length !== 1) throw new SyntaxError('DER: broken boolean')
  return content[0] !== 0
}

/** A small integer that is not negative. */
export function readUnsigned(content: Uint8Array): number {
  if (content.length === 0 || content.length > 5 || ((content[0] ?? 0) & 0x80) !== 0) {
    throw new SyntaxError('DER: expected a small positive integer')
  }
  return content.reduce((sum, byte) => sum * 256 + byte, 0)
}

/** Text of a string type; only ASCII, as IA5String (names, URIs) demands. */
export function readAscii(content: Uint8Array): string {
  if (content.some((byte) => byte < 0x20 || byte > 0x7e))
    throw new SyntaxError('DER: expected printable ASCII')
  return Buffer.from(content).toString('latin1')
}

/** One value: tag, minimal length, content. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : length < 0x10000
          ? [tag, 0x82, length >> 8, length & 0xff]
          : [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff]
  return Buffer.concat([Buffer.from(head), ...parts])
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(TAG.sequence, ...parts)

export const utf8 = (text: string): Buffer => der(TAG.utf8, Buffer.from(text, 'utf8'))

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number)
  const bytes: number[] = []
  for (const part of [first * 40 + second, ...others]) {
    const digits = [part % 128]
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128)) {
      digits.unshift((left % 128) | 0x80)
    }
    bytes.push(...digits)
  }
  return der(TAG.oid, Buffer.from(bytes))
}

/** A BIT STRING of whole bytes; `unused` bits at the end of the last one do not count. */
export const bitString = (bytes: Uint8Array, unused = 0): Buffer =>
  der(TAG.bitString, Buffer.of(unused), bytes)

/** RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050, in whole seconds and with Z. */
export function time(instant: number): Buffer {
  const digits = new Date(instant)
    .toISOString()
    .replace(/\.\d+Z$/, '')
    .replace(/\D/g, '')
  const year = Number(digits.slice(0, 4))
  return year >= 1950 && year < 2050
    ? der(TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`, 'latin1'))
    : der(TAG.generalizedTime, Buffer.from(`${digits}Z`, 'latin1'))
}
