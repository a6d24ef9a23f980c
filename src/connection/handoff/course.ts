/** May a handoff go on? Not when one of the connections ends, the service drains or closes, or its owner says so. */
import { lost, onEnd } from './ends.ts'
import type { ClientProtocol } from './internals.ts'

export class Course {
  readonly signal: AbortSignal
  readonly #protocol: ClientProtocol
  readonly #isDraining: () => boolean
  readonly #stop = new AbortController()
  readonly #forget: (() => void)[]

  constructor(protocol: ClientProtocol, isDraining: () => boolean, signal?: AbortSignal) {
    this.#protocol = protocol
    this.#isDraining = isDraining
    this.signal = signal === undefined ? this.#stop.signal : AbortSignal.any([this.#stop.signal, signal])
    this.#forget = [
      onEnd(protocol.closed, () => this.stop(new Error('the connection was closed'))),
      onEnd(protocol.transport.closed(), () => this.stop(lost('the connection was lost'))),
    ]
  }

  stop(why: Error): void {
    this.#stop.abort(why)
  }

  /** Called at `end`. */
  defer(forget: () => void): void {
    this.#forget.push(forget)
  }

  end(): void {
    for (const forget of this.#forget) forget()
  }

  /** Only before the cut: in it, the service's messages count more than why we should stop. */
  unlessStopped(answer: Promise<void>): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>()
    const stop = () => reject(this.signal.reason)
    this.signal.addEventListener('abort', stop, { once: true })
    if (this.signal.aborted) stop()
    answer.catch(() => {})
    return Promise.race([answer, promise]).finally(() => this.signal.removeEventListener('abort', stop))
  }

  /** Throws why not. */
  mayGoOn(): void {
    this.signal.throwIfAborted()
    if (this.#isDraining()) throw new Error('the connection is draining')
    if (!this.#protocol.connected) throw new Error('the connection is not connected')
  }
}
