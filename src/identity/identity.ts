/** What does this node hold now, and who wants to know when it changes? The port between files and connections. */
import { type Logger, silentLogger } from '../log.ts'
import type { Epoch } from '../schedule.ts'
import type { Certificate } from '../trust/certificate.ts'
import type { IdentityMaterial } from './material.ts'
import type { Follower, Usage } from './usage.ts'

export interface IdentitySnapshot extends IdentityMaterial {
  readonly leaf: Certificate
  /** Name of the generation; equal names are equal material. */
  readonly generation: string
  /** Version of the bundle it was made for; 0 for files that were written by something else. */
  readonly version: number
  /** Epoch of the authority that issued the leaf; absent for files that were written by something else. */
  readonly epoch?: Epoch
}

export interface Identity {
  /** Always a complete, checked set. */
  current(): IdentitySnapshot
  /** Calls back after each change, with the new set. Returns how to stop. */
  onChange(listener: (next: IdentitySnapshot) => void): () => void
  /** Says that `follower` stands on this identity: an agent in this process moves it and reports its use. Returns how to leave. */
  join(follower: Follower): () => void
  followers(): readonly Follower[]
  /** The open sockets of all followers, by generation. Those of an older one than `current` are still to be moved. */
  usage(): readonly Usage[]
}

/** An identity in memory: whoever owns it sets it. */
export class HeldIdentity implements Identity {
  #current: IdentitySnapshot
  readonly #listeners = new Set<{ readonly call: (next: IdentitySnapshot) => void }>()
  readonly #followers = new Set<Follower>()
  readonly #log: Logger

  /** @param log told when a listener throws. @default no log */
  constructor(first: IdentitySnapshot, log: Logger = silentLogger) {
    this.#current = first
    this.#log = log
  }

  current(): IdentitySnapshot {
    return this.#current
  }

  onChange(listener: (next: IdentitySnapshot) => void): () => void {
    // An entry of its own, so that a function given twice is called twice and stopped one by one.
    const entry = { call: listener }
    this.#listeners.add(entry)
    return () => {
      this.#listeners.delete(entry)
    }
  }

  join(follower: Follower): () => void {
    this.#followers.add(follower)
    return () => {
      this.#followers.delete(follower)
    }
  }

  followers(): readonly Follower[] {
    return [...this.#followers]
  }

  usage(): readonly Usage[] {
    return this.followers().flatMap((follower) => follower.usage())
  }

  /**
   * Makes `next` the current set and tells every listener, each on its own: one that throws, or returns a promise
   * that rejects, does not keep the news from the others. Nobody is told of material that is the same as before.
   */
  set(next: IdentitySnapshot): void {
    const last = this.#current
    this.#current = next
    if (last.key === next.key && last.certificate === next.certificate && last.ca === next.ca) return
    for (const entry of [...this.#listeners]) {
      // A listener may stop another one, or set a newer identity, while we go through them.
      if (!this.#listeners.has(entry) || this.#current !== next) continue
      try {
        const result: unknown = entry.call(next)
        if (result instanceof Promise) result.catch((error: unknown) => this.#report(error, next))
      } catch (error) {
        this.#report(error, next)
      }
    }
  }

  #report(error: unknown, { generation }: IdentitySnapshot): void {
    this.#log.error({ err: error, generation }, 'a listener for a new identity failed')
  }
}
