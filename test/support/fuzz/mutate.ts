/** Valid input made wrong in the ways that parsers fall for: by its bytes, as JSON, as DER, as PEM, as a JWS. */
import type { Random } from '../random.ts'
import { everyTlv, readDer, type Tlv, writeDer } from './der.ts'
import { type Json, partAt, pathsOf, withPart } from './json.ts'

/** What an input is made of. `signed` forms are made whole again by who knows how. */
export type Form = 'bytes' | 'text' | 'json' | 'der' | 'pem' | 'jws'

const MAX_BYTES = 400_000

/** One to four changes. The same numbers give the same changes. */
export function mutate(form: Form, sample: Buffer, others: readonly Buffer[], random: Random): Buffer {
  let bytes = sample
  const changes = random.int(1, 4)
  for (let i = 0; i < changes; i++) bytes = change(form, bytes, others, random).subarray(0, MAX_BYTES)
  return bytes
}

function change(form: Form, bytes: Buffer, others: readonly Buffer[], random: Random): Buffer {
  if (random.chance(0.2)) return changeBytes(bytes, others, random)
  switch (form) {
    case 'json':
      return changeJson(bytes, random)
    case 'der':
      return changeDer(bytes, random)
    case 'pem':
      return changePem(bytes, random)
    case 'jws':
      return changeJws(bytes, random)
    case 'text':
      return changeText(bytes, random)
    case 'bytes':
      return changeBytes(bytes, others, random)
  }
}

// ---- bytes

const BYTES = [0x00, 0xff, 0x7f, 0x80, 0x0a, 0x22, 0x5c, 0x7b, 0x5b, 0x30]

function changeBytes(bytes: Buffer, others: readonly Buffer[], random: Random): Buffer {
  const at = random.int(0, bytes.length)
  const copy = Buffer.from(bytes)
  switch (random.int(0, 6)) {
    case 0:
      if (copy.length > 0) copy[at % copy.length] = (copy[at % copy.length] ?? 0) ^ (1 << random.int(0, 7))
      return copy
    case 1:
      return bytes.subarray(0, at)
    case 2:
      return bytes.subarray(at)
    case 3: {
      const part = bytes.subarray(at, at + random.int(1, 200))
      return Buffer.concat([bytes.subarray(0, at), part, part, bytes.subarray(at)])
    }
    case 4: {
      const noise = Buffer.from(Array.from({ length: random.int(1, 30) }, () => random.int(0, 255)))
      return Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)])
    }
    case 5:
      if (copy.length > 0) copy[at % copy.length] = random.pick(BYTES)
      return copy
    default: {
      const other = others.length === 0 ? bytes : random.pick(others)
      return Buffer.concat([bytes.subarray(0, at), other.subarray(random.int(0, other.length))])
    }
  }
}

// ---- text

const TEXTS = [
  '',
  '\0',
  '\u0000\u0001\u001b[2J',
  '\ufeff',
  '\ud800',
  '\u202e',
  '\u{1f4a9}',
  'é'.normalize('NFD'),
  '../../../../etc/passwd',
  '__proto__',
  'constructor',
  '%s%n%d',
  '*.>',
  "'; --",
  'x'.repeat(5_000),
  '9'.repeat(400),
  '1e999',
  '-0',
  '2026-02-30T00:00:00.000Z',
  '9999-12-31T23:59:59.999Z',
  '-271821-04-20T00:00:00.000Z',
]

function changeText(bytes: Buffer, random: Random): Buffer {
  const text = bytes.toString('utf8')
  const at = random.int(0, text.length)
  const lines = text.split('\n')
  const line = random.int(0, lines.length - 1)
  switch (random.int(0, 4)) {
    case 0:
      return Buffer.from(text.slice(0, at) + random.pick(TEXTS) + text.slice(at))
    case 1:
      return Buffer.from(lines.toSpliced(line, 1).join('\n'))
    case 2:
      return Buffer.from(lines.toSpliced(line, 0, lines[line] ?? '').join('\n'))
    case 3:
      return Buffer.from(text.replaceAll('\n', random.pick(['\r\n', '\r', '\n\n', ' ', '\u2028'])))
    default:
      return Buffer.from(text.slice(0, at).repeat(random.int(1, 5)) + text.slice(at))
  }
}

// ---- JSON

const NUMBERS = ['0', '-1', '1', '-0', '1e308', '1e999', '0.1', '9007199254740993', '9'.repeat(300), '1E+2']

const DEEP = '['.repeat(100)

function changeJson(bytes: Buffer, random: Random): Buffer {
  const text = bytes.toString('utf8')
  // made deep by a change before this one: too deep for what follows here, which calls itself
  if (text.includes(DEEP)) return changeText(bytes, random)
  let value: Json
  try {
    value = JSON.parse(text)
  } catch {
    return changeText(bytes, random)
  }
  const paths = pathsOf(value)
  const path = random.pick(paths)
  const found = partAt(value, path)
  switch (random.int(0, 9)) {
    case 0:
      return json(withPart(value, path, undefined))
    case 1:
      return json(withPart(value, path, partAt(value, random.pick(paths))))
    case 2:
      return json(withPart(value, path, random.pick<Json>([null, true, '', 0, -1, [], {}, [[]], { '': 0 }])))
    case 3:
      return json(withPart(value, path, random.pick(TEXTS)))
    case 4:
      // a number in a form that JSON.stringify would not write
      return Buffer.from(JSON.stringify(withPart(value, path, '@@')).replace('"@@"', random.pick(NUMBERS)))
    case 5: {
      const depth = random.pick([5, 500, 20_000])
      const deep = '['.repeat(depth) + ']'.repeat(depth)
      return Buffer.from(JSON.stringify(withPart(value, path, '@@')).replace('"@@"', deep))
    }
    case 6:
      // the same key twice: readers differ in which one counts
      return Buffer.from(
        text.replace(/\{"(\w+)":/, (all, key) => `{"${key}":${random.pick(NUMBERS)},${all.slice(1)}`),
      )
    case 7:
      return json(
        withPart(
          value,
          path,
          Array.isArray(found) ? Array(random.pick([0, 2, 70, 3_000])).fill(found[0] ?? 0) : [found],
        ),
      )
    case 8:
      return typeof found === 'object' && found !== null && !Array.isArray(found)
        ? json(
            withPart(value, path, { ...found, [random.pick(TEXTS)]: random.pick<Json>([0, '', null, []]) }),
          )
        : json(withPart(value, path, typeof found === 'string' ? damaged(found, random) : found))
    default:
      return typeof found === 'string'
        ? json(withPart(value, path, damaged(found, random)))
        : changeText(bytes, random)
  }
}

function damaged(text: string, random: Random): string {
  const at = random.int(0, text.length)
  return random.pick([
    text.slice(0, at),
    `${text.slice(0, at)}~${text.slice(at + 1)}`,
    text + text,
    text.toUpperCase(),
  ])
}

const json = (value: Json): Buffer => Buffer.from(JSON.stringify(value))

// ---- DER

/** Length octets that are not so: too much, too little, of no end, longer than written, of no number. */
const LENGTHS = [
  '00',
  '01',
  '7f',
  '80',
  '8100',
  '81ff',
  '82ffff',
  '830fffff',
  '84ffffffff',
  '88ffffffffffffffff',
  'ff',
]

function changeDer(bytes: Buffer, random: Random): Buffer {
  const values = readDer(bytes)
  const all = values === null ? [] : everyTlv(values)
  if (values === null || all.length === 0) return changeBytes(bytes, [], random)
  const { list, at, value } = random.pick(all)
  switch (random.int(0, 8)) {
    case 0:
      value.lie = Buffer.from(random.pick(LENGTHS), 'hex')
      break
    case 1:
      value.tag = random.int(0, 255)
      break
    case 2:
      list.splice(at, 1)
      break
    case 3:
      list.splice(at, 0, value)
      break
    case 4:
      list.splice(at, 1, flat(random.pick(all).value))
      break
    case 5:
      list.splice(at, 1, nested(value, random.pick([1, 20, 2_000])))
      break
    case 6:
      value.children = null
      value.content = Buffer.from(
        Array.from({ length: random.pick([0, 1, 9, 3_000]) }, () => random.int(0, 255)),
      )
      break
    case 7:
      // BER: the same number with octets in front of it that mean nothing
      value.children = null
      value.content = Buffer.concat([
        Buffer.from(random.pick(['00', '0000', 'ff', '80']), 'hex'),
        value.content,
      ])
      break
    default:
      if (value.children === null) value.content = changeBytes(value.content, [], random)
      else value.children.reverse()
  }
  return writeDer(values)
}

/** As it is now, without its inside: put into its own inside it would have no end. */
const flat = ({ tag, children, content, lie }: Tlv): Tlv => ({
  tag,
  children: null,
  content: children === null ? content : writeDer(children),
  lie,
})

function nested(value: Tlv, depth: number): Tlv {
  let inside = value
  for (let i = 0; i < depth; i++)
    inside = { tag: 0x30, children: [inside], content: Buffer.alloc(0), lie: null }
  // written from the inside out, so that depth is no recursion of ours
  return depth > 100 ? { tag: 0x30, children: null, content: deepDer(depth), lie: null } : inside
}

/** Sequences within sequences, innermost first. */
function deepDer(depth: number): Buffer {
  let bytes: Buffer = Buffer.from('0500', 'hex')
  for (let i = 0; i < depth; i++) {
    bytes = writeDer([{ tag: 0x30, children: null, content: bytes, lie: null }])
  }
  return bytes
}

// ---- PEM

const PEM = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n([\s\S]*?)-----END [A-Z0-9 ]+-----\n?/g

function changePem(bytes: Buffer, random: Random): Buffer {
  const text = bytes.toString('latin1')
  const blocks = [...text.matchAll(PEM)]
  if (blocks.length === 0 || random.chance(0.3)) return changeText(bytes, random)
  const [whole, label = '', body = ''] = random.pick(blocks)
  const der = Buffer.from(body, 'base64')
  const base64 = (changed: Buffer) => changed.toString('base64').replace(/(.{64})(?=.)/g, '$1\n')
  const block = (name: string, content: string) =>
    `-----BEGIN ${name}-----\n${content}\n-----END ${name}-----\n`
  switch (random.int(0, 6)) {
    case 0:
      return Buffer.from(
        text.replace(
          whole,
          block(random.pick(['X', 'PRIVATE KEY', 'CERTIFICATE', '', 'TRUSTED CERTIFICATE']), body),
        ),
      )
    case 1:
      return Buffer.from(text + whole.repeat(random.pick([1, 3, 600])))
    case 2:
      return Buffer.from(
        text.replace(whole, whole.replaceAll('\n', random.pick(['\r\n', ' \n', '\n\n', '']))),
      )
    case 3:
      return Buffer.from(
        text.replace(whole, block(label, base64(changeDer(der, random)).replaceAll('+', '-'))),
      )
    default:
      return Buffer.from(text.replace(whole, () => block(label, base64(changeDer(der, random)))))
  }
}

// ---- JWS in compact form

function changeJws(bytes: Buffer, random: Random): Buffer {
  const parts = bytes.toString('latin1').split('.')
  const at = random.int(0, parts.length - 1)
  const part = Buffer.from(parts[at] ?? '', 'base64url')
  switch (random.int(0, 5)) {
    case 0:
      return Buffer.from(parts.toSpliced(at, 1).join('.'))
    case 1:
      return Buffer.from(parts.toSpliced(at, 0, parts[at] ?? '').join('.'))
    case 2:
      return Buffer.from(parts.with(at, `${parts[at]}${random.pick(['=', '==', ' ', '+', 'A'])}`).join('.'))
    default: {
      const changed = at < 2 ? changeJson(part, random) : changeBytes(part, [], random)
      return Buffer.from(parts.with(at, changed.toString('base64url')).join('.'))
    }
  }
}
