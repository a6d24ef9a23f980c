/**
 * A service's connection that is rebuilt for new TLS material in the plain order: let the service finish, drain,
 * connect, start again. Core messages published in the gap do not reach its subscriptions; JetStream keeps them.
 */
import type { ConnectionOptions, NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import type { Identity } from '../src/identity/identity.ts'
import { connectWith } from '../src/nats/connect.ts'

/**
 * Starts the service's subscriptions and publishers on a connection. The returned function stops them and resolves
 * when nothing of the service is under way any more.
 */
export type Use = (nc: NatsConnection) => Promise<() => Promise<void>>

export interface RebuiltConnectionOptions {
  readonly servers: readonly string[]
  readonly identity: Identity
  readonly use: Use
  /** Any other option of nats.js. */
  readonly options?: Omit<ConnectionOptions, 'servers' | 'port' | 'tls' | 'timeout'>
}

export class RebuiltConnection implements AsyncDisposable {
  readonly #options: RebuiltConnectionOptions
  #nc: NatsConnection | null = null
  #stop: () => Promise<void> = async () => {}
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(options: RebuiltConnectionOptions) {
    this.#options = options
  }

  /** Connects and starts the service. Throws ERR_NATS_UNAVAILABLE or ERR_NATS_DENIED. */
  static async open(options: RebuiltConnectionOptions): Promise<RebuiltConnection> {
    const connection = new RebuiltConnection(options)
    await connection.#start()
    return connection
  }

  /** Returns when the service runs on a connection made with the present identity; says how long it was away. */
  move(): Promise<string> {
    return this.#alone(async () => {
      const began = performance.now()
      await this.#end()
      await this.#start()
      return `drained and connected anew in ${Math.round(performance.now() - began)} ms`
    })
  }

  /** Stops the service and closes the connection. Idempotent. */
  close(): Promise<void> {
    return this.#alone(() => this.#end())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #start(): Promise<void> {
    const { servers, identity, use, options } = this.#options
    const nc = await connectWith({ ...options, servers, identity })
    try {
      this.#stop = await use(nc)
      this.#nc = nc
    } catch (cause) {
      await nc.close()
      throw RotorError.from(
        cause,
        'ERR_NATS_UNAVAILABLE',
        'the service could not start on its new connection',
      )
    }
  }

  async #end(): Promise<void> {
    const nc = this.#nc
    if (nc === null) return
    this.#nc = null
    await this.#stop()
    await nc.drain().catch(() => nc.close())
  }

  /** One change at a time; a failed one does not stop the next. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work)
    this.#turn = result.catch(() => {})
    return result
  }
}
