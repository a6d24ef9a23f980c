/** What we need of OpenBao or Vault, and the client that logs in by itself. */
import type { VaultConfig } from '../../../src/domain/vault-config.ts'
import { RotorError } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import { type Clock, systemClock } from '../../../src/time.ts'
import { type ApiAnswer, VaultApi, type Verb } from './api.ts'
import { makeLogin, tokenLogin } from './login.ts'
import { Session, type SessionState } from './session.ts'

/**
 * The HTTP API under /v1, as paths without a leading slash. Every call throws ERR_AUTHORITY_UNAVAILABLE (sealed, no
 * answer in the time-out, 5xx, 429), ERR_AUTHORITY_DENIED (login refused, 403) or ERR_AUTHORITY_REFUSED (other 4xx,
 * with the server's own words); `details.status` is the HTTP status, 0 without an answer.
 */
export interface VaultClient {
  /** `data` of the answer; null for 404. */
  read(path: string): Promise<Record<string, unknown> | null>
  /** POST; `data` of the answer, {} when there is none. */
  write(path: string, data?: Record<string, unknown>): Promise<Record<string, unknown>>
  /** Keys under a path; [] for 404. */
  list(path: string): Promise<string[]>
  /** No error when it is gone already. */
  remove(path: string): Promise<void>
}

export interface VaultOptions {
  readonly config: Pick<VaultConfig, 'address' | 'caFile' | 'namespace' | 'auth' | 'timeout'>
  /** Of the issuer: spreads the renewals of several. */
  readonly name: string
  /** Of an operator, instead of the login of `config`. */
  readonly token?: string
  readonly logger: Logger
  /** @default the system's */
  readonly clock?: Clock
}

/** Logs in when it is used first, renews, and logs in again when its token is gone. Its owner closes it. */
export class Vault implements VaultClient, AsyncDisposable {
  readonly #api: VaultApi
  readonly #session: Session

  private constructor(api: VaultApi, session: Session) {
    this.#api = api
    this.#session = session
  }

  /** Sends nothing yet. Throws ERR_CONFIG_INVALID for a `caFile` without a certificate. */
  static async open({ config, name, token, logger, clock = systemClock }: VaultOptions): Promise<Vault> {
    const api = await VaultApi.open(config)
    const login = token === undefined ? makeLogin(api, config.auth) : tokenLogin(api, async () => token)
    return new Vault(api, new Session({ api, login, name, clock, logger }))
  }

  /** Does it answer us, and if not, why not and since when? */
  state(): SessionState {
    return this.#session.state
  }

  async read(path: string): Promise<Record<string, unknown> | null> {
    const answer = await this.#call('read', path)
    return answer === null ? null : (answer.data ?? {})
  }

  async write(path: string, data: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const answer = await this.#call('write', path, data)
    if (answer === null) {
      throw new RotorError(
        'ERR_AUTHORITY_REFUSED',
        `write ${this.#api.address}/v1/${path}: 404, there is no such path`,
        {
          details: { path, status: 404 },
        },
      )
    }
    return answer.data ?? {}
  }

  async list(path: string): Promise<string[]> {
    const keys = (await this.#call('list', path))?.data?.keys
    return Array.isArray(keys) ? keys.map(String) : []
  }

  async remove(path: string): Promise<void> {
    await this.#call('delete', path)
  }

  /** Ends calls under way and revokes a token that our login made. */
  async close(): Promise<void> {
    await this.#session.close()
    this.#api.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #call(verb: Verb, path: string, data?: Record<string, unknown>): Promise<ApiAnswer | null> {
    const session = this.#session
    const token = await session.token()
    try {
      return await this.#ask(verb, path, token, data)
    } catch (cause) {
      const denied = RotorError.from(cause).code === 'ERR_AUTHORITY_DENIED'
      // a 403 did nothing on the other side, so the call may be made again
      if (!denied || !(await session.isGone(token))) throw cause
      return await this.#ask(verb, path, await session.token(), data)
    }
  }

  async #ask(
    verb: Verb,
    path: string,
    token: string,
    data: Record<string, unknown> | undefined,
  ): Promise<ApiAnswer | null> {
    const session = this.#session
    const { signal } = session
    try {
      const answer = await this.#api.call(verb, path, {
        token,
        signal,
        ...(data === undefined ? {} : { data }),
      })
      session.answered(null)
      return answer
    } catch (cause) {
      const error = RotorError.from(cause)
      if (error.code === 'ERR_AUTHORITY_UNAVAILABLE') session.answered(error)
      throw error
    }
  }
}
