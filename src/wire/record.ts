/** Records as they travel: JSON with a schema on both sides. */
import type { z } from 'zod'
import { RotorError, type RotorErrorCode } from '../errors.ts'

const decoder = new TextDecoder('utf-8', { fatal: true })
const encoder = new TextEncoder()

/** Bytes to a checked value. Throws `code`, naming `what` and every problem with its path. */
export function decodeRecord<T extends z.ZodType>(
  schema: T,
  bytes: Uint8Array | string,
  what: string,
  code: RotorErrorCode = 'ERR_RECORD_INVALID',
): z.infer<T> {
  let value: unknown
  try {
    value = JSON.parse(typeof bytes === 'string' ? bytes : decoder.decode(bytes))
  } catch (cause) {
    throw new RotorError(code, `${what}: expected JSON in UTF-8`, { cause })
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new RotorError(code, `${what}: ${describeIssues(parsed.error)}`)
  return parsed.data
}

export const encodeRecord = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value))

/** `path: problem; path: problem`, all problems at once. */
export function describeIssues(error: z.ZodError): string {
  return error.issues.map((issue) => `${issue.path.join('.') || '(record)'}: ${issue.message}`).join('; ')
}
