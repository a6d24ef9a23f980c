/** PEM text (RFC 7468) to bytes and back. Strict: every block is whole, and nothing hides between the blocks. */
import { createHash } from 'node:crypto'
import { RotorError, type RotorErrorCode } from '../errors.ts'

/** Characters of a PEM text: a trust file with hundreds of certificates. */
const MAX_PEM = 1024 * 1024
const MAX_BLOCKS = 512

/** The DER of every block, at least one, all with this label. Throws `code`, naming `what` and the line. */
export function decodePem(text: string, label: string, what: string, code: RotorErrorCode): Buffer[] {
  const fail = (line: number, problem: string): RotorError =>
    new RotorError(code, `${what}, line ${line}: ${problem}`)
  if (text.length > MAX_PEM)
    throw new RotorError(code, `${what}: expected at most ${MAX_PEM} characters of PEM`)
  const only = decodeUsual(text, label)
  if (only !== null) return [only]
  const blocks: Buffer[] = []
  let base64: string[] | null = null
  const lines = text.split('\n')
  for (let i = 0; i < lines.length; i += 1) {
    // what Windows puts before the end of a line, too
    const line = (lines[i] ?? '').trimEnd()
    if (base64 === null) {
      if (line === `-----BEGIN ${label}-----`) base64 = []
      else if (line !== '' && !line.startsWith('#')) {
        throw fail(i + 1, `expected "-----BEGIN ${label}-----", a comment with "#" or an empty line`)
      }
    } else if (line === `-----END ${label}-----`) {
      blocks.push(decodeBase64(base64.join(''), () => fail(i + 1, 'the block above is not base64')))
      if (blocks.length > MAX_BLOCKS) throw fail(i + 1, `expected at most ${MAX_BLOCKS} blocks`)
      base64 = null
    } else base64.push(line)
  }
  if (base64 !== null) throw fail(lines.length, `the last block has no "-----END ${label}-----": truncated`)
  if (blocks.length === 0) throw new RotorError(code, `${what}: expected a "${label}" in PEM, found none`)
  return blocks
}

/** One block exactly as `encodePem` writes it, the last newline apart: most texts are this. */
function decodeUsual(text: string, label: string): Buffer | null {
  const begin = `-----BEGIN ${label}-----\n`
  const end = text.indexOf('\n-----END', begin.length)
  if (end < 0 || !text.startsWith(begin)) return null
  const der = Buffer.from(text.slice(begin.length, end), 'base64')
  const same = encodePem(label, der)
  return der.length > 0 && (same === text || same === `${text}\n`) ? der : null
}

/** One block, 64 columns, with a newline at the end. */
export function encodePem(label: string, der: Uint8Array): string {
  const text = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64')
  let lines = text.slice(0, 64)
  for (let at = 64; at < text.length; at += 64) lines += `\n${text.slice(at, at + 64)}`
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

/** SHA-256 over the DER of the first certificate of a PEM text, in hex. Throws `code` when there is none. */
export function pemSha256(pem: string, what: string, code: RotorErrorCode): string {
  const [der = Buffer.alloc(0)] = decodePem(pem, 'CERTIFICATE', what, code)
  return createHash('sha256').update(der).digest('hex')
}

function decodeBase64(text: string, problem: () => RotorError): Buffer {
  const bytes = Buffer.from(text, 'base64')
  // Buffer skips what it does not know; only the canonical text comes back the same.
  if (bytes.length === 0 || bytes.toString('base64') !== text) throw problem()
  return bytes
}
