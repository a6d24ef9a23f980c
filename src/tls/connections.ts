/** Which open connections stand on an older generation, and what is done with them when? */
import type { IdentitySnapshot } from '../identity/identity.ts'
import type { SocketCount, Usage } from '../identity/usage.ts'
import { type Duration, sleep } from '../time.ts'
import { sameMaterial } from './contexts.ts'

export interface AgePolicy {
  /**
   * Milliseconds without a request after which a keep-alive connection of an older generation is closed; a busy one
   * is told to end with its next answer. @default never
   */
  readonly closeIdle?: Duration | undefined
  /**
   * Milliseconds after a change until every connection of an older generation is ended: first so that nothing under
   * way is lost, and destroyed when the `grace` is over. @default never: a connection lives as long as its two sides want
   */
  readonly maxAge?: Duration | undefined
  /** Milliseconds. @default 30000 */
  readonly grace?: Duration | undefined
}

/** How one connection is ended. */
export interface Ending {
  /** As soon as nothing is under way, and nothing was for `idle` milliseconds. Absent where that can not be known. */
  readonly whenIdle?: (idle: Duration) => void
  /** So that nothing under way is lost, as far as the protocol allows. */
  readonly gently: () => void
  readonly destroy: () => void
}

interface Connection {
  readonly made: IdentitySnapshot
  readonly ending: Ending
  /** Stops its ageing. Null while it is not older. */
  stop: AbortController | null
}

export const DEFAULT_GRACE: Duration = 30_000

export class Connections {
  readonly #count: SocketCount
  readonly #policy: AgePolicy
  readonly #current: () => IdentitySnapshot
  readonly #open = new Set<Connection>()

  constructor(count: SocketCount, policy: AgePolicy, current: () => IdentitySnapshot) {
    this.#count = count
    this.#policy = policy
    this.#current = current
  }

  /** Returns how to take it off again. */
  add(made: IdentitySnapshot, ending: Ending): () => void {
    const connection: Connection = { made, ending, stop: null }
    const closed = this.#count.opened(made)
    this.#open.add(connection)
    this.#look(connection)
    return () => {
      closed()
      connection.stop?.abort()
      this.#open.delete(connection)
    }
  }

  /** Another generation is current. */
  changed(): void {
    for (const connection of this.#open) this.#look(connection)
  }

  /** How many are older than the current generation. */
  get older(): number {
    return [...this.#open].filter((connection) => this.#isOlder(connection)).length
  }

  usage(): Usage[] {
    return this.#count.usage()
  }

  /** Ends nothing: from now on they age no more. */
  close(): void {
    for (const connection of this.#open) connection.stop?.abort()
  }

  #isOlder({ made }: Connection): boolean {
    return !sameMaterial(made, this.#current())
  }

  #look(connection: Connection): void {
    if (!this.#isOlder(connection)) {
      // its generation was put back
      connection.stop?.abort()
      connection.stop = null
    } else if (connection.stop === null) {
      connection.stop = new AbortController()
      if (this.#policy.closeIdle !== undefined) connection.ending.whenIdle?.(this.#policy.closeIdle)
      void this.#age(connection.ending, connection.stop.signal)
    }
  }

  async #age(ending: Ending, signal: AbortSignal): Promise<void> {
    const { maxAge, grace = DEFAULT_GRACE } = this.#policy
    if (maxAge === undefined) return
    try {
      await sleep(maxAge, signal)
      ending.gently()
      await sleep(grace, signal)
      ending.destroy()
    } catch (cause) {
      if (!signal.aborted) throw cause
    }
  }
}
