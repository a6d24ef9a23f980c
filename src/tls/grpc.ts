/**
 * `nats-rotor/grpc`: a listener for a server of @grpc/grpc-js that follows an identity.
 *
 * The credentials of grpc-js can be changed while it runs, but nobody can tell which connection was made with which of
 * them. So TLS is done here, and the connections are given to the server through its connection injector: one for each
 * generation, which can be counted and drained apart from the others.
 */
import { createServer, type TLSSocket, type TlsOptions, type Server as TlsServer } from 'node:tls'
import { type ConnectionInjector, type Server, ServerCredentials } from '@grpc/grpc-js'
import { RotorError } from '../errors.ts'
import type { Identity, IdentitySnapshot } from '../identity/identity.ts'
import type { Usage } from '../identity/usage.ts'
import type { Duration } from '../time.ts'
import { DEFAULT_GRACE, type Ending } from './connections.ts'
import type { FollowingHandle } from './following.ts'
import { type SecureServerOptions, ServerFollower } from './secure-server.ts'

export interface GrpcListenOptions extends SecureServerOptions {
  /** @default 0, any free one */
  readonly port?: number | undefined
  /** @default every address of the machine */
  readonly host?: string | undefined
  /** Clients must show a certificate of a trusted authority. @default true */
  readonly requireClientCertificate?: boolean | undefined
  /** Versions, ciphers and the like. */
  readonly tls?: Omit<
    TlsOptions,
    'key' | 'cert' | 'ca' | 'pfx' | 'ALPNProtocols' | 'requestCert' | 'rejectUnauthorized'
  >
}

export interface GrpcListener extends FollowingHandle {
  readonly type: 'server'
  readonly port: number
  /** Takes no more connections, lets calls finish for `grace`, then ends them. The gRPC server can listen elsewhere. */
  close(): Promise<void>
}

/**
 * In place of `server.bindAsync`. Call `close()` before `server.tryShutdown()`.
 *
 * @throws ERR_IDENTITY_INVALID when OpenSSL refuses the identity, ERR_CONFIG_INVALID when it can not listen there
 */
export async function listenGrpc(
  server: Server,
  identity: Identity,
  options: GrpcListenOptions = {},
): Promise<GrpcListener> {
  const { requireClientCertificate = true } = options
  const tls = createServer({
    ...options.tls,
    ALPNProtocols: ['h2'],
    requestCert: requireClientCertificate,
    rejectUnauthorized: requireClientCertificate,
  })
  const listener = new Listener(server, tls, identity, options)
  try {
    await listen(tls, options)
    return listener
  } catch (cause) {
    await listener.close()
    throw cause
  }
}

/** How many connections of one generation are open, and whether they are being drained. */
interface Injector {
  readonly connections: ConnectionInjector
  open: number
  drained: boolean
}

class Listener implements GrpcListener {
  readonly type = 'server'
  readonly name: string
  readonly #grpc: Server
  readonly #tls: TlsServer
  readonly #grace: Duration
  readonly #follower: ServerFollower
  readonly #injectors = new Map<IdentitySnapshot, Injector>()
  #closed: Promise<void> | null = null

  constructor(grpc: Server, tls: TlsServer, identity: Identity, options: GrpcListenOptions) {
    this.name = options.name ?? 'grpc'
    this.#grpc = grpc
    this.#tls = tls
    this.#grace = options.grace ?? DEFAULT_GRACE
    const named = { ...options, name: this.name }
    this.#follower = new ServerFollower(tls, identity, named, (socket, made) => this.#inject(socket, made))
  }

  get port(): number {
    const address = this.#tls.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  follow(next: IdentitySnapshot, signal: AbortSignal): Promise<string> {
    return this.#follower.follow(next, signal)
  }

  usage(): Usage[] {
    return this.#follower.usage()
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    await this.#follower.close()
    if (!this.#tls.listening) return
    // Of handshakes that are under way.
    this.#tls.on('secureConnection', (socket) => socket.destroy())
    const closed = new Promise((resolve) => this.#tls.close(resolve))
    for (const injector of this.#injectors.values()) this.#drain(injector)
    await closed
  }

  /** An HTTP/2 session takes the connection over and reads its first bytes; nothing of it is read before. */
  #inject(socket: TLSSocket, made: IdentitySnapshot): Ending {
    const injector = this.#injectorOf(made)
    injector.open += 1
    socket.once('close', () => {
      injector.open -= 1
      // One that is in use again makes another.
      if (injector.open > 0) return
      injector.connections.destroy()
      if (this.#injectors.get(made) === injector) this.#injectors.delete(made)
    })
    injector.connections.injectConnection(socket)
    const gently = (): void => this.#drain(injector)
    return { whenIdle: gently, gently, destroy: () => socket.destroy() }
  }

  #injectorOf(made: IdentitySnapshot): Injector {
    const known = this.#injectors.get(made)
    if (known !== undefined && !known.drained) return known
    const connections = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure())
    const injector: Injector = { connections, open: 0, drained: false }
    this.#injectors.set(made, injector)
    return injector
  }

  /** Each session gets a GOAWAY and lets its calls finish. */
  #drain(injector: Injector): void {
    if (injector.drained) return
    injector.drained = true
    injector.connections.drain(this.#grace)
  }
}

function listen(tls: TlsServer, { port = 0, host }: GrpcListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void => {
      const where = `${host ?? 'every address'} port ${port}`
      reject(
        new RotorError('ERR_CONFIG_INVALID', `gRPC: can not listen on ${where}: ${cause.message}`, { cause }),
      )
    }
    tls.once('error', failed)
    tls.listen({ port, ...(host === undefined ? {} : { host }) }, () => {
      tls.off('error', failed)
      resolve()
    })
  })
}
