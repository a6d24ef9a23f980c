/** Values that several configuration files have, and how such a file is read. */
import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { parseAddress } from '../probe/address.ts'
import { parseDuration } from '../time.ts'
import { isName } from '../wire/names.ts'
import { describeIssues } from '../wire/record.ts'

export const nameText = z.string().refine(isName, 'expected lower-case letters, digits and "-" (at most 63)')

export const durationText = z.string().transform((text, context) => {
  try {
    return parseDuration(text)
  } catch (cause) {
    context.addIssue({ code: 'custom', message: RotorError.from(cause).message })
    return z.NEVER
  }
})

export const serverUrl = z.string().regex(/^(tls|nats):\/\/[^\s/]+:\d+$/, 'expected tls://host:port')
export const address = z
  .string()
  .refine((text) => !/[/@]/.test(text) && isAddress(text), 'expected host:port')

function isAddress(text: string): boolean {
  try {
    parseAddress(text)
    return true
  } catch {
    return false
  }
}

/** The parser writes every IPv4 address as four numbers. A name can be made to lead elsewhere, so "localhost" is none. */
export const isLoopback = ({ hostname }: URL): boolean =>
  hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)

/** Makes paths of a configuration file absolute: they are relative to it. */
export const absolute = (file: string) => (path: string) =>
  isAbsolute(path) ? path : resolve(dirname(file), path)

/** Throws ERR_CONFIG_INVALID with every problem. */
export async function readConfig<T extends z.ZodType>(schema: T, file: string): Promise<z.infer<T>> {
  let value: unknown
  try {
    value = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError('ERR_CONFIG_INVALID', `${file}: expected a JSON file: ${text}`, { cause })
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new RotorError('ERR_CONFIG_INVALID', `${file}: ${describeIssues(parsed.error)}`)
  return parsed.data
}
