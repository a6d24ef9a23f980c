/** What of this process still stands on which generation? Counted socket by socket, so that it can be told, not guessed. */
import type { Epoch } from '../schedule.ts'
import { type Clock, type Instant, systemClock } from '../time.ts'
import type { IdentitySnapshot } from './identity.ts'

/** connection: to NATS. server: accepted by a TLS server of this process. client: of an HTTPS client. */
export type FollowerType = 'connection' | 'server' | 'client'

/** Open sockets of one follower that were made with one generation. */
export interface Usage {
  readonly type: FollowerType
  readonly name: string
  readonly generation: string
  /** Fingerprint of the leaf they were made with: SHA-256 of its DER, hex. */
  readonly leaf: string
  /** Epoch of the authority that issued that leaf; null when it is not known. */
  readonly issuerEpoch: Epoch | null
  readonly sockets: number
  /** When the oldest of them was opened. */
  readonly since: Instant
}

/** Something of this process that stands on the identity, and can be moved to a newer one. */
export interface Follower {
  readonly type: FollowerType
  readonly name: string
  /**
   * Returns when everything new uses `next`, and what can be moved was moved; the words are the evidence. Called again
   * for the same material it returns at once. Throws the reason when that failed: nothing was lost, the old is in use.
   */
  follow(next: IdentitySnapshot, signal: AbortSignal): Promise<string>
  usage(): readonly Usage[]
}

interface OpenSocket {
  readonly made: IdentitySnapshot
  readonly since: Instant
}

/** The open sockets of one follower. */
export class SocketCount {
  readonly #of: Pick<Follower, 'type' | 'name'>
  readonly #clock: Clock
  readonly #open = new Set<OpenSocket>()

  /** @param clock @default the system's */
  constructor(of: Pick<Follower, 'type' | 'name'>, clock: Clock = systemClock) {
    this.#of = of
    this.#clock = clock
  }

  /** Counts one more. Returns how to take it off again; a second call does nothing. */
  opened(made: IdentitySnapshot): () => void {
    const socket: OpenSocket = { made, since: this.#clock.now() }
    this.#open.add(socket)
    return () => {
      this.#open.delete(socket)
    }
  }

  /** One entry for each generation that is in use, oldest first. */
  usage(): Usage[] {
    const byGeneration = new Map<string, Usage>()
    for (const { made, since } of this.#open) {
      const { generation, leaf, epoch } = made
      const one = byGeneration.get(generation)
      byGeneration.set(generation, {
        type: this.#of.type,
        name: this.#of.name,
        generation,
        leaf: leaf.sha256,
        issuerEpoch: epoch ?? null,
        sockets: (one?.sockets ?? 0) + 1,
        since: Math.min(one?.since ?? since, since),
      })
    }
    return [...byGeneration.values()].sort((a, b) => a.since - b.since)
  }
}
