/**
 * Which HTTP/2 session belongs to a connection of a server, and how is it ended so that no request is lost?
 *
 * With one GOAWAY that names the last stream: all up to it are answered, and the client knows that what it sent after
 * was not looked at and may be sent again (RFC 9113 6.8, 8.7). The announcement before it that the RFC knows, with the
 * largest stream, is not for us: after any GOAWAY of its own Node answers no new stream.
 */
import type { EventEmitter } from 'node:events'
import type { ServerHttp2Session } from 'node:http2'
import type { TLSSocket } from 'node:tls'
import type { Ending } from './connections.ts'

interface Session {
  session: ServerHttp2Session | null
  /** It was to be ended before it was there. */
  ending: boolean
}

export class Http2 {
  readonly #server: EventEmitter
  readonly #sessions = new WeakMap<TLSSocket, Session>()
  /** The server makes the session of a connection while it tells that it is there. */
  #accepted: Session | null = null

  /** Before the server's own listener. */
  constructor(server: EventEmitter) {
    this.#server = server
    server.prependListener('secureConnection', this.#onSecure)
    server.prependListener('session', this.#onSession)
  }

  ending(socket: TLSSocket): Ending {
    const gently = (): void => {
      const of = this.#of(socket)
      of.ending = true
      of.session?.close()
    }
    const destroy = (): void => {
      this.#of(socket).session?.destroy()
      socket.destroy()
    }
    return { whenIdle: gently, gently, destroy }
  }

  close(): void {
    this.#server.off('secureConnection', this.#onSecure)
    this.#server.off('session', this.#onSession)
  }

  #of(socket: TLSSocket): Session {
    const known = this.#sessions.get(socket)
    if (known !== undefined) return known
    const made: Session = { session: null, ending: false }
    this.#sessions.set(socket, made)
    return made
  }

  readonly #onSecure = (socket: TLSSocket): void => {
    this.#accepted = this.#of(socket)
  }

  readonly #onSession = (session: ServerHttp2Session): void => {
    const of = this.#accepted
    this.#accepted = null
    if (of === null) return
    of.session = session
    if (of.ending) session.close()
  }
}
