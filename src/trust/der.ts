/**
 * DER (ITU-T X.690 section 10): the bytes of certificates and requests, taken apart and put together. The reader takes
 * exactly one form for each value, so what it read has the same meaning for every other reader; it throws SyntaxError
 * for anything else and never reads past what it was given.
 */

/** Tags with the bit that says "constructed" where it belongs. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** Context-specific tag of a primitive value: `[n] IMPLICIT`. */
export const tagged = (n: number): number => 0x80 | n
/** Context-specific tag around other values: `[n] EXPLICIT`, or `[n] IMPLICIT` of a SEQUENCE or SET. */
export const wrapped = (n: number): number => 0xa0 | n

/** One value. A view of a part of its bytes is made when it is asked for: to make one takes longer than to find it. */
export class Element {
  readonly tag: number
  readonly #bytes: Buffer
  readonly #start: number
  readonly #inner: number
  readonly #end: number

  constructor(tag: number, bytes: Buffer, start: number, inner: number, end: number) {
    this.tag = tag
    this.#bytes = bytes
    this.#start = start
    this.#inner = inner
    this.#end = end
  }

  get content(): Buffer {
    return this.#bytes.subarray(this.#inner, this.#end)
  }

  /** Tag, length and content. */
  get whole(): Buffer {
    return this.#bytes.subarray(this.#start, this.#end)
  }

  /** Of what is inside. */
  reader(what: string): DerReader {
    return new DerReader(this.#bytes, what, this.#inner, this.#end)
  }
}

/** Reads the values that stand one after the other in `bytes`. `what` names them in messages. */
export class DerReader {
  readonly #bytes: Buffer
  readonly #what: string
  readonly #end: number
  #at: number

  /** @default all of `bytes` */
  constructor(bytes: Uint8Array, what: string, start = 0, end = bytes.length) {
    this.#bytes = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
    this.#at = start
    this.#end = end
  }

  /** Is there another value? */
  get more(): boolean {
    return this.#at < this.#end
  }

  /** The value that comes next, whatever its tag. */
  any(): Element {
    const start = this.#at
    const tag = this.#byte()
    if ((tag & 0x1f) === 0x1f) throw this.#wrong('a tag of one byte')
    const length = this.#length()
    const inner = this.#at
    const end = inner + length
    if (end > this.#end) throw this.#wrong(`${length} bytes of content`)
    this.#at = end
    return new Element(tag, this.#bytes, start, inner, end)
  }

  /** The next value, which must have this tag. */
  take(tag: number): Element {
    if (!this.#is(tag)) throw this.#wrong(`the tag 0x${tag.toString(16).padStart(2, '0')}`)
    return this.any()
  }

  /** The next value if it has this tag. */
  optional(tag: number): Element | null {
    return this.#is(tag) ? this.any() : null
  }

  /** A reader of what is inside the next value. */
  inside(tag: number, what = this.#what): DerReader {
    return this.take(tag).reader(what)
  }

  sequence(what?: string): DerReader {
    return this.inside(TAG.sequence, what)
  }

  /** Dotted decimals. */
  objectId(): string {
    const { content } = this.take(TAG.objectId)
    if (content.length === 0) throw this.#wrong('an object identifier that is not empty')
    if ((content.at(-1) ?? 0) >= 0x80) throw this.#wrong('a whole object identifier')
    let text = ''
    let arc = 0
    for (const byte of content) {
      if (arc === 0 && byte === 0x80) throw this.#wrong('an object identifier without leading zeros')
      arc = arc * 0x80 + (byte & 0x7f)
      if (!Number.isSafeInteger(arc)) throw this.#wrong('an object identifier of smaller numbers')
      if (byte >= 0x80) continue
      // X.660: the first two numbers share one
      const top = Math.min(2, Math.floor(arc / 40))
      text += text === '' ? `${top}.${arc - top * 40}` : `.${arc}`
      arc = 0
    }
    return text
  }

  /** Two's complement, as short as it can be. */
  integer(): Buffer {
    const { content } = this.take(TAG.integer)
    const [first, second = 0] = content
    const padded = content.length > 1 && (first === 0 ? second < 0x80 : first === 0xff && second >= 0x80)
    if (first === undefined || padded) throw this.#wrong('the shortest form of an integer')
    return content
  }

  /** An integer of 0 to 2^31 - 1. */
  smallInteger(): number {
    const content = this.integer()
    if (content.length > 4 || content.readUInt8() >= 0x80) throw this.#wrong('a small number')
    return content.readUIntBE(0, content.length)
  }

  /** `BOOLEAN DEFAULT FALSE`: false is not written. */
  flag(): boolean {
    const found = this.optional(TAG.boolean)
    if (found === null) return false
    if (found.content.length !== 1 || found.content[0] !== 0xff) throw this.#wrong('TRUE or nothing')
    return true
  }

  /** The bits of a BIT STRING of whole bytes. */
  bits(): Buffer {
    const { content } = this.take(TAG.bitString)
    if (content[0] !== 0) throw this.#wrong('a bit string of whole bytes')
    return content.subarray(1)
  }

  /** A BIT STRING of named bits as a number, bit 0 being 1; without zeros at its end (X.690 11.2.2). */
  namedBits(): number {
    const { content } = this.take(TAG.bitString)
    const [unused = 8, ...bytes] = content
    const last = bytes.at(-1) ?? 0
    const shortest = bytes.length === 0 ? unused === 0 : unused < 8 && (last >> unused) % 2 === 1
    // unused bits must be zero
    if (bytes.length > 4 || !shortest || (last & ((1 << unused) - 1)) !== 0) {
      throw this.#wrong('named bits in their shortest form')
    }
    let flags = 0
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      if (((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0) flags += 2 ** bit
    }
    return flags
  }

  /** Nothing may follow. */
  end(): void {
    if (this.more) throw this.#wrong('nothing more')
  }

  #is(tag: number): boolean {
    return this.more && this.#bytes[this.#at] === tag
  }

  #byte(): number {
    const byte = this.more ? this.#bytes[this.#at] : undefined
    if (byte === undefined) throw this.#wrong('more bytes')
    this.#at += 1
    return byte
  }

  /** Definite, and in as few bytes as it takes (X.690 10.1). */
  #length(): number {
    const first = this.#byte()
    if (first < 0x80) return first
    const size = first & 0x7f
    if (size === 0 || size > 4) throw this.#wrong('a definite length')
    let length = 0
    for (let i = 0; i < size; i++) length = length * 0x100 + this.#byte()
    if (length < 0x80 || length < 2 ** (8 * (size - 1))) throw this.#wrong('the shortest form of a length')
    return length
  }

  #wrong(expected: string): SyntaxError {
    return new SyntaxError(`${this.#what}: expected ${expected} at byte ${this.#at} (DER)`)
  }
}

/** One value: tag, length, and these parts as its content. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0
  for (const part of parts) length += part.length
  const more = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x10000 ? 2 : 3
  const bytes = Buffer.allocUnsafe(2 + more + length)
  bytes[0] = tag
  bytes[1] = more === 0 ? length : 0x80 + more
  if (more > 0) bytes.writeUIntBE(length, 2, more)
  let at = 2 + more
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(TAG.sequence, ...parts)

/** A BIT STRING of whole bytes. */
export const bitString = (bytes: Uint8Array): Buffer => der(TAG.bitString, Buffer.of(0), bytes)

/** An INTEGER from the bytes of a number that is not negative: in its shortest form, without a sign bit. */
export function positiveInteger(bytes: Uint8Array): Buffer {
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1
  const number = bytes.subarray(start)
  return (number[0] ?? 0) < 0x80 ? der(TAG.integer, number) : der(TAG.integer, Buffer.of(0), number)
}
