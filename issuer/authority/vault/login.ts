/** How do we get a token: one login, by the method of the configuration. Files are read for each login. */
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import type { VaultAuth } from '../../../src/domain/vault-config.ts'
import { RotorError } from '../../../src/errors.ts'
import type { Duration } from '../../../src/time.ts'
import type { ApiAnswer, VaultApi } from './api.ts'

export interface Grant {
  readonly token: string
  /** Life from now on, milliseconds; infinite for a token that never ends. */
  readonly ttl: Duration
  readonly renewable: boolean
  /** Made by our login: it is revoked when we end. */
  readonly ours: boolean
}

export type Login = (signal: AbortSignal) => Promise<Grant>

/**
 * Throws ERR_AUTHORITY_DENIED for a login that is refused or a file that is missing or empty, and what the api throws.
 */
export function makeLogin(api: VaultApi, auth: VaultAuth): Login {
  switch (auth.method) {
    case 'approle': {
      const secretId = auth.wrappedBy === undefined ? null : new WrappedSecretId(api, auth.wrappedBy)
      return async (signal) => {
        const secret = await readSecret(auth.secretIdFile, 'secretIdFile')
        return await postLogin(api, auth.mount, signal, {
          role_id: await readSecret(auth.roleIdFile, 'roleIdFile'),
          secret_id: secretId === null ? secret : await secretId.unwrap(secret, signal),
        })
      }
    }
    case 'kubernetes':
      return async (signal) =>
        postLogin(api, auth.mount, signal, {
          role: auth.role,
          jwt: await readSecret(auth.jwtFile, 'jwtFile'),
        })
    case 'token':
      return tokenLogin(api, () => readSecret(auth.tokenFile, 'tokenFile'))
  }
}

/** With a token that somebody else made. */
export const tokenLogin =
  (api: VaultApi, token: () => Promise<string>): Login =>
  async (signal) =>
    lookUp(api, await token(), signal)

const loginAnswer = z.object({
  client_token: z.string().min(1),
  /** Seconds. */
  lease_duration: z.number().min(0),
  renewable: z.boolean(),
})

async function postLogin(
  api: VaultApi,
  mount: string,
  signal: AbortSignal,
  data: Record<string, string>,
): Promise<Grant> {
  const path = `auth/${mount}/login`
  const answer = await asLogin(path, api.call('write', path, { data, signal }), Object.values(data))
  const auth = loginAnswer.safeParse(answer?.auth)
  if (!auth.success) throw denied(path, 'the answer has no token; is it a login of two steps?')
  const { client_token, lease_duration, renewable } = auth.data
  return { token: client_token, ttl: life(lease_duration), renewable, ours: true }
}

const tokenFacts = z.object({
  /** Seconds left, rounded down. */
  ttl: z.number().min(0),
  /** Null for a token without an end, such as a root token. */
  expire_time: z.string().nullish(),
  renewable: z.boolean().optional(),
})

async function lookUp(api: VaultApi, token: string, signal: AbortSignal): Promise<Grant> {
  const path = 'auth/token/lookup-self'
  const answer = await asLogin(path, api.call('read', path, { token, signal }), [token])
  const facts = tokenFacts.safeParse(answer?.data)
  if (!facts.success) throw denied(path, 'the answer does not say how long the token lives')
  const { ttl, expire_time, renewable } = facts.data
  return {
    token,
    ttl: expire_time === undefined || expire_time === null ? life(ttl) : Math.max(1, ttl) * 1000,
    renewable: renewable === true,
    ours: false,
  }
}

/** Vault says 0 for a token without an end. */
export const life = (seconds: number): Duration => (seconds === 0 ? Number.POSITIVE_INFINITY : seconds * 1000)

/** AppRole answers a wrong secret with 400, others with 403: both are a login that is refused. */
async function asLogin(
  path: string,
  call: Promise<ApiAnswer | null>,
  secrets: readonly string[],
): Promise<ApiAnswer | null> {
  try {
    return await call
  } catch (cause) {
    const error = RotorError.from(cause)
    if (error.code === 'ERR_AUTHORITY_UNAVAILABLE' || error.code === 'ERR_ABORTED') throw error
    let words = error.message
    for (const secret of secrets) words = words.replaceAll(secret, '***')
    throw denied(path, `the login is refused: ${words}`)
  }
}

const denied = (path: string, text: string): RotorError =>
  new RotorError('ERR_AUTHORITY_DENIED', `${path}: ${text}`)

/** A secret id that was handed over in a wrapping token. It can be opened once, by us or by a thief. */
class WrappedSecretId {
  readonly #api: VaultApi
  readonly #wrappedBy: string
  #opened: { readonly wrapping: string; readonly secretId: string } | null = null

  constructor(api: VaultApi, wrappedBy: string) {
    this.#api = api
    this.#wrappedBy = wrappedBy
  }

  /**
   * The secret id; kept in memory for later logins. Before it is opened, the token has to come from the path that
   * makes our secret ids: somebody who opened ours could have wrapped something else
   * (HashiCorp, "Response wrapping token validation").
   */
  async unwrap(wrapping: string, signal: AbortSignal): Promise<string> {
    if (this.#opened?.wrapping === wrapping) return this.#opened.secretId
    const lookup = 'sys/wrapping/lookup'
    const stolen = 'a wrapping token that was used already or has ended: ask who opened it'
    const found = await asLogin(stolen, this.#api.call('read', lookup, { token: wrapping, signal }), [
      wrapping,
    ])
    const creation = found?.data?.creation_path
    if (creation !== this.#wrappedBy) {
      throw denied(
        lookup,
        `expected a wrapping token made by ${this.#wrappedBy}, found ${JSON.stringify(creation)}`,
      )
    }
    const unwrap = 'sys/wrapping/unwrap'
    const answer = await asLogin(stolen, this.#api.call('write', unwrap, { token: wrapping, signal }), [
      wrapping,
    ])
    const secretId = answer?.data?.secret_id
    if (typeof secretId !== 'string' || secretId === '') throw denied(unwrap, 'there is no secret_id in it')
    this.#opened = { wrapping, secretId }
    return secretId
  }
}

async function readSecret(file: string, key: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new RotorError('ERR_AUTHORITY_DENIED', `vault.auth.${key}: ${cause.message}`, { cause })
  })
  const secret = text.trim()
  // what could not stand in a header is no token, and Node would quote it in its error
  if (!/^[\x21-\x7e]+$/.test(secret)) {
    throw new RotorError('ERR_AUTHORITY_DENIED', `vault.auth.${key}: expected one word in ${file}`)
  }
  return secret
}
