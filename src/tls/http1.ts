/** Which HTTP/1.1 connection of a server has a request under way, and how is one ended without losing an answer? */
import type { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Duration } from '../time.ts'
import type { Ending } from './connections.ts'

/** For a connection that is ended by age while nothing is under way: a client that is about to use it again may do so. */
const DEFAULT_IDLE: Duration = 1000

interface State {
  readonly underWay: Set<ServerResponse>
  /** It speaks something else now, a WebSocket for example: nobody here knows when that is idle. */
  upgraded: boolean
  /** Milliseconds; null when it is not to be ended. */
  idle: Duration | null
  timer: NodeJS.Timeout | null
}

/** Events at which a server hands out a request; the last two instead of the first, when somebody listens. */
const REQUESTS = ['request', 'checkContinue', 'checkExpectation'] as const
/** Events at which a server gives the connection away, but only when somebody listens. */
const UPGRADES = ['upgrade', 'connect'] as const

export class Http1 {
  readonly #states = new WeakMap<Socket, State>()
  readonly #armed = new Set<State>()
  readonly #detach: (() => void)[]

  constructor(server: EventEmitter) {
    this.#detach = [
      ...REQUESTS.map((event) => alongside(server, event, this.#onRequest)),
      ...UPGRADES.map((event) => alongside(server, event, this.#onUpgrade)),
    ]
  }

  ending(socket: TLSSocket): Ending {
    socket.once('close', () => this.#disarm(this.#state(socket)))
    const whenIdle = (idle: Duration): void => {
      const state = this.#state(socket)
      state.idle = Math.min(state.idle ?? idle, idle)
      for (const response of state.underWay) sayClose(response)
      this.#arm(socket, state)
    }
    return {
      whenIdle,
      gently: () => {
        whenIdle(DEFAULT_IDLE)
        if (this.#state(socket).upgraded) socket.end()
      },
      destroy: () => socket.destroy(),
    }
  }

  close(): void {
    for (const detach of this.#detach) detach()
    for (const state of this.#armed) this.#disarm(state)
  }

  #state(socket: Socket): State {
    const known = this.#states.get(socket)
    if (known !== undefined) return known
    const made: State = { underWay: new Set(), upgraded: false, idle: null, timer: null }
    this.#states.set(socket, made)
    return made
  }

  readonly #onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    // HTTP/2 requests of a server with `allowHTTP1` are counted by their session
    if (request.httpVersionMajor !== 1) return
    const { socket } = request
    const state = this.#state(socket)
    if (state.underWay.has(response)) return
    state.underWay.add(response)
    this.#disarm(state)
    if (state.idle !== null) sayClose(response)
    response.once('close', () => {
      state.underWay.delete(response)
      this.#arm(socket, state)
    })
  }

  readonly #onUpgrade = (_: unknown, socket: Socket): void => {
    const state = this.#state(socket)
    state.upgraded = true
    this.#disarm(state)
  }

  #arm(socket: Socket, state: State): void {
    this.#disarm(state)
    if (state.idle === null || state.upgraded || state.underWay.size > 0 || socket.destroyed) return
    const { bytesRead } = socket
    this.#armed.add(state)
    state.timer = setTimeout(() => {
      this.#disarm(state)
      // The head of a request that has not arrived as a whole is under way, too.
      if (socket.bytesRead !== bytesRead) this.#arm(socket, state)
      else socket.destroySoon()
    }, state.idle)
  }

  #disarm(state: State): void {
    if (state.timer !== null) clearTimeout(state.timer)
    state.timer = null
    this.#armed.delete(state)
  }
}

function sayClose(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('Connection', 'close')
}

type Listener = (...args: never[]) => void

/**
 * Listens to `event` before the others, and only while there are others: Node treats a request in another way when
 * somebody listens to one of these, and an HTTP/2 server makes requests of streams only for who listens.
 */
function alongside(server: EventEmitter, event: string, listener: Listener): () => void {
  const call = listener as (...args: unknown[]) => void
  const attached = (): number => server.listenerCount(event, call)
  const added = (name: string | symbol, other: unknown): void => {
    if (name === event && other !== call && attached() === 0) server.prependListener(event, call)
  }
  const removed = (name: string | symbol, other: unknown): void => {
    if (name === event && other !== call && server.listenerCount(event) === attached())
      server.off(event, call)
  }
  if (server.listenerCount(event) > 0) server.prependListener(event, call)
  server.on('newListener', added)
  server.on('removeListener', removed)
  return () => {
    server.off('newListener', added)
    server.off('removeListener', removed)
    server.off(event, call)
  }
}
