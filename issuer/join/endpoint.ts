/**
 * The join endpoint: two paths over HTTPS, open to strangers: a node joins, and anybody may read the newest bundle,
 * which is public and proves itself. Everything a stranger can send or hold is bounded here:
 * connections, handshakes, headers, body, time, and how often; what a request means is decided elsewhere.
 */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { Socket } from 'node:net'
import { RotorError, type RotorErrorCode } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { parseAddress } from '../../src/probe/address.ts'
import { type Clock, type Duration, formatInstant } from '../../src/time.ts'
import { type JoinAnswer, type JoinRequest, joinRequest } from '../../src/wire/enrolment.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import type { EndpointKey } from './key.ts'
import { DEFAULT_LIMITS, type JoinLimits, Limits, sourceOf } from './limits.ts'

export interface EndpointOptions {
  /** `host:port`. */
  readonly listen: string
  readonly key: EndpointKey
  readonly answer: (request: JoinRequest) => Promise<JoinAnswer>
  /** The newest bundle, as an envelope. */
  readonly bundle: () => Promise<Uint8Array>
  readonly clock: Clock
  readonly logger: Logger
  /** @default DEFAULT_LIMITS */
  readonly limits?: JoinLimits
}

/** Requests since the start, by outcome. */
export interface JoinCounts {
  readonly joined: number
  readonly refused: number
  readonly malformed: number
  readonly limited: number
  readonly failed: number
}

export interface JoinEndpoint extends AsyncDisposable {
  readonly counts: () => JoinCounts
  /** Stops listening and cuts what is open. Idempotent. */
  close(): Promise<void>
}

const PATH = '/join'
const BUNDLE_PATH = '/bundle'
/** Bytes: the largest request for a certificate, and what stands around it. */
const MAX_BODY = 64 * 1024
const MAX_CONNECTIONS = 128
const MAX_CONNECTIONS_EACH = 16
const HANDSHAKE_TIME: Duration = 5_000
const HEADERS_TIME: Duration = 5_000
/** For the whole request; the answer then has as long again. */
const REQUEST_TIME: Duration = 6_000
/** When a node should ask again after something of ours failed. */
const RETRY_AFTER: Duration = 2_000

/** HTTP status and counter by code; any other code is our own failure, and its words are for our log only. */
const OUTCOMES: Partial<Record<RotorErrorCode, { status: number; count: keyof JoinCounts }>> = {
  ERR_JOIN_REFUSED: { status: 403, count: 'refused' },
  ERR_SIGN_REFUSED: { status: 403, count: 'refused' },
  ERR_SIGN_MALFORMED: { status: 400, count: 'malformed' },
}

/** Listens. Throws ERR_CONFIG_INVALID when it can not. */
export async function openJoinEndpoint(options: EndpointOptions): Promise<JoinEndpoint> {
  const { listen, key, clock, logger } = options
  const { host, port } = parseAddress(listen, 'join.listen')
  const limits = new Limits(options.limits ?? DEFAULT_LIMITS, clock.now())
  const counts = { joined: 0, refused: 0, malformed: 0, limited: 0, failed: 0 }
  const server = createServer(
    {
      key: key.key,
      cert: key.certificate,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['http/1.1'],
      handshakeTimeout: HANDSHAKE_TIME,
      maxHeaderSize: 8 * 1024,
      headersTimeout: HEADERS_TIME,
      requestTimeout: REQUEST_TIME,
      connectionsCheckingInterval: 1_000,
      keepAlive: false,
    },
    (request, response) => void handle(request, response),
  )
  server.maxConnections = MAX_CONNECTIONS
  server.setTimeout(2 * REQUEST_TIME, (socket) => socket.destroy())
  limitConnections(server)
  server.on('tlsClientError', (cause) => logger.debug({ err: cause.message }, 'no TLS with a stranger'))
  server.on('clientError', (_, socket) => socket.destroy())

  /** Never throws. */
  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const from = request.socket.remoteAddress ?? ''
    const wait = limits.take(from, clock.now())
    if (wait !== null) {
      counts.limited += 1
      // the first, the second, the fourth, ...: who floods us must not flood the log
      if (Number.isInteger(Math.log2(counts.limited)))
        logger.warn({ from, limited: counts.limited }, 'requests to join come too often')
      return refuse(response, 429, new RotorError('ERR_JOIN_UNAVAILABLE', 'too many requests'), wait)
    }
    try {
      if (request.method === 'GET' && request.url === BUNDLE_PATH) {
        return sendBytes(response, 200, 'application/jose+json', await options.bundle())
      }
      const answer = await options.answer(await readRequest(request))
      counts.joined += 1
      send(response, 200, answer)
    } catch (cause) {
      const error = RotorError.from(cause)
      const { status, count } = OUTCOMES[error.code] ?? { status: 503, count: 'failed' as const }
      counts[count] += 1
      const { id, reason } = error.details
      const err = error.message.slice(0, 300)
      const fields = { code: error.code, err, id, reason, from, [count]: counts[count] }
      logger.warn(fields, 'a request to join was not granted')
      if (status !== 503) return refuse(response, status, error)
      refuse(
        response,
        503,
        new RotorError('ERR_JOIN_UNAVAILABLE', 'the issuer can not sign now'),
        RETRY_AFTER,
      )
    }
  }

  function refuse(response: ServerResponse, status: number, error: RotorError, retryAfter?: Duration): void {
    send(response, status, {
      ok: false,
      code: error.code,
      message: error.message.slice(0, 1000),
      ...(retryAfter === undefined ? {} : { retryAfter }),
      serverTime: formatInstant(clock.now()),
    })
  }

  await listening(server, host, port, listen)
  logger.info({ listen, spki: key.spkiSha256 }, 'nodes can join')
  const close = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  return { counts: () => ({ ...counts }), close, [Symbol.asyncDispose]: close }
}

function send(response: ServerResponse, status: number, answer: JoinAnswer): void {
  const retry = answer.ok || answer.retryAfter === undefined ? null : Math.ceil(answer.retryAfter / 1000)
  if (retry !== null) response.setHeader('retry-after', retry)
  sendBytes(response, status, 'application/json', Buffer.from(JSON.stringify(answer)))
}

function sendBytes(response: ServerResponse, status: number, type: string, body: Uint8Array): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': body.length,
    'cache-control': 'no-store',
    connection: 'close',
  })
  response.end(body)
}

const malformed = (message: string): RotorError =>
  new RotorError('ERR_SIGN_MALFORMED', `join request: ${message}`)

async function readRequest(request: IncomingMessage): Promise<JoinRequest> {
  if (request.method !== 'POST' || request.url !== PATH)
    throw malformed(`expected POST ${PATH} or GET ${BUNDLE_PATH}`)
  const tooLarge = malformed(`expected at most ${MAX_BODY} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY) throw tooLarge
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of request) {
      size += chunk.length
      if (size > MAX_BODY) throw tooLarge
      chunks.push(chunk)
    }
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_SIGN_MALFORMED', 'join request')
  }
  return decodeRecord(joinRequest, Buffer.concat(chunks), 'join request', 'ERR_SIGN_MALFORMED')
}

/** A few for each address, so that one can not hold all. */
function limitConnections(server: Server): void {
  const open = new Map<string, number>()
  server.on('connection', (socket: Socket) => {
    const source = sourceOf(socket.remoteAddress ?? '')
    const count = (open.get(source) ?? 0) + 1
    if (count > MAX_CONNECTIONS_EACH) return void socket.destroy()
    open.set(source, count)
    socket.once('close', () => {
      const left = (open.get(source) ?? 1) - 1
      if (left === 0) open.delete(source)
      else open.set(source, left)
    })
  })
}

async function listening(server: Server, host: string, port: number, listen: string): Promise<void> {
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError('ERR_CONFIG_INVALID', `join.listen: can not listen on ${listen}: ${reason}`, {
      cause,
    })
  }
  server.on('error', () => {})
}
