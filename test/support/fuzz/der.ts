/** DER taken apart far enough to change it: tag, length, and what is inside of constructed values. */

export interface Tlv {
  tag: number
  /** Inside of a constructed value; null for a primitive one. */
  children: Tlv[] | null
  content: Buffer
  /** Written instead of the true length octets. */
  lie: Buffer | null
}

const MAX_DEPTH = 32

/** All values in `bytes`, or null when they are no sequence of whole values. */
export function readDer(bytes: Buffer, depth = 0): Tlv[] | null {
  const found: Tlv[] = []
  let at = 0
  while (at < bytes.length) {
    const tag = bytes[at] ?? 0
    const first = bytes[at + 1]
    if (first === undefined || (tag & 0x1f) === 0x1f) return null
    let length = first
    let head = 2
    if (first >= 0x80) {
      const octets = first & 0x7f
      if (octets === 0 || octets > 4 || at + 2 + octets > bytes.length) return null
      length = bytes.readUIntBE(at + 2, octets)
      head += octets
    }
    const content = bytes.subarray(at + head, at + head + length)
    if (content.length < length) return null
    const children = (tag & 0x20) !== 0 && depth < MAX_DEPTH ? readDer(content, depth + 1) : null
    found.push({ tag, children, content, lie: null })
    at += head + length
  }
  return found
}

export const writeDer = (values: readonly Tlv[]): Buffer => Buffer.concat(values.map(writeOne))

function writeOne({ tag, children, content, lie }: Tlv): Buffer {
  const inside = children === null ? content : writeDer(children)
  return Buffer.concat([Buffer.from([tag]), lie ?? lengthOf(inside.length), inside])
}

function lengthOf(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length])
  const octets = length < 0x100 ? 1 : length < 0x10000 ? 2 : 3
  const written = Buffer.alloc(octets)
  written.writeUIntBE(length, 0, octets)
  return Buffer.concat([Buffer.from([0x80 | octets]), written])
}

/** Every value, with the list it stands in. */
export function everyTlv(
  values: Tlv[],
): { readonly list: Tlv[]; readonly at: number; readonly value: Tlv }[] {
  return values.flatMap((value, at) => [
    { list: values, at, value },
    ...(value.children === null ? [] : everyTlv(value.children)),
  ])
}
