import type { z } from 'zod'
import type { RotorErrorCode } from '../../../../src/errors.ts'
import * as real from '../../../../src/wire/record.ts'
import { remembered, textOf } from './memory.ts'

export * from '../../../../src/wire/record.ts'

const numbers = new WeakMap<z.ZodType, number>()
let schemas = 0
function numberOf(schema: z.ZodType): number {
  const number = numbers.get(schema) ?? ++schemas
  numbers.set(schema, number)
  return number
}

const decode = remembered(
  (schema: z.ZodType, bytes: Uint8Array | string, what: string, code?: RotorErrorCode): unknown =>
    real.decodeRecord(schema, bytes, what, code),
  (schema, bytes, what, code) => [
    typeof bytes === 'string' ? bytes : textOf(bytes),
    `${numberOf(schema)}|${what}|${code}`,
  ],
)

export function decodeRecord<T extends z.ZodType>(
  schema: T,
  bytes: Uint8Array | string,
  what: string,
  code?: RotorErrorCode,
): z.infer<T> {
  return decode(schema, bytes, what, code) as z.infer<T>
}
