/**
 * DER as a tree, for the linter: a second reader on purpose, that shares no line with the one of the product. It
 * writes down what is not DER (X.690 section 10 and 11) instead of refusing it.
 */

export interface Node {
  readonly tag: number
  readonly content: Buffer
  readonly whole: Buffer
  readonly children: readonly Node[]
}

const OID = 6
const PRIMITIVE_NAMES: Readonly<Record<number, string>> = {
  1: 'BOOLEAN',
  2: 'INTEGER',
  3: 'BIT STRING',
  4: 'OCTET STRING',
  5: 'NULL',
  [OID]: 'OBJECT IDENTIFIER',
  12: 'UTF8String',
  19: 'PrintableString',
  22: 'IA5String',
  23: 'UTCTime',
  24: 'GeneralizedTime',
}

/** All values of `bytes`, with everything that is not DER added to `problems`. */
export function readAll(bytes: Buffer, problems: string[]): Node[] {
  const nodes: Node[] = []
  let at = 0
  while (at < bytes.length) {
    const node = readOne(bytes, at, problems)
    if (node === null) return nodes
    nodes.push(node)
    at += node.whole.length
  }
  return nodes
}

function readOne(bytes: Buffer, start: number, problems: string[]): Node | null {
  const bad = (text: string): void =>
    void problems.push(`X.690: ${text} at ${start} of ${bytes.length} bytes`)
  const [tag, first] = bytes.subarray(start, start + 2)
  if (tag === undefined || first === undefined) {
    bad('a value is cut off')
    return null
  }
  let head = 2
  let length = first
  if (first >= 0x80) {
    const size = first - 0x80
    if (size < 1 || size > 3 || start + 2 + size > bytes.length) {
      bad('8.1.3: an indefinite, huge or cut length')
      return null
    }
    length = bytes.readUIntBE(start + 2, size)
    head += size
    if (length < 0x80 || (size > 1 && length < 256 ** (size - 1))) bad('10.1: a length is not the shortest')
  }
  if (start + head + length > bytes.length) {
    bad('a value is longer than what holds it')
    return null
  }
  const whole = bytes.subarray(start, start + head + length)
  const content = whole.subarray(head)
  const constructed = (tag & 0x20) !== 0
  if (tag < 0x40) checkUniversal(tag & 0x1f, constructed, content, bad)
  const children = constructed ? readAll(content, problems) : []
  if (tag === 0x31) checkOrder(children, bad)
  return { tag, content, whole, children }
}

function checkUniversal(
  number: number,
  constructed: boolean,
  content: Buffer,
  bad: (text: string) => void,
): void {
  if (number === 16 || number === 17) {
    if (!constructed) bad('8.9.1: a SEQUENCE or SET is primitive')
    return
  }
  const name = PRIMITIVE_NAMES[number]
  if (name === undefined) bad(`the universal type ${number} has no place in a certificate`)
  if (constructed) bad(`10.2: a ${name} is constructed`)
  const text = content.toString('latin1')
  const [first = 0, second = 0] = content
  if (number === 1 && !(content.length === 1 && (first === 0 || first === 0xff))) bad('11.1: a BOOLEAN')
  if (number === 2) {
    const padded = content.length > 1 && ((first === 0 && second < 128) || (first === 255 && second >= 128))
    if (content.length === 0 || padded) bad('8.3.2: an INTEGER is not the shortest')
  }
  if (number === 3) {
    const last = content.at(-1) ?? 0
    if (content.length === 0 || first > 7 || (content.length === 1 && first > 0)) bad('8.6.2: a BIT STRING')
    else if (content.length > 1 && last % 2 ** first !== 0) bad('11.2.1: unused bits are not zero')
  }
  if (number === 5 && content.length > 0) bad('8.8: a NULL has content')
  if (number === OID && !isObjectId(content)) bad('8.19.2: an OBJECT IDENTIFIER')
  if (number === 12 && !Buffer.from(content.toString('utf8'), 'utf8').equals(content)) bad('a UTF8String')
  if (number === 19 && !/^[A-Za-z0-9 '()+,./:=?-]*$/.test(text)) bad('a PrintableString')
  if (number === 22 && content.some((byte) => byte >= 128)) bad('an IA5String')
  if (number === 23 && !/^\d{12}Z$/.test(text)) bad('11.8: a UTCTime')
  if (number === 24 && !/^\d{14}Z$/.test(text)) bad('11.7: a GeneralizedTime')
}

/** Numbers of base 128: the last byte of each below 128, the first of several not 128 alone. */
function isObjectId(content: Buffer): boolean {
  const starts = [...content.keys()].filter((at) => at === 0 || (content[at - 1] ?? 0) < 128)
  return starts.length > 0 && (content.at(-1) ?? 128) < 128 && starts.every((at) => content[at] !== 128)
}

/** X.690 11.6: the values of a SET OF in ascending order. */
function checkOrder(children: readonly Node[], bad: (text: string) => void): void {
  for (const [i, child] of children.entries()) {
    const before = children[i - 1]
    if (before !== undefined && Buffer.compare(before.whole, child.whole) > 0)
      bad('11.6: a SET OF has no order')
  }
}

/** Dotted decimals of an OBJECT IDENTIFIER; "" for another value. */
export function oidOf(node: Node | undefined): string {
  if (node?.tag !== OID) return ''
  const numbers: bigint[] = []
  let number = 0n
  for (const byte of node.content) {
    number = (number << 7n) | BigInt(byte & 0x7f)
    if (byte < 0x80) {
      numbers.push(number)
      number = 0n
    }
  }
  const [first = 0n, ...rest] = numbers
  const top = first < 80n ? first / 40n : 2n
  return [top, first - top * 40n, ...rest].join('.')
}
