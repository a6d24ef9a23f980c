/**
 * The second connection: dialled, told who we are, and answered, before anybody else knows of it. With TLS 1.3 a server
 * refuses our certificate only after the handshake, so nothing counts before the PONG (nats-facts 5.3).
 */
import { RotorError } from '../../errors.ts'
import { OpenedSockets } from '../../nats/sockets.ts'
import { endingOf } from '../../probe/dial.ts'
import type { Duration } from '../../time.ts'
import { lost } from './ends.ts'
import {
  type ClientOptions,
  type ClientParser,
  type ClientProtocol,
  type ClientTransport,
  type DialTarget,
  type Dispatcher,
  discard,
  type Frame,
  type FrameKinds,
  type Internals,
  newParser,
  newTransport,
  type ServerInfo,
} from './internals.ts'
import type { MessageFrame } from './overlap.ts'
import { within } from './patience.ts'

export interface SecondOptions {
  /** Milliseconds for the dial, and for each answer. */
  readonly timeout: Duration
  readonly signal: AbortSignal
}

export class SecondConnection implements Dispatcher {
  readonly transport: ClientTransport
  readonly parser: ClientParser
  /** Where messages go; the taking over is the end of that. */
  onMessage: (frame: MessageFrame) => void = () => {}
  /** A subscription that the user may not have is no reason to give up. */
  mayBeRefused = false
  readonly #kinds: FrameKinds
  readonly #timeout: Duration
  readonly #info = Promise.withResolvers<void>()
  readonly #over = Promise.withResolvers<never>()
  #lastInfo: Uint8Array | null = null
  #pongs: (() => void)[] = []
  #failure: Error | null = null
  /** The server has answered after it saw our certificate. */
  #isTaken = false
  #frames = 0

  private constructor({ protocol, kinds }: Internals, timeout: Duration) {
    this.transport = newTransport(protocol.transport)
    this.parser = newParser(protocol.parser, this)
    this.#kinds = kinds
    this.#timeout = timeout
    this.#over.promise.catch(() => {})
  }

  /** Connected, authenticated, answered. Throws the reason; then nothing is left of it. */
  static async dial(
    internals: Internals,
    to: DialTarget,
    options: ClientOptions,
    { timeout, signal }: SecondOptions,
  ): Promise<SecondConnection> {
    const second = new SecondConnection(internals, timeout)
    const sockets = new OpenedSockets()
    const giveUp = () => second.#fail(RotorError.from(signal.reason, 'ERR_ABORTED', 'the dial was given up'))
    try {
      signal.throwIfAborted()
      signal.addEventListener('abort', giveUp, { once: true })
      const dialled = sockets.during(() => second.transport.connect(to, options))
      dialled.catch(() => {})
      await second.#until(dialled, 'connection')
      second.#read()
      await second.#until(second.#info.promise, 'INFO')
      second.#send(connectFrame(second.info, second.transport, options))
      await second.ping()
      second.#isTaken = true
      return second
    } catch (cause) {
      second.discard()
      sockets.destroy()
      throw inWords(cause)
    } finally {
      signal.removeEventListener('abort', giveUp)
      sockets.release()
    }
  }

  get info(): ServerInfo {
    return JSON.parse(Buffer.from(this.rawInfo).toString())
  }

  /** The last INFO as it came. */
  get rawInfo(): Uint8Array {
    if (this.#lastInfo === null) throw new Error('the server has not told about itself')
    return this.#lastInfo
  }

  /** Rejects when the connection has ended. Never resolves. */
  get over(): Promise<never> {
    return this.#over.promise
  }

  get failed(): boolean {
    return this.#failure !== null
  }

  /** Sends `commands` and a PING; resolves when the server has answered, so has taken the commands. */
  ping(commands = ''): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#pongs.push(resolve)
    this.#send(`${commands}PING\r\n`)
    return this.#until(promise, 'PONG')
  }

  /** Makes it the connection of the client: from here on frames go to `to`, and an end to the client's own handling. */
  handOver(protocol: ClientProtocol, to: Dispatcher): void {
    const { transport, parser } = this
    parser.dispatcher = to
    // This object lives as long as its transport; the handoff, and with it the connection before this one, does not.
    this.onMessage = () => {}
    protocol.parser = parser
    protocol.transport = transport
    // As ProtocolHandler.prepare does for a connection it dials itself.
    void transport.closed().then(async () => {
      if (protocol.transport !== transport) return
      protocol.connected = false
      if (!protocol.isClosed()) await protocol.disconnected(transport.closeError ?? protocol.lastError)
    })
  }

  discard(): void {
    this.#fail(new Error('given up'))
    discard(this.transport)
  }

  push(frame: Frame): void {
    this.#frames += 1
    switch (frame.kind) {
      case this.#kinds.message:
        if (frame.msg !== undefined && frame.data !== undefined) this.onMessage(frame as MessageFrame)
        break
      case this.#kinds.pong:
        this.#pongs.shift()?.()
        break
      case this.#kinds.ping:
        this.#send('PONG\r\n')
        break
      case this.#kinds.info:
        // a view on a chunk of the socket
        this.#lastInfo = Uint8Array.from(frame.data ?? [])
        this.#info.resolve()
        break
      case this.#kinds.error:
        this.#refused(Buffer.from(frame.data ?? []).toString())
        break
    }
  }

  #refused(words: string): void {
    if (this.mayBeRefused && /^'?permissions violation for subscription/i.test(words)) return
    this.#fail(new Error(`the server said ${words}`))
  }

  #send(text: string): void {
    this.transport.send(Buffer.from(text))
  }

  #until<T>(promise: Promise<T>, what: string): Promise<T> {
    const late = () => lost(`no ${what} within ${this.#timeout} ms`)
    return within(Promise.race([promise, this.#over.promise]), this.#timeout, late, () => this.#frames)
  }

  /** Reads as the client does: from the iterator of the transport into the parser, to the end. */
  #read(): void {
    const read = async () => {
      for (let chunks = this.transport[Symbol.asyncIterator](); ; ) {
        const { value, done } = await chunks.next()
        if (done === true) return
        this.parser.parse(value)
      }
    }
    // Nothing can be read after a frame that is none: end the connection, so that the client makes a new one.
    read().catch((cause) => {
      this.#fail(cause)
      this.transport.disconnect()
    })
    void this.transport.closed().then((cause) => {
      const error = cause instanceof Error ? inWords(cause) : new Error('the server closed the connection')
      this.#fail(this.#isTaken ? lost(error.message, error) : error)
    })
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#over.reject(this.#failure)
  }
}

/**
 * How Node says that the other side is gone, depending on what we were about. It may have been a refusal: what we sent met
 * a closed socket before we read the alert.
 */
const GONE = new Set(['ECONNRESET', 'EPIPE', 'ERR_STREAM_WRITE_AFTER_END', 'ERR_STREAM_DESTROYED'])
/** And that nobody was reached. */
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNABORTED',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])

/** A TLS alert is the server's word, which OpenSSL tells as a place in its own code. */
function inWords<T>(error: T): T | Error {
  const ending = error instanceof Error ? endingOf(error) : null
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (error instanceof Error && UNREACHABLE.has(code))
    return lost(`the server can not be reached: ${error.message}`, error)
  if (error instanceof Error && GONE.has(code) && (ending === null || ending.alert === null))
    return new Error(`the server closed the connection: ${error.message}`, { cause: error })
  return ending === null || ending.alert === null
    ? error
    : new Error(`the server refused the new certificate: ${ending.reason}`, { cause: error })
}

/** CONNECT as the client words it (nats-core `Connect`); the authenticator is asked again, with this server's nonce. */
function connectFrame(info: ServerInfo, transport: ClientTransport, options: ClientOptions): string {
  const { authenticator, noEcho, verbose, pedantic, tls, name } = options
  const proof: unknown = typeof authenticator === 'function' ? authenticator(info.nonce) : {}
  return `CONNECT ${JSON.stringify({
    protocol: 1,
    version: transport.version,
    lang: transport.lang,
    echo: noEcho ? false : undefined,
    verbose,
    pedantic,
    tls_required: tls ? true : undefined,
    name,
    ...(info.headers ? { headers: true, no_responders: true } : {}),
    ...(typeof proof === 'object' && proof !== null ? proof : {}),
  })}\r\n`
}
