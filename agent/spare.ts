/** The next control connection: dialled early, used only when the targets have proven the generation. */
import type { NatsConnection } from '@nats-io/transport-node'
import type { Link } from '../src/nats/link.ts'

export class Spare {
  #dialled: Promise<NatsConnection> | null = null

  dial(link: Link): void {
    this.#dialled = link.dial()
    this.#dialled.catch(() => {})
  }

  /** The connection is the caller's from here on; null when none was dialled. */
  async take(): Promise<NatsConnection | null> {
    const dialled = this.#dialled
    this.#dialled = null
    return dialled
  }

  /** Closes what nobody took. */
  drop(): void {
    this.#dialled?.then(
      (nc) => nc.close(),
      () => {},
    )
    this.#dialled = null
  }
}
