/**
 * Is there a token, and until when? Logs in when one is asked for, renews it in time, logs in anew when it can not be
 * renewed or is gone, and revokes at the end what it made.
 */
import { RotorError } from '../../../src/errors.ts'
import type { Logger } from '../../../src/log.ts'
import { spread } from '../../../src/schedule.ts'
import { Backoff } from '../../../src/tasks.ts'
import { type Clock, type Duration, formatInstant, type Instant, sleep } from '../../../src/time.ts'
import type { VaultApi } from './api.ts'
import { type Grant, type Login, life } from './login.ts'

export interface SessionOptions {
  readonly api: VaultApi
  readonly login: Login
  /** Spreads the renewals of several issuers. */
  readonly name: string
  readonly clock: Clock
  readonly logger: Logger
}

export interface SessionState {
  /** `waiting`: no token, or no answer; `error` says why. */
  readonly status: 'new' | 'ready' | 'waiting'
  readonly error: { readonly code: string; readonly message: string } | null
  readonly since: Instant
  /** When the token ends; null without one, and for one that never ends. */
  readonly tokenEnds: Instant | null
}

interface Held extends Grant {
  readonly since: Instant
  /** What it had when we got it: much less after a renewal means that its end can not be moved any more. */
  readonly firstTtl: Duration
}

/** Renewals and logins that were not answered are tried again after this long, at most. */
const RETRY_MAX: Duration = 15_000
/** A login that was refused is not repeated at once: OpenBao and Vault lock out who tries too often. */
const REFUSED_BASE: Duration = 1_000
const REFUSED_MAX: Duration = 60_000
const REVOKE_TIMEOUT: Duration = 2_000

/** What is due for a token, and when. Pure; `now` is not asked: a due moment of the past is due at once. */
export function dueFor(
  held: Pick<Held, 'since' | 'ttl' | 'firstTtl' | 'renewable'>,
  name: string,
): { readonly at: Instant; readonly step: 'renew' | 'login' } | null {
  if (!Number.isFinite(held.ttl)) return null
  // between half and two thirds of its life, always at the same place for the same name
  const at = held.since + Math.floor(held.ttl / 2) + spread(name, held.ttl / 6)
  const used = held.ttl < held.firstTtl / 2
  return { at, step: held.renewable && !used ? 'renew' : 'login' }
}

export class Session {
  readonly #options: SessionOptions
  readonly #closing = new AbortController()
  readonly #refused = new Backoff({ base: REFUSED_BASE, max: REFUSED_MAX })
  #held: Held | null = null
  #entering: Promise<Held> | null = null
  #keeping: Promise<void> = Promise.resolve()
  #endKeeping = new AbortController()
  #refusal: { readonly error: RotorError; readonly until: Instant } | null = null
  #state: SessionState

  constructor(options: SessionOptions) {
    this.#options = options
    this.#state = { status: 'new', error: null, since: options.clock.now(), tokenEnds: null }
  }

  get signal(): AbortSignal {
    return this.#closing.signal
  }

  get state(): SessionState {
    return this.#state
  }

  /** A token that has not ended as far as we know; logs in when there is none. Throws what the login throws. */
  async token(): Promise<string> {
    this.#closing.signal.throwIfAborted()
    const held = this.#held
    if (held !== null && held.since + held.ttl > this.#options.clock.now()) return held.token
    return (await this.#enter()).token
  }

  /** After a 403: is this token gone? Then it is forgotten, and the next call logs in. */
  async isGone(token: string): Promise<boolean> {
    if (this.#held?.token !== token) return true
    try {
      await this.#options.api.call('read', 'auth/token/lookup-self', { token, signal: this.signal })
      return false
    } catch (cause) {
      if (RotorError.from(cause).code !== 'ERR_AUTHORITY_DENIED') throw cause
      if (this.#held?.token === token) this.#held = null
      this.#options.logger.warn({}, 'the token of OpenBao or Vault is gone')
      return true
    }
  }

  /** Whether calls are answered, for `state` and the log: told once for each change. */
  answered(error: RotorError | null): void {
    if (error?.code === 'ERR_ABORTED') return
    const { clock, logger } = this.#options
    const status = error === null ? 'ready' : 'waiting'
    if (status !== this.#state.status || error?.code !== this.#state.error?.code) {
      if (error !== null) logger.warn({ code: error.code, err: error.message }, 'OpenBao or Vault: waiting')
      else logger.info({ tokenEnds: this.#endText() }, 'OpenBao or Vault: ready')
      this.#state = { ...this.#state, since: clock.now() }
    }
    this.#state = {
      status,
      error: error === null ? null : { code: error.code, message: error.message },
      since: this.#state.since,
      tokenEnds: this.#tokenEnds(),
    }
  }

  /** Ends all waits and calls; revokes the token when a login of ours made it. */
  async close(): Promise<void> {
    this.#closing.abort(new RotorError('ERR_ABORTED', 'the client of OpenBao or Vault was closed'))
    this.#endKeeping.abort()
    await this.#entering?.catch(() => {})
    await this.#keeping
    const held = this.#held
    this.#held = null
    if (held?.ours !== true) return
    const { api, logger } = this.#options
    const signal = AbortSignal.timeout(REVOKE_TIMEOUT)
    await api
      .call('write', 'auth/token/revoke-self', { token: held.token, signal })
      .catch((cause) =>
        logger.debug({ err: String(cause) }, 'the token could not be revoked; it ends by itself'),
      )
  }

  #tokenEnds(): Instant | null {
    const held = this.#held
    return held === null || !Number.isFinite(held.ttl) ? null : held.since + held.ttl
  }

  #endText(): string | null {
    const ends = this.#tokenEnds()
    return ends === null ? null : formatInstant(ends)
  }

  /** One login at a time, for all that ask. */
  #enter(): Promise<Held> {
    this.#entering ??= this.#login().finally(() => {
      this.#entering = null
    })
    return this.#entering
  }

  async #login(): Promise<Held> {
    const { login, clock, logger } = this.#options
    if (this.#refusal !== null && clock.now() < this.#refusal.until) throw this.#refusal.error
    const since = clock.now()
    try {
      const grant = await login(this.signal)
      this.#refusal = null
      this.#refused.reset()
      const held = { ...grant, since, firstTtl: grant.ttl }
      this.#take(held)
      logger.debug({ tokenEnds: this.#endText() }, 'logged in to OpenBao or Vault')
      this.answered(null)
      return held
    } catch (cause) {
      const error = RotorError.from(cause)
      if (error.code === 'ERR_AUTHORITY_DENIED')
        this.#refusal = { error, until: clock.now() + this.#refused.next() }
      this.answered(error)
      throw error
    }
  }

  /** From now on this is the token; what waited to renew the one before ends. */
  #take(held: Held): void {
    this.#held = held
    this.#endKeeping.abort()
    this.#endKeeping = new AbortController()
    const signal = AbortSignal.any([this.#endKeeping.signal, this.signal])
    const before = this.#keeping
    this.#keeping = Promise.all([before, this.#keep(held, signal)]).then(() => {})
  }

  /** Waits until something is due for this token, does it, and goes on with what came of it. Never rejects. */
  async #keep(first: Held, signal: AbortSignal): Promise<void> {
    const { name, clock, logger } = this.#options
    const backoff = new Backoff({ base: 200, max: RETRY_MAX })
    let held = first
    try {
      for (;;) {
        const due = dueFor(held, name)
        if (due === null) return
        await sleep(due.at - clock.now(), signal, clock)
        try {
          if (due.step === 'login') {
            await this.#enter()
            return
          }
          held = await this.#renew(held, signal)
          this.#held = held
          backoff.reset()
          this.answered(null)
        } catch (cause) {
          if (signal.aborted) return
          const error = RotorError.from(cause)
          logger.debug({ code: error.code, err: error.message }, `${due.step} failed`)
          if (due.step === 'renew' && error.code !== 'ERR_AUTHORITY_UNAVAILABLE')
            held = { ...held, renewable: false }
          this.answered(error)
          await backoff.wait(signal)
        }
      }
    } catch {
      // the signal: another token is in use, or we close
    }
  }

  async #renew(held: Held, signal: AbortSignal): Promise<Held> {
    const { api, clock } = this.#options
    const since = clock.now()
    const answer = await api.call('write', 'auth/token/renew-self', { token: held.token, signal })
    const seconds = answer?.auth?.lease_duration
    const renewable = answer?.auth?.renewable
    if (typeof seconds !== 'number') {
      throw new RotorError(
        'ERR_AUTHORITY_REFUSED',
        'auth/token/renew-self: expected a lease_duration in the answer',
      )
    }
    return { ...held, since, ttl: life(seconds), renewable: renewable === true }
  }
}
