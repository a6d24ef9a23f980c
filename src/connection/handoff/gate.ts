/**
 * Stands in for the transport while the service's frames are held: from the moment the first connection gets its last
 * UNSUB until the second one takes over, or the first goes on. Everything else that the client wants of its transport
 * in that time is asked of the first connection.
 */
import type { ClientOptions, ClientTransport, DialTarget } from './internals.ts'

export class Gate implements ClientTransport {
  readonly #first: ClientTransport
  #held: Uint8Array[] = []
  /** The client asked for a disconnect (`nc.reconnect()`, or heartbeats without an answer). */
  disconnectAsked = false

  constructor(first: ClientTransport) {
    this.#first = first
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
  close(error?: Error): Promise<void> {
    this.release(this.#first)
    return this.#first.close(error)
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
