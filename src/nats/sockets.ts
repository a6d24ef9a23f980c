/**
 * Which sockets did this call open? The NATS client forgets the socket of a dial that timed out before INFO came: it
 * stays open as long as the silent server keeps it (transport-node `_closed` returns early when not connected).
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'

/** Published by Node for each client socket, in the context of the call that made it. */
const CHANNEL = 'net.client.socket'

const owner = new AsyncLocalStorage<OpenedSockets>()

export class OpenedSockets {
  readonly #sockets = new Set<Socket>()
  readonly #onSocket = (message: unknown): void => {
    if (owner.getStore() !== this || typeof message !== 'object' || message === null) return
    if ('socket' in message && message.socket instanceof Socket) this.#add(message.socket)
  }

  constructor() {
    subscribe(CHANNEL, this.#onSocket)
  }

  /** Runs `call`; sockets that it, or what it started, opens are noted until `release`. */
  during<T>(call: () => T): T {
    return owner.run(this, call)
  }

  destroy(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Forgets all, and notes no more. */
  release(): void {
    unsubscribe(CHANNEL, this.#onSocket)
    this.#sockets.clear()
  }

  #add(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
  }
}
