/**
 * One connection of a probe: TCP, then TLS, then bytes with a bound, under one deadline. It keeps apart what the
 * callers must not confuse: "the handshake is done" and "the other side took our certificate".
 *
 * TLS 1.3 lets the client finish first (RFC 8446 4.4.2.4 and appendix E.1.2): a refusal of its certificate arrives
 * as an alert after the handshake. In TLS 1.2 the server's Finished comes last, so a done handshake is a yes.
 */
import { connect as connectTcp, type Socket } from 'node:net'
import { checkServerIdentity, connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls'
import { RotorError, type RotorErrorCode } from '../errors.ts'
import type { Duration } from '../time.ts'
import type { Address } from './address.ts'

/** What the other side sent of itself during the handshake, in DER, leaf first. */
export interface Handshake {
  readonly chain: readonly Uint8Array[]
  readonly tlsVersion: string | null
  readonly cipher: string | null
  readonly group: string | null
}

/** Does the chain of the peer lead to our trust anchors, and is the name in it? */
export type Verdict = { readonly trusted: true } | { readonly trusted: false; readonly reason: string }

export interface TlsOutcome {
  readonly handshake: Handshake
  /** Null when the handshake ended before OpenSSL could say. */
  readonly verdict: Verdict | null
  readonly ending: Ending | null
}

export interface DialOptions {
  /** Milliseconds for the whole probe. */
  readonly timeout: Duration
  readonly signal?: AbortSignal | undefined
}

/** The peer ended the connection: with a TLS alert, a reset, or just so. */
export interface Ending {
  /** `unknown ca`, `certificate expired`, ... null when the peer sent no alert. */
  readonly alert: string | null
  readonly reason: string
}

export class Dial {
  readonly #label: string
  readonly #raw: Socket
  readonly #options: DialOptions
  readonly #release: () => void
  #tls: TLSSocket | null = null
  #connected = false
  #secure = false
  #tickets = 0
  #received = Buffer.alloc(0)
  #ending: Ending | null = null
  #failure: Error | null = null
  #stopped: unknown
  #handshake: Handshake | null = null
  #look: (() => void) | null = null

  /** Starts to connect. The owner calls `destroy` in any case. `label` names the listener in messages. */
  constructor(label: string, { host, port }: Address, options: DialOptions) {
    this.#label = label
    this.#options = options
    const deadline = setTimeout(() => this.#stop('timeout'), options.timeout)
    const aborted = () => this.#stop('aborted')
    options.signal?.addEventListener('abort', aborted, { once: true })
    this.#release = () => {
      clearTimeout(deadline)
      options.signal?.removeEventListener('abort', aborted)
    }
    if (options.signal?.aborted) aborted()
    this.#raw = connectTcp({ host, port, noDelay: true })
    this.#raw.on('connect', () => {
      this.#connected = true
      this.#look?.()
    })
    this.#raw.on('data', this.#onData)
    this.#watch(this.#raw)
  }

  /** Resolves when the TCP connection is there. Throws ERR_PROBE_UNREACHABLE. */
  async connect(): Promise<void> {
    await this.#until('connect', 'ERR_PROBE_UNREACHABLE', () => {
      if (this.#ending !== null) throw this.#error('ERR_PROBE_UNREACHABLE', this.#ending.reason)
      return this.#connected || undefined
    })
  }

  /**
   * The TLS handshake, as far as it goes. `ending` is null when it is done; it is set when the peer broke it off
   * after its certificate had arrived, which means that it refuses ours. `name` is looked for in the certificate
   * unless it is null, `sni` is sent, empty for none. Throws ERR_PROBE_PROTOCOL when no certificate arrived.
   */
  async startTls(secureContext: SecureContext, name: string | null, sni: string): Promise<TlsOutcome> {
    if (this.#received.length > 0) {
      throw this.#error('ERR_PROBE_PROTOCOL', `expected silence before TLS, found ${shown(this.#received)}`)
    }
    this.#raw.off('data', this.#onData)
    let mismatch: Error | undefined
    const tls = connectTls({
      socket: this.#raw,
      secureContext,
      servername: sni,
      ...(name === null ? {} : { host: name }),
      rejectUnauthorized: false,
      // Node would take the name "localhost" for an IP address when a socket is given
      checkServerIdentity: (_, certificate) => {
        mismatch = name === null ? undefined : checkServerIdentity(name, certificate)
        return mismatch
      },
    })
    this.#tls = tls
    // The only moment at which the peer's certificate is known and a TLS 1.2 refusal has not yet closed the socket.
    tls.on('keylog', () => {
      this.#handshake ??= readHandshake(tls)
    })
    tls.on('session', () => {
      this.#tickets += 1
      this.#look?.()
    })
    tls.on('secureConnect', () => {
      this.#handshake = readHandshake(tls)
      this.#secure = true
      this.#look?.()
    })
    tls.on('data', this.#onData)
    this.#watch(tls)
    return await this.#until('TLS handshake', 'ERR_PROBE_PROTOCOL', () => {
      const ending = this.#secure ? null : this.#ending
      if (!this.#secure && ending === null) return undefined
      if (this.#handshake === null) {
        throw this.#error('ERR_PROBE_PROTOCOL', `no TLS handshake: ${ending?.reason ?? 'no certificate'}`)
      }
      return { handshake: this.#handshake, verdict: this.#secure ? verdict(tls, mismatch) : null, ending }
    })
  }

  send(data: string | Uint8Array): void {
    const socket = this.#tls ?? this.#raw
    if (socket.writable) socket.write(data)
  }

  /**
   * Reads until `parse` finds what it looks for in the bytes so far, or the peer ends the connection. `parse`
   * returns how many bytes it used, and may throw. Throws ERR_PROBE_PROTOCOL when there are more than `max` bytes.
   */
  async read<T>(
    step: string,
    max: number,
    parse: (bytes: Buffer) => { readonly value: T; readonly used: number } | null,
  ): Promise<{ value: T } | { ending: Ending }> {
    return await this.#until(step, 'ERR_PROBE_PROTOCOL', () => {
      const found = parse(this.#received)
      if (found !== null) {
        this.#received = this.#received.subarray(found.used)
        return { value: found.value }
      }
      if (this.#received.length >= max) {
        throw this.#error(
          'ERR_PROBE_PROTOCOL',
          `${step}: expected at most ${max} bytes, found ${shown(this.#received)} and more`,
        )
      }
      return this.#ending === null ? undefined : { ending: this.#ending }
    })
  }

  /**
   * Waits for any byte, for the end, or for a session ticket when `ticket` is asked for; null when `ms` pass with
   * none of them.
   */
  async sign(step: string, ms: Duration, ticket: boolean): Promise<'ticket' | 'data' | Ending | null> {
    let passed = false
    const timer = setTimeout(() => {
      passed = true
      this.#look?.()
    }, ms)
    try {
      const found = await this.#until(step, 'ERR_PROBE_PROTOCOL', () => {
        if (this.#received.length > 0) return { sign: 'data' as const }
        if (this.#ending !== null) return { sign: this.#ending }
        if (ticket && this.#tickets > 0) return { sign: 'ticket' as const }
        return passed ? { sign: null } : undefined
      })
      return found.sign
    } finally {
      clearTimeout(timer)
    }
  }

  destroy(): void {
    this.#release()
    this.#look = null
    this.#tls?.destroy()
    this.#raw.destroy()
  }

  #error(code: RotorErrorCode, text: string, cause: unknown = this.#failure ?? undefined): RotorError {
    return new RotorError(code, `${this.#label}: ${text}`, { cause })
  }

  /** The one place that waits: `look` is called again after each event until it returns a value or throws. */
  async #until<T>(step: string, code: RotorErrorCode, look: () => T | undefined): Promise<T> {
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#look = () => {
          try {
            if (this.#stopped !== undefined) throw this.#whyStopped(step, code)
            const value = look()
            if (value !== undefined) resolve(value)
          } catch (error) {
            reject(error)
          }
        }
        this.#look()
      })
    } finally {
      this.#look = null
    }
  }

  #whyStopped(step: string, code: RotorErrorCode): RotorError {
    if (this.#stopped === 'aborted') {
      return RotorError.from(this.#options.signal?.reason, 'ERR_ABORTED', `${this.#label}: ${step}`)
    }
    const seen = this.#received.length > 0 ? `, only ${shown(this.#received)}` : ''
    return this.#error(code, `${step}: no answer within ${this.#options.timeout} ms${seen}`)
  }

  #stop(why: 'timeout' | 'aborted'): void {
    this.#stopped ??= why
    this.#look?.()
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#received = Buffer.concat([this.#received, chunk])
    this.#look?.()
  }

  #watch(socket: Socket): void {
    socket.on('error', (error) => {
      this.#failure ??= error
      this.#end(endingOf(error))
    })
    // The alert of a refusal is reported as an error before these two.
    socket.on('end', () => this.#end({ alert: null, reason: 'the connection was closed' }))
    socket.on('close', () => this.#end({ alert: null, reason: 'the connection was closed' }))
  }

  #end(ending: Ending): void {
    this.#ending ??= ending
    this.#look?.()
  }
}

/** An error of a socket in plain words. */
export function endingOf(error: Error & { code?: unknown }): Ending {
  const code = typeof error.code === 'string' ? error.code : ''
  // ERR_SSL_TLSV1_ALERT_UNKNOWN_CA, ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED: the names differ with the OpenSSL version
  const alert = /_ALERT_([A-Z_]+)$/.exec(code)?.[1]?.toLowerCase().replaceAll('_', ' ') ?? null
  if (alert !== null) return { alert, reason: `TLS alert: ${alert}` }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER') return { alert: null, reason: 'the answer is not TLS' }
  return { alert: null, reason: code === '' ? error.message : code }
}

/** Null while the peer's certificate is not known. */
function readHandshake(tls: TLSSocket): Handshake | null {
  // Not getPeerX509Certificate: it empties the chain that Node itself verifies a moment later.
  let certificate = tls.getPeerCertificate(true)
  const chain: Uint8Array[] = []
  // A self-signed certificate is its own issuer.
  while (certificate?.raw !== undefined && chain.length < 10) {
    chain.push(certificate.raw)
    if (certificate.issuerCertificate === certificate) break
    certificate = certificate.issuerCertificate
  }
  if (chain.length === 0) return null
  const key = tls.getEphemeralKeyInfo()
  return {
    chain,
    tlsVersion: tls.getProtocol(),
    cipher: tls.getCipher()?.name ?? null,
    group: key !== null && 'name' in key && typeof key.name === 'string' ? key.name : null,
  }
}

function verdict(tls: TLSSocket, mismatch: Error | undefined): Verdict {
  if (tls.authorized) return { trusted: true }
  // A mere code, such as UNABLE_TO_VERIFY_LEAF_SIGNATURE; of a wrong name we know more.
  return { trusted: false, reason: mismatch?.message ?? String(tls.authorizationError ?? 'not verified') }
}

/** Bytes of a stranger, safe for a log line. */
export const shown = (bytes: Uint8Array): string =>
  JSON.stringify(Buffer.from(bytes.subarray(0, 80)).toString('latin1')).replace(
    /[^\x20-\x7e]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
