/**
 * Stands in for the transport while the service's frames are held: from the moment the first connection gets its last
 * UNSUB until the second one takes over, or the first goes on. Everything else that the client wants of its transport
 * in that time is asked of the first connection.
 */
import type { Duration } from '../../time.ts'
import { lost } from './ends.ts'
import type { ClientOptions, ClientTransport, DialTarget } from './internals.ts'
import { within } from './patience.ts'

export class Gate implements ClientTransport {
  readonly #first: ClientTransport
  readonly #timeout: Duration
  #held: Uint8Array[] = []
  /** The client asked for a disconnect (`nc.reconnect()`, or heartbeats without an answer). */
  disconnectAsked = false

  /** @param timeout milliseconds until what was held is taken by the server, when the service closes the connection */
  constructor(first: ClientTransport, timeout: Duration) {
    this.#first = first
    this.#timeout = timeout
  }

  get version(): string {
    return this.#first.version
  }

  get lang(): string {
    return this.#first.lang
  }

  get isClosed(): boolean {
    return this.#first.isClosed
  }

  get closeError(): Error | undefined {
    return this.#first.closeError
  }

  get socket(): ClientTransport['socket'] {
    return this.#first.socket
  }

  get tlsName(): string {
    return this.#first.tlsName
  }

  connect(to: DialTarget, options: ClientOptions): Promise<void> {
    return this.#first.connect(to, options)
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this.#first[Symbol.asyncIterator]()
  }

  isEncrypted(): boolean {
    return this.#first.isEncrypted()
  }

  send(frame: Uint8Array): void {
    this.#held.push(frame)
  }

  /** `nc.close()`: what the service has published is not kept back from the server. */
  async close(error?: Error): Promise<void> {
    const isOwed = this.#held.length > 0
    this.release(this.#first)
    if (isOwed) await this.#sent()
    await this.#first.close(error)
  }

  /** The client's transport does not wait for it, and an earlier write may be under way. */
  async #sent(): Promise<void> {
    const { socket } = this.#first
    if (socket === undefined || socket.destroyed) return
    const { promise, resolve } = Promise.withResolvers<void>()
    socket.once('close', resolve)
    socket.write('', () => resolve())
    const late = () => lost(`what was published is not taken within ${this.#timeout} ms`)
    await within(promise, this.#timeout, late).catch(() => {})
    socket.off('close', resolve)
  }

  disconnect(): void {
    this.disconnectAsked = true
  }

  closed(): Promise<unknown> {
    return this.#first.closed()
  }

  discard(): void {
    this.#first.discard()
  }

  /** Sends the held frames, in their order. */
  release(to: ClientTransport): void {
    const held = this.#held
    this.#held = []
    for (const frame of held) to.send(frame)
  }
}
