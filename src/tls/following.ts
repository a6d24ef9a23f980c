/** Which generation is in use here? What the servers and the clients that follow an identity have in common. */
import type { Identity, IdentitySnapshot } from '../identity/identity.ts'
import type { Follower } from '../identity/usage.ts'
import { sameMaterial } from './contexts.ts'

/** A server or a client that follows an identity until it is closed. */
export interface FollowingHandle extends Follower, AsyncDisposable {
  /** Leaves the identity. Idempotent. */
  close(): Promise<void>
}

/** Keeps what is in use the same as the identity, by itself and when it is told. */
export class Following {
  readonly #identity: Identity
  readonly #use: (next: IdentitySnapshot) => void
  readonly #leave: (() => void)[] = []
  #current: IdentitySnapshot
  #before: IdentitySnapshot

  /** @param use makes everything new use this generation, or throws and changes nothing; the first is in use already */
  constructor(identity: Identity, use: (next: IdentitySnapshot) => void) {
    this.#identity = identity
    this.#use = use
    this.#current = identity.current()
    this.#before = this.#current
    this.#leave.push(identity.onChange((next) => this.adopt(next)))
  }

  /** The follower must be complete when it joins. */
  join(follower: Follower): void {
    this.#leave.push(this.#identity.join(follower))
  }

  get current(): IdentitySnapshot {
    return this.#current
  }

  /** The generation that was in use before the current one. */
  get before(): IdentitySnapshot {
    return this.#before
  }

  /** Uses `next` from now on. The same material under another name only takes the name. */
  adopt(next: IdentitySnapshot): void {
    const last = this.#current
    if (sameMaterial(last, next)) {
      this.#current = next
      return
    }
    this.#current = next
    try {
      this.#use(next)
    } catch (cause) {
      this.#current = last
      throw cause
    }
    this.#before = last
  }

  close(): void {
    for (const leave of this.#leave.splice(0)) leave()
  }
}

/** The beginning of a fingerprint: enough for people. */
export const shortLeaf = ({ leaf }: Pick<IdentitySnapshot, 'leaf'>): string => leaf.sha256.slice(0, 16)
