/**
 * The issuer's control connection as a follower of its identity. It is opened anew, to whichever server takes it: the
 * one that it was on may be the one that shows an ended certificate, and the issuer must not be held by that.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { IdentitySnapshot } from '../src/identity/identity.ts'
import { type Follower, SocketCount, type Usage } from '../src/identity/usage.ts'
import type { Link } from '../src/nats/link.ts'
import type { Clock } from '../src/time.ts'

export class ControlConnection implements Follower {
  readonly type = 'connection'
  readonly name: string
  readonly #link: Link
  readonly #count: SocketCount
  readonly #made = new WeakMap<NatsConnection, IdentitySnapshot>()

  constructor(name: string, link: Link, clock: Clock) {
    this.name = name
    this.#link = link
    this.#count = new SocketCount(this, clock)
  }

  /** Counts a connection of the link, which was dialled with this material, until it is closed. */
  opened(nc: NatsConnection, made: IdentitySnapshot): void {
    this.#made.set(nc, made)
    void nc.closed().then(this.#count.opened(made))
  }

  async follow(next: IdentitySnapshot): Promise<string> {
    if (!this.#link.connected) return 'not connected; the next dial uses this leaf'
    if (this.#made.get(this.#link.nc)?.leaf.sha256 === next.leaf.sha256) return 'connected with this leaf'
    const retire = await this.#link.renew()
    await retire()
    return 'the control connection was opened anew'
  }

  usage(): Usage[] {
    return this.#count.usage()
  }
}
