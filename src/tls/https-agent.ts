/** An `https.Agent` that follows an identity: new sockets use the newest material, older ones finish their request. */
import type { ClientRequestArgs } from 'node:http'
import { Agent, type AgentOptions } from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Identity, IdentitySnapshot } from '../identity/identity.ts'
import { SocketCount, type Usage } from '../identity/usage.ts'
import type { Clock, Duration } from '../time.ts'
import { Connections } from './connections.ts'
import { clientTls, sameMaterial } from './contexts.ts'
import { Following, type FollowingHandle, shortLeaf } from './following.ts'

/** Of every client that follows an identity. */
export interface ClientOptions {
  /** In usage and logs. @default the kind of client */
  readonly name?: string | undefined
  /** Milliseconds after a change until a request that still uses an older generation is cut. @default never */
  readonly maxAge?: Duration | undefined
  /** @default the system's */
  readonly clock?: Clock | undefined
}

/** Those of Node but for what the identity gives, with `keepAlive` on. */
export interface HttpsAgentOptions
  extends ClientOptions,
    Omit<AgentOptions, 'key' | 'cert' | 'ca' | 'pfx' | 'passphrase' | 'name' | 'maxCachedSessions'> {}

/** An `https.Agent`; `close()` leaves the identity and destroys the sockets. */
export type HttpsAgent = Agent & FollowingHandle & { readonly type: 'client' }

/** `https.request(url, { agent })`. Server certificates are verified against the trust file of the identity. */
export function httpsAgent(identity: Identity, options: HttpsAgentOptions = {}): HttpsAgent {
  return new FollowingAgent(identity, options)
}

type Created = NonNullable<Parameters<Agent['createConnection']>[1]>

class FollowingAgent extends Agent implements FollowingHandle {
  readonly type = 'client'
  readonly name: string
  readonly #following: Following
  readonly #connections: Connections
  readonly #made = new WeakMap<Duplex, IdentitySnapshot>()
  /** How to take a socket off the count. */
  readonly #closed = new WeakMap<Duplex, () => void>()

  constructor(identity: Identity, { name, maxAge, clock, ...options }: HttpsAgentOptions) {
    // Without sessions kept: one of an older generation would be resumed without a look at the certificates.
    super({ keepAlive: true, ...options, maxCachedSessions: 0 })
    this.name = name ?? 'https-agent'
    const count = new SocketCount({ type: this.type, name: this.name }, clock)
    // They end by themselves after their request.
    this.#connections = new Connections(count, { maxAge, grace: 0 }, () => this.#following.current)
    this.#following = new Following(identity, () => {
      this.#connections.changed()
      this.#destroyIdle()
    })
    // Before Node's own listener, which would give the socket to the next request that waits.
    this.prependListener('free', (socket: Duplex) => {
      if (this.#isOlder(socket)) this.#destroySocket(socket)
    })
    this.#following.join(this)
  }

  override createConnection(
    options: ClientRequestArgs,
    created?: Created,
  ): ReturnType<Agent['createConnection']> {
    const made = this.#following.current
    // Only through a proxy the socket comes later, in place of the one that is returned.
    const later: Created = (error, socket) => {
      if (!error) this.#made.set(socket, made)
      created?.(error, socket)
    }
    const socket = super.createConnection({ ...options, ...clientTls(made) }, later)
    if (socket) this.#count(socket, made)
    return socket
  }

  override keepSocketAlive(socket: Duplex): boolean {
    return !this.#isOlder(socket) && Boolean(super.keepSocketAlive(socket))
  }

  async follow(next: IdentitySnapshot): Promise<string> {
    this.#following.adopt(next)
    const { older } = this.#connections
    return `leaf ${shortLeaf(next)} for new connections; ${older} older in use until their request ends`
  }

  usage(): Usage[] {
    return this.#connections.usage()
  }

  async close(): Promise<void> {
    this.#following.close()
    this.#connections.close()
    this.destroy()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #count(socket: Duplex, made: IdentitySnapshot): void {
    this.#made.set(socket, made)
    const destroy = (): void => this.#destroySocket(socket)
    const closed = this.#connections.add(made, { gently: () => {}, destroy })
    this.#closed.set(socket, closed)
    socket.once('close', closed)
  }

  /** From here on nothing goes through it; its `close` comes a moment later. */
  #destroySocket(socket: Duplex): void {
    socket.destroy()
    this.#closed.get(socket)?.()
  }

  #isOlder(socket: Duplex): boolean {
    const made = this.#made.get(socket)
    return made !== undefined && !sameMaterial(made, this.#following.current)
  }

  #destroyIdle(): void {
    for (const sockets of Object.values(this.freeSockets)) {
      for (const socket of [...(sockets ?? [])] as Socket[])
        if (this.#isOlder(socket)) this.#destroySocket(socket)
    }
  }
}
