/**
 * One call of the HTTP API, through node-vault. What that library would do by itself and must not: take address,
 * token, namespace or "skip verify" from the environment, write what it sends to a debug log, wait for ever, follow a
 * redirect or use a proxy with our token, put the request with its token into an error.
 */
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type nodeVault from 'node-vault'
import { z } from 'zod'
import { RotorError, type RotorErrorCode } from '../../../src/errors.ts'
import { exchange } from '../../../src/http-exchange.ts'
import type { Duration } from '../../../src/time.ts'
import { readTrustFile } from '../../../src/trust/trust-file.ts'

export interface ApiOptions {
  readonly address: string
  /** PEM file to trust for https. @default the node's own trust */
  readonly caFile?: string | undefined
  readonly namespace?: string | undefined
  /** For one request, milliseconds. */
  readonly timeout: Duration
}

export interface ApiRequest {
  readonly data?: Readonly<Record<string, unknown>>
  readonly token?: string
  readonly signal: AbortSignal
}

export interface ApiAnswer {
  readonly data?: Readonly<Record<string, unknown>> | null
  readonly auth?: Readonly<Record<string, unknown>> | null
}

export type Verb = 'read' | 'write' | 'list' | 'delete'

const MAX_ANSWER = 8 * 1024 * 1024
/** Characters of the server's own words that an error quotes. */
const WORDS = 400
/** Requests at once, more of them wait: a full line of signing (16) must leave room for what else an issuer asks. */
const CONNECTIONS = 24
/** Shorter than a server keeps an idle connection, so that we never write into one it is just closing. */
const IDLE: Duration = 20_000

/** What node-vault hands to the function that sends. */
interface Outgoing {
  readonly method: string
  readonly uri: string
  readonly headers?: Record<string, string>
  readonly json?: unknown
  readonly signal?: AbortSignal
}

export class VaultApi {
  readonly address: string
  readonly #timeout: Duration
  readonly #agent: HttpAgent
  readonly #client: nodeVault.client

  private constructor(make: typeof nodeVault, options: ApiOptions, ca: string | undefined) {
    this.address = options.address.replace(/\/$/, '')
    this.#timeout = options.timeout
    const pool = { keepAlive: true, maxSockets: CONNECTIONS, timeout: IDLE }
    this.#agent = this.address.startsWith('https:')
      ? new HttpsAgent({ ...pool, ...(ca === undefined ? {} : { ca }), rejectUnauthorized: true })
      : new HttpAgent(pool)
    this.#client = make({
      endpoint: this.address,
      // some proxies know the ordinary methods only
      noCustomHTTPVerbs: true,
      debug: () => {},
      // it looks by a JSON schema whether each request has a path and a method: it puts both there itself
      tv4: Object.assign(() => {}, { validate: () => true }),
      'request-promise': { defaults: () => (outgoing: Outgoing) => this.#send(outgoing) },
    })
    // these come from the environment where we give none
    Object.assign(this.#client, { token: '', pathPrefix: '', namespace: options.namespace ?? '' })
  }

  /** Throws ERR_CONFIG_INVALID when `caFile` holds no certificate. */
  static async open(options: ApiOptions): Promise<VaultApi> {
    const ca = options.caFile === undefined ? undefined : await readTrustFile(options.caFile, 'vault.caFile')
    // with all it brings it takes a tenth of a second to load, and most commands need none of it
    const { default: make } = await import('node-vault')
    return new VaultApi(make, options, ca)
  }

  /**
   * The answer; null for 404. Throws ERR_AUTHORITY_UNAVAILABLE, ERR_AUTHORITY_DENIED, ERR_AUTHORITY_REFUSED, and the
   * reason of the signal.
   */
  async call(verb: Verb, path: string, { data, token, signal }: ApiRequest): Promise<ApiAnswer | null> {
    const headers = token === undefined ? {} : { 'X-Vault-Token': token }
    const options = { headers, signal }
    try {
      const answer: unknown = await (verb === 'write'
        ? this.#client.write(path, data ?? {}, options)
        : this.#client[verb](path, options))
      if (answer === '') return {}
      if (isAnswer(answer)) return answer
      throw new NoAnswer('expected the JSON of OpenBao or Vault')
    } catch (cause) {
      if (signal.aborted) throw signal.reason
      const failure = judge(cause)
      if (failure === null) return null
      const words = failure.words.replaceAll(token ?? '\0', '***')
      throw new RotorError(failure.code, `${verb} ${this.address}/v1/${path}: ${words}`, {
        details: { path, status: failure.status },
      })
    }
  }

  /** Closes idle connections. */
  close(): void {
    this.#agent.destroy()
  }

  async #send({ method, uri, headers, json, signal }: Outgoing): Promise<object> {
    const { status, text } = await exchange({
      url: uri,
      method,
      // an agent of OpenBao in between may ask for this header, against forged requests of browsers
      headers: { ...headers, 'X-Vault-Request': 'true' },
      json,
      timeout: this.#timeout,
      maxAnswer: MAX_ANSWER,
      agent: this.#agent,
      ...(signal === undefined ? {} : { signal }),
    })
    // node-vault looks for "sys/health" in the path
    return { statusCode: status, body: parsed(text), request: { path: uri } }
  }
}

/** It came, but not from OpenBao or Vault. */
class NoAnswer extends Error {}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** By hand: one comes with each leaf, and a schema looks at every member of it. */
function isAnswer(value: unknown): value is ApiAnswer {
  if (!isObject(value)) return false
  const { data = null, auth = null } = value
  return (data === null || isObject(data)) && (auth === null || isObject(auth))
}

/** Empty stays empty; what is no JSON, such as the page of a proxy, becomes null. */
function parsed(text: string): unknown {
  if (text === '') return ''
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

interface Failure {
  readonly code: RotorErrorCode
  readonly words: string
  /** 0 without an answer. */
  readonly status: number
}

/** What a failure of node-vault or of the exchange means; null for "there is none". */
function judge(cause: unknown): Failure | null {
  const status = statusOf(cause)
  if (cause instanceof NoAnswer) {
    return { code: 'ERR_AUTHORITY_UNAVAILABLE', words: cause.message, status: 200 }
  }
  if (status === null) {
    const { message, code } = cause as NodeJS.ErrnoException
    return { code: 'ERR_AUTHORITY_UNAVAILABLE', words: fit(message || String(code)), status: 0 }
  }
  const words = fit(errorsOf(cause).join('; '))
  const said = `${status}${words === '' ? '' : ` ${words}`}`
  if (status === 404 && words === '') return null
  if (status === 403 || status === 401) return { code: 'ERR_AUTHORITY_DENIED', words: said, status }
  if (status === 503 && words.includes('sealed')) {
    return { code: 'ERR_AUTHORITY_UNAVAILABLE', words: `${said} (unseal it)`, status }
  }
  if (status >= 300 && status < 400) {
    const hint = 'a standby that points to another address, or a proxy; redirects are not followed'
    return { code: 'ERR_AUTHORITY_UNAVAILABLE', words: `${said} (${hint})`, status }
  }
  const again = status >= 500 || status === 429 || status === 412
  return { code: again ? 'ERR_AUTHORITY_UNAVAILABLE' : 'ERR_AUTHORITY_REFUSED', words: said, status }
}

const refusal = z.object({ response: z.object({ statusCode: z.number(), body: z.unknown() }) })

function statusOf(cause: unknown): number | null {
  const found = refusal.safeParse(cause)
  return found.success ? found.data.response.statusCode : null
}

function errorsOf(cause: unknown): string[] {
  const found = z.object({ errors: z.array(z.string()) }).safeParse(refusal.parse(cause).response.body)
  return found.success ? found.data.errors : []
}

/** Fit for one line of a log. */
const fit = (text: string): string =>
  text
    .replace(/\s+/g, ' ')
    .replace(/[^\x20-\x7e]/g, '?')
    .trim()
    .slice(0, WORDS)
