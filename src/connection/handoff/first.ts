/**
 * The first connection during a handoff: still the client's own, but we look at each frame before the client does,
 * send PINGs of our own on it, and, from `hold` on, own its end.
 */
import type { Duration } from '../../time.ts'
import { lost } from './ends.ts'
import { Gate } from './gate.ts'
import {
  type ClientProtocol,
  type ClientTransport,
  type Dispatcher,
  discard,
  type Frame,
  type FrameKinds,
  type Internals,
} from './internals.ts'
import { LateCopies } from './late-copies.ts'
import type { MessageFrame } from './overlap.ts'
import { within } from './patience.ts'

interface OwnPing {
  /** PINGs of the client that were sent before ours and have no answer yet. */
  ahead: number
  readonly answered: () => void
}

type CloseListener = (...args: unknown[]) => void

export class FirstConnection implements Dispatcher {
  readonly transport: ClientTransport
  /** Does the client get this message now? */
  onMessage: (frame: MessageFrame) => boolean = () => true
  readonly #protocol: ClientProtocol
  readonly #kinds: FrameKinds
  readonly #timeout: Duration
  readonly #dead = Promise.withResolvers<void>()
  readonly #onClose = () => this.#dead.resolve()
  #frames = 0
  #own: OwnPing[] = []
  #gate: Gate | null = null
  #isLeft = false
  readonly #left = Promise.withResolvers<void>()
  /** PINGs of the client on this connection that have no answer yet; counted while its new ones are held. */
  #clientPings = 0
  #closeListeners: CloseListener[] = []

  /** Begins to look. */
  constructor({ protocol, kinds }: Internals, timeout: Duration) {
    this.transport = protocol.transport
    this.#protocol = protocol
    this.#kinds = kinds
    this.#timeout = timeout
    protocol.parser.dispatcher = this
  }

  /**
   * Returns when the last handoff has nothing to look for any more: copies that may be late, and, when it was given up, its
   * PONGs on this connection, which would be taken for ours.
   */
  static async free({ parser: { dispatcher } }: ClientProtocol, timeout: Duration): Promise<void> {
    if (dispatcher instanceof LateCopies) await dispatcher.over
    if (!(dispatcher instanceof FirstConnection)) return
    const late = () => lost(`no PONG within ${timeout} ms on the connection in use, since the last handoff`)
    await within(dispatcher.#left.promise, timeout, late, () => dispatcher.#frames)
  }

  push(frame: Frame): void {
    this.#frames += 1
    if (frame.kind === this.#kinds.message && frame.msg !== undefined && frame.data !== undefined) {
      if (!this.onMessage(frame as MessageFrame)) return
    } else if (frame.kind === this.#kinds.pong && this.#isOurs()) {
      return
    }
    this.#protocol.push(frame)
  }

  /** Are the client's frames held? */
  get isHeld(): boolean {
    return this.#gate !== null && this.#protocol.transport === this.#gate
  }

  /** What the client has sent so far has reached the server. Throws as `ping`. */
  async flush(): Promise<void> {
    this.#protocol.flushPending()
    await this.ping()
  }

  /** Sends `commands` and a PING; resolves when the server has answered. Throws when it does not. */
  async ping(commands = ''): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const ahead = this.isHeld ? this.#clientPings : this.#protocol.pongs.length
    this.#own.push({ ahead, answered: resolve })
    this.transport.send(Buffer.from(`${commands}PING\r\n`))
    const late = () => lost(`no PONG within ${this.#timeout} ms on the connection in use`)
    const dead = this.#dead.promise.then(() => Promise.reject(lost('the connection in use was closed')))
    await within(Promise.race([promise, dead]), this.#timeout, late, () => this.#frames)
  }

  /** From here on the client's frames are held, and the end of this connection is ours to handle. */
  hold(): Gate {
    const protocol = this.#protocol
    protocol.flushPending()
    this.#clientPings = protocol.pongs.length
    const { socket } = this.transport
    // The client would begin to reconnect.
    this.#closeListeners = (socket?.listeners('close') ?? []) as CloseListener[]
    for (const listener of this.#closeListeners) socket?.off('close', listener)
    socket?.on('close', this.#onClose)
    this.#gate = new Gate(this.transport, this.#timeout)
    protocol.transport = this.#gate
    return this.#gate
  }

  /** The client goes on with this connection as if nothing had been. */
  letGo(): void {
    this.#isLeft = true
    this.onMessage = () => true
    this.#leave()
    this.open()
    this.transport.socket?.off('close', this.#onClose)
  }

  /** The client's frames go out here again; its messages are still looked at. */
  open(): void {
    const protocol = this.#protocol
    const gate = this.#gate
    if (gate === null || !this.isHeld) return
    const { socket } = this.transport
    for (const listener of this.#closeListeners) socket?.on('close', listener)
    protocol.transport = this.transport
    gate.release(this.transport)
    const ended = this.transport.isClosed || socket === undefined || socket.destroyed
    if (gate.disconnectAsked || ended) this.transport.disconnect()
  }

  /** The other connection is in use, or none any more: this one has nothing more to say. */
  discard(): void {
    this.#dead.resolve()
    this.transport.socket?.off('close', this.#onClose)
    discard(this.transport)
  }

  /** Not before our own PINGs are answered: the client would take the PONGs for those of its own. */
  #leave(): void {
    const { parser } = this.#protocol
    if (this.#own.length > 0) return
    if (parser.dispatcher === this) parser.dispatcher = this.#protocol
    this.#left.resolve()
  }

  #isOurs(): boolean {
    const next = this.#own[0]
    if (next?.ahead === 0) {
      this.#own.shift()
      next.answered()
      if (this.#isLeft) this.#leave()
      return true
    }
    for (const ping of this.#own) ping.ahead -= 1
    this.#clientPings -= 1
    return false
  }
}
