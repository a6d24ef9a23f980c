/** The headers of a request from a file of their own, because there may be secrets among them. */
import { readFile } from 'node:fs/promises'
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { RotorError } from '../../src/errors.ts'

const MAX_FILE = 16 * 1024
/** Headers that say where a message ends: not to be chosen by a file (RFC 9112 section 6). */
const OURS = ['connection', 'content-length', 'expect', 'te', 'trailer', 'transfer-encoding', 'upgrade']

/**
 * One `Name: value` on each line; empty lines and those that begin with "#" do not count. Throws ERR_CONFIG_INVALID
 * that names the line, and never shows it.
 */
export async function readHeaders(file: string): Promise<Record<string, string>> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new RotorError('ERR_CONFIG_INVALID', `headersFile: ${cause.message}`, { cause })
  })
  const wrong = (line: number, problem: string) =>
    new RotorError('ERR_CONFIG_INVALID', `headersFile ${file}, line ${line}: ${problem}`)
  if (text.length > MAX_FILE) throw wrong(1, `expected at most ${MAX_FILE} bytes in all`)
  const headers = new Map<string, string>()
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const [, name = '', value = ''] = /^([^:\s]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    if (!isHeader(name, value)) throw wrong(i + 1, 'expected "Name: value"')
    const key = name.toLowerCase()
    if (OURS.includes(key)) throw wrong(i + 1, `"${key}" is not yours to set`)
    if (headers.has(key)) throw wrong(i + 1, `"${key}" is there twice`)
    headers.set(key, value)
  }
  return Object.fromEntries(headers)
}

function isHeader(name: string, value: string): boolean {
  try {
    validateHeaderName(name)
    validateHeaderValue(name, value)
    return value !== ''
  } catch {
    return false
  }
}
