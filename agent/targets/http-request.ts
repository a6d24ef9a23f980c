/** One request under one deadline: what is sent, and does the answer mean "told"? */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import { isIP } from 'node:net'
import { checkServerIdentity } from 'node:tls'
import type { TargetConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { ProbeMaterial } from '../../src/probe/probe.ts'
import { type Duration, formatDuration } from '../../src/time.ts'
import { readTrustFile } from '../../src/trust/trust-file.ts'
import { readHeaders } from './headers.ts'

type HttpTargetConfig = Extract<TargetConfig, { type: 'http' }>

export interface ReadyRequest {
  readonly url: string
  readonly expect: readonly number[]
  readonly timeout: Duration
  readonly options: RequestOptions
  /** Never to be shown. */
  readonly secrets: readonly string[]
}

/** Bytes of an answer that are read. */
const MAX_ANSWER = 4096
/** Characters of it that an error quotes. */
const WORDS = 200
/** Shorter header values are no secrets. */
const SECRET = 6

/** A URL as others may see it, in logs and in the status: a query may hold a token. */
export function shownUrl(text: string): string {
  const { origin, pathname } = new URL(text)
  return `${origin}${pathname}`
}

/**
 * Reads the headers and the trust file of this moment. With `ca` the service is trusted by that file; the node's own
 * certificate is shown in any case, where the service asks for it. Throws ERR_CONFIG_INVALID.
 */
export async function makeRequest(config: HttpTargetConfig, material: ProbeMaterial): Promise<ReadyRequest> {
  const { url, method, expect, timeout } = config
  const headers = config.headersFile === undefined ? {} : await readHeaders(config.headersFile)
  const { protocol, hostname } = new URL(url)
  const name = config.serverName ?? hostname.replace(/^\[|\]$/g, '')
  const tls: RequestOptions = {
    ca: config.ca === undefined ? material.ca : await readTrustFile(config.ca, 'ca'),
    key: material.key,
    cert: material.certificate,
    // The trust file holds intermediates.
    allowPartialTrustChain: true,
    // RFC 6066 section 3: no IP addresses in SNI
    servername: isIP(name) === 0 ? name : '',
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
  }
  return {
    url,
    expect,
    timeout,
    secrets: Object.values(headers)
      .flatMap((value) => [value, ...value.split(' ').slice(1)])
      .filter((value) => value.length >= SECRET),
    options: {
      method,
      // A connection of its own: what is kept alive, or resumed, was made with an older generation.
      agent: false,
      headers: {
        'user-agent': 'nats-rotor',
        ...(method === 'GET' ? {} : { 'content-length': 0 }),
        ...headers,
      },
      ...(protocol === 'https:' ? tls : {}),
    },
  }
}

/**
 * Sends it and returns the status code, one of `expect`. Redirects are answers like any other. Throws
 * ERR_TARGET_UNREACHABLE without a connection, ERR_NOTIFY_FAILED for everything later, and the reason of an aborted
 * signal.
 */
export function sendRequest(ready: ReadyRequest, signal: AbortSignal): Promise<number> {
  const { url, expect, timeout, options } = ready
  const label = `${options.method} ${shownUrl(url)}`
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const request = (url.startsWith('https:') ? httpsRequest : httpRequest)(url, options)
    let connected = false
    let answer: { readonly status: number; body: string } | null = null

    const end = (settle: () => void) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      settle()
      request.destroy()
    }
    const fail = (text: string, cause?: unknown) => {
      const code = connected ? 'ERR_NOTIFY_FAILED' : 'ERR_TARGET_UNREACHABLE'
      end(() => reject(new RotorError(code, `${label}: ${text}`, { cause })))
    }
    /** The status is the answer; what follows is read for the words, and so that the service is not cut short. */
    const judge = () => {
      if (answer === null) return fail(`no answer within ${formatDuration(timeout)}`)
      const { status, body } = answer
      if (expect.includes(status)) return end(() => resolve(status))
      const words = firstWords(body, ready.secrets)
      const hint = status >= 300 && status < 400 ? ' (redirects are not followed)' : ''
      fail(
        `expected ${expect.join(', ')}, found ${status}${hint}${words === '' ? '' : `: ${JSON.stringify(words)}`}`,
      )
    }
    const onAbort = () => end(() => reject(signal.reason))
    const timer = setTimeout(judge, timeout)
    signal.addEventListener('abort', onAbort, { once: true })

    onConnection(request, () => {
      connected = true
    })
    request.on('error', (cause: NodeJS.ErrnoException) => {
      if (answer === null) fail(wordsOf(cause, url), cause)
    })
    request.on('response', (response: IncomingMessage) => {
      answer = { status: response.statusCode ?? 0, body: '' }
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        if (answer === null) return
        answer.body += chunk.slice(0, MAX_ANSWER)
        if (answer.body.length >= MAX_ANSWER) judge()
      })
      response.on('error', () => {})
      response.once('close', judge)
    })
    request.end()
  })
}

function wordsOf({ code, message }: NodeJS.ErrnoException, url: string): string {
  // Node's "socket hang up". With TLS 1.3 this is also how many servers refuse a client.
  if (code === 'ECONNRESET') {
    const why = url.startsWith('https:') ? ' (does it take the certificate of this node?)' : ''
    return `the connection was closed without an answer${why}`
  }
  return message || (code ?? 'no connection')
}

function onConnection(request: ClientRequest, connected: () => void): void {
  request.once('socket', (socket) => {
    if (socket.connecting) socket.once('connect', connected)
    else connected()
  })
}

/** Fit for one line of a log. A service may say back what it was sent. */
function firstWords(body: string, secrets: readonly string[]): string {
  let text = body
  for (const secret of secrets) text = text.replaceAll(secret, '***')
  return text
    .replace(/\s+/g, ' ')
    .replace(/[^\x20-\x7e]/g, '?')
    .trim()
    .slice(0, WORDS)
}
