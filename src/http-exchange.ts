/**
 * One HTTP request and its whole answer, under one deadline and one bound. No redirect is followed and no proxy of
 * the environment is used: what is sent may be a secret, for this address only.
 */
import { type Agent as HttpAgent, request as httpRequest } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import { type Duration, formatDuration } from './time.ts'

export interface Exchange {
  readonly url: string
  readonly method: string
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. @default no body */
  readonly json?: unknown
  /** Milliseconds for everything: connection, request and the last byte of the answer. */
  readonly timeout: Duration
  /** Bytes of the answer; more is a failure. */
  readonly maxAnswer: number
  /** Keeps connections, and has the TLS settings of https. @default a connection of its own */
  readonly agent?: HttpAgent
  /** TLS settings without `agent`. */
  readonly tls?: Pick<RequestOptions, 'ca' | 'servername' | 'rejectUnauthorized'>
  readonly signal?: AbortSignal
}

export interface ExchangeAnswer {
  readonly status: number
  readonly text: string
}

/** Rejects with the error of Node, one that names the bound that was hit, or the reason of `signal`. */
export function exchange(options: Exchange): Promise<ExchangeAnswer> {
  const { url, method, timeout, maxAnswer, signal } = options
  const body = options.json === undefined ? undefined : Buffer.from(JSON.stringify(options.json))
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const request = (url.startsWith('https:') ? httpsRequest : httpRequest)(url, {
      method,
      agent: options.agent ?? false,
      ...options.tls,
      headers: {
        'user-agent': 'nats-rotor',
        ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': body.length }),
        ...options.headers,
      },
    })
    const end = (settle: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      settle()
    }
    const fail = (cause: unknown): void => {
      end(() => reject(cause))
      request.destroy()
    }
    const onAbort = () => fail(signal?.reason)
    const timer = setTimeout(() => fail(new Error(`no answer within ${formatDuration(timeout)}`)), timeout)
    signal?.addEventListener('abort', onAbort, { once: true })
    request.on('error', fail)
    request.once('response', (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxAnswer) fail(new Error(`the answer is larger than ${maxAnswer} bytes`))
        else chunks.push(chunk)
      })
      response.once('error', fail)
      // a connection that breaks in the middle of the answer
      response.once('close', () => {
        if (!response.complete) fail(new Error('the connection was closed in the middle of the answer'))
      })
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        end(() => resolve({ status: response.statusCode ?? 0, text }))
      })
    })
    request.end(body)
  })
}
