/** What OpenBao or Vault may answer to the calls of the authority, checked before anything is done with it. */
import { z } from 'zod'
import { RotorError } from '../../../src/errors.ts'
import { describeIssues } from '../../../src/wire/record.ts'

/** Made by the engine (a UUID); it becomes a part of paths. */
const id = z.string().regex(/^[0-9a-f-]{36}$/)
const pem = z.string().max(64 * 1024)

/** `<authorities>/issuers/generate/intermediate/internal` */
export const generated = z.object({ csr: pem, key_id: id })

/** `<root>/root/sign-intermediate`, `<root>/issuer/<id>/sign-intermediate`, `<authorities>/issuer/<id>/sign/<role>` */
export const signed = z.object({ certificate: pem })

/** `<authorities>/intermediate/set-signed`: which key each issuer of the request has. */
export const imported = z.object({ mapping: z.record(id, z.string()) })

/** `<mount>/issuer/<id>`; `key_id` is "" for a certificate that came without its key. */
export const issuerEntry = z.object({
  issuer_name: z.string().default(''),
  key_id: z.union([id, z.literal('')]).default(''),
  certificate: pem,
})

/** `<root>/issuer/<id>` */
export const rootEntry = z.object({ certificate: pem })

/** `<authorities>/key/<id>` */
export const keyEntry = z.object({ key_name: z.string().default('') })

/** `<authorities>/config/issuers` */
export const issuersConfig = z.object({
  default: z.string().default(''),
  default_follows_latest_issuer: z.boolean().default(false),
})

/** The ids of a list. */
export const ids = z.array(id)

/** `data` as the schema says. Throws ERR_AUTHORITY_ANSWER that names the path, and no value. */
export function checked<T extends z.ZodType>(schema: T, data: unknown, path: string): z.infer<T> {
  const parsed = schema.safeParse(data)
  if (parsed.success) return parsed.data
  throw new RotorError('ERR_AUTHORITY_ANSWER', `${path}: ${describeIssues(parsed.error)}`)
}
