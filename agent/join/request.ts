/** Asks the join endpoint. Its key is checked against the token before a byte of the request is written. */
import { Agent } from 'node:https'
import type { Duplex } from 'node:stream'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import type { JoinToken } from '../../src/enrolment/token.ts'
import { RotorError } from '../../src/errors.ts'
import { exchange } from '../../src/http-exchange.ts'
import type { Logger } from '../../src/log.ts'
import { parseAddress } from '../../src/probe/address.ts'
import { Backoff } from '../../src/tasks.ts'
import { type Clock, type Duration, sleep } from '../../src/time.ts'
import { spkiSha256 } from '../../src/trust/keys.ts'
import { MAX_BUNDLE_BYTES } from '../../src/wire/bundle.ts'
import { type JoinAnswer, joinAnswer } from '../../src/wire/enrolment.ts'
import { decodeRecord } from '../../src/wire/record.ts'

export interface AskOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly signal: AbortSignal
  /** How long an endpoint that has no time, or does not answer, is asked again; milliseconds. */
  readonly patience: Duration
}

type Granted = Extract<JoinAnswer, { ok: true }>

const REQUEST_TIME: Duration = 20_000
/** Bytes: a bundle, JSON-escaped at worst, and a chain beside it. */
const MAX_ANSWER = 4 * MAX_BUNDLE_BYTES

/**
 * Asks one address after the other, and again while they have no time. Throws ERR_JOIN_REFUSED and ERR_SIGN_* as the
 * issuer answers, ERR_JOIN_ENDPOINT when nobody with the pinned key was found but somebody else, ERR_JOIN_UNAVAILABLE.
 */
export async function askToJoin(token: JoinToken, csr: string, options: AskOptions): Promise<Granted> {
  const { clock, logger, signal, patience } = options
  const deadline = clock.now() + patience
  const backoff = new Backoff({ base: 250, max: 5_000 })
  for (;;) {
    const failures: RotorError[] = []
    for (const address of token.addresses) {
      try {
        return await ask(address, token, csr, signal)
      } catch (cause) {
        signal.throwIfAborted()
        const error = RotorError.from(cause)
        // the answer of the issuer; another address would give the same one
        if (error.code !== 'ERR_JOIN_UNAVAILABLE' && error.code !== 'ERR_JOIN_ENDPOINT') throw error
        failures.push(error)
      }
    }
    const words = failures.map((error) => error.message).join('; ')
    const impostor = failures.find((error) => error.code === 'ERR_JOIN_ENDPOINT')
    if (impostor !== undefined) throw new RotorError('ERR_JOIN_ENDPOINT', words, { cause: impostor })
    const wait = Math.max(backoff.next(), ...failures.map(({ details }) => Number(details.retryAfter ?? 0)))
    if (clock.now() + wait > deadline) throw new RotorError('ERR_JOIN_UNAVAILABLE', words)
    logger.info({ err: words, againMs: wait }, 'the join endpoint is asked again')
    await sleep(wait, signal, clock)
  }
}

async function ask(address: string, token: JoinToken, csr: string, signal: AbortSignal): Promise<Granted> {
  const agent = new PinnedAgent(token.endpoint)
  try {
    const { status, text } = await exchange({
      url: `https://${address}/join`,
      method: 'POST',
      json: { v: 1, id: token.id, secret: token.secret, csr },
      timeout: REQUEST_TIME,
      maxAnswer: MAX_ANSWER,
      agent,
      signal,
    })
    const answer = read(address, status, text)
    if (answer.ok) return answer
    const { code, message, retryAfter } = answer
    throw new RotorError(code, `${address}: ${message}`, { details: { retryAfter } })
  } catch (cause) {
    signal.throwIfAborted()
    throw RotorError.from(cause, 'ERR_JOIN_UNAVAILABLE', `join endpoint ${address}`)
  } finally {
    agent.destroy()
  }
}

function read(address: string, status: number, text: string): JoinAnswer {
  try {
    return decodeRecord(joinAnswer, text, `answer of ${address}`)
  } catch (cause) {
    throw new RotorError('ERR_JOIN_ENDPOINT', `${address}: status ${status} is no answer of an issuer`, {
      cause,
    })
  }
}

/**
 * Connections of TLS 1.3 to whoever has the pinned key. The certificate around the key says nothing here: it is signed
 * by itself. TLS has the server sign the handshake with its key (RFC 8446 4.4.3), so the pin is what counts.
 */
class PinnedAgent extends Agent {
  readonly #pin: string
  /** Also those whose handshake never ends, which the agent does not know yet. */
  readonly #sockets = new Set<TLSSocket>()

  constructor(pin: string) {
    super({ keepAlive: false, maxCachedSessions: 0 })
    this.#pin = pin
  }

  override createConnection(
    options: ConnectionOptions,
    done: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    const { host = '', port } = options
    const socket = connect({
      host,
      ...(port === undefined ? {} : { port }),
      servername: parseAddress(`${host.includes(':') ? `[${host}]` : host}:${port}`).ip ? '' : host,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: false,
    })
    this.#sockets.add(socket)
    const fail = (cause: Error) => done(cause, socket)
    socket.once('error', fail)
    socket.once('secureConnect', () => {
      socket.off('error', fail)
      const found = keyOf(socket)
      if (found === this.#pin) return done(null, socket)
      socket.destroy()
      done(
        new RotorError(
          'ERR_JOIN_ENDPOINT',
          `${host}:${port}: expected the key ${this.#pin} that the token pins, found ${found ?? 'none'}`,
        ),
        socket,
      )
    })
  }

  override destroy(): void {
    for (const socket of this.#sockets) socket.destroy()
    super.destroy()
  }
}

function keyOf(socket: TLSSocket): string | null {
  const certificate = socket.getPeerX509Certificate()
  return certificate === undefined ? null : spkiSha256(certificate.publicKey)
}
