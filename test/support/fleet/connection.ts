/** A control connection of an agent, as far as its code uses one. */
import { RotorError } from '../../../src/errors.ts'
import type { Duration } from '../../../src/time.ts'
import type { SimulatedProcess } from './timeline.ts'

/** What answers on the other side. */
export interface Answering {
  /** A request of this process; rejects when no answer comes. */
  request(
    from: SimulatedProcess,
    subject: string,
    data: string | Uint8Array,
    timeout: Duration,
  ): Promise<Uint8Array>
  /** Stores a status record. */
  store(from: SimulatedProcess, subject: string, data: Uint8Array): Promise<void>
}

export class Connection {
  readonly process: SimulatedProcess
  readonly #server: string
  readonly #answering: Answering
  readonly #closed = Promise.withResolvers<void>()
  #open = true

  constructor(process: SimulatedProcess, server: string, answering: Answering) {
    this.process = process
    this.#server = server
    this.#answering = answering
  }

  getServer(): string {
    return this.#server
  }

  async request(subject: string, data: string | Uint8Array, { timeout }: { timeout: Duration }) {
    this.#assertOpen()
    return { data: await this.#answering.request(this.process, subject, data, timeout) }
  }

  /** `jetstream(nc).publish` of a status. */
  async store(subject: string, data: Uint8Array): Promise<void> {
    this.#assertOpen()
    await this.#answering.store(this.process, subject, data)
  }

  closed(): Promise<void> {
    return this.#closed.promise
  }

  isClosed(): boolean {
    return !this.#open
  }

  async close(): Promise<void> {
    this.#open = false
    this.#closed.resolve()
  }

  drain(): Promise<void> {
    return this.close()
  }

  #assertOpen(): void {
    if (!this.#open) throw new RotorError('ERR_NATS_UNAVAILABLE', 'the connection is closed')
  }
}
