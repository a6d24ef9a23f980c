/**
 * A TLS, HTTPS or HTTP/2 server of Node that follows an identity: new handshakes use the newest leaf and trust the
 * newest authorities; open connections stay, are counted, and are ended only by the policy that was asked for.
 */
import { Server as HttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { Server, TLSSocket } from 'node:tls'
import { RotorError } from '../errors.ts'
import type { Identity, IdentitySnapshot } from '../identity/identity.ts'
import { SocketCount, type Usage } from '../identity/usage.ts'
import type { Clock, Duration } from '../time.ts'
import { type AgePolicy, Connections, type Ending } from './connections.ts'
import { type ServerSettings, sameMaterial, serverTls, settingsOf } from './contexts.ts'
import { Following, type FollowingHandle } from './following.ts'
import { Http1 } from './http1.ts'
import { Http2 } from './http2.ts'
import { type Proof, proveServer } from './proof.ts'

export interface SecureServerOptions extends AgePolicy {
  /** In usage and logs. @default 'server' */
  readonly name?: string | undefined
  /** Milliseconds that a proof by a handshake may take. @default 3000 */
  readonly proofTimeout?: Duration | undefined
  /** @default the system's */
  readonly clock?: Clock | undefined
}

/** Follows until it is closed; the server itself goes on with what it has then. */
export interface SecuredServer extends FollowingHandle {
  readonly type: 'server'
}

/**
 * Any `tls.Server`, also `https.Server` and `http2.Http2SecureServer`; it may be made without key and certificate,
 * and should be given before it listens, so that every connection is counted. Its other settings stay in force:
 * `requestCert`, `rejectUnauthorized`, versions, ciphers, ALPN, `SNICallback`, ... Names of `addContext` keep their own
 * context. Do not call its `setSecureContext` any more.
 *
 * @throws ERR_IDENTITY_INVALID when OpenSSL refuses the identity; TypeError when it is no such server
 */
export function secureServer(
  server: Server,
  identity: Identity,
  options: SecureServerOptions = {},
): SecuredServer {
  return new ServerFollower(server, identity, options)
}

/** How a connection that was made with this generation is ended. */
type EndingOf = (socket: TLSSocket, made: IdentitySnapshot) => Ending

/** When the protocol is not known: the other side hears that no more will come. */
const plainEnding: EndingOf = (socket) => ({
  gently: () => socket.end(),
  destroy: () => socket.destroy(),
})

export class ServerFollower implements SecuredServer {
  readonly type = 'server'
  readonly name: string
  readonly #server: Server
  readonly #proofTimeout: Duration
  readonly #following: Following
  readonly #connections: Connections
  readonly #endingOf: EndingOf
  readonly #parts: { close(): void }[] = []
  /** Of handshakes that have begun: the generation that was current then, by the address of the other side. */
  readonly #begun = new Map<string, IdentitySnapshot>()
  /** The last generations, newest first: for handshakes without such an address (pipes). */
  #recent: readonly IdentitySnapshot[]
  /** Of the generation in use. */
  #proof: Proof | null = null

  /** @param endingOf @default by the protocol of the server */
  constructor(server: Server, identity: Identity, options: SecureServerOptions, endingOf?: EndingOf) {
    if (typeof server?.setSecureContext !== 'function') {
      throw new TypeError('secureServer: expected a tls, https or http2 server with setSecureContext')
    }
    this.name = options.name ?? 'server'
    this.#server = server
    this.#proofTimeout = options.proofTimeout ?? DEFAULT_PROOF_TIMEOUT
    const count = new SocketCount({ type: this.type, name: this.name }, options.clock)
    this.#connections = new Connections(count, options, () => this.#following.current)
    const settings = settingsOf(server)
    setContext(server, settings, identity.current())
    this.#recent = [identity.current()]
    this.#endingOf = endingOf ?? this.#byProtocol()
    this.#following = new Following(identity, (next) => {
      setContext(server, settings, next)
      this.#proof = null
      this.#recent = [next, ...this.#recent].slice(0, RECENT)
      this.#connections.changed()
    })
    server.prependListener('connection', this.#onConnection)
    server.prependListener('secureConnection', this.#onSecure)
    this.#following.join(this)
  }

  async follow(next: IdentitySnapshot, signal: AbortSignal): Promise<string> {
    this.#following.adopt(next)
    const proof = this.#proof ?? (await this.#prove(next, signal))
    const { older } = this.#connections
    return `${proof.words}; ${older} older ${older === 1 ? 'connection' : 'connections'} open`
  }

  async #prove(next: IdentitySnapshot, signal: AbortSignal): Promise<Proof> {
    // Somebody else may move it while we dial.
    const unmoved = (): boolean => sameMaterial(this.#following.current, next)
    try {
      const proof = await proveServer(this.#server, next, this.#proofTimeout, signal)
      if (proof.proven && unmoved()) this.#proof = proof
      return proof
    } catch (cause) {
      if (unmoved()) this.#following.adopt(this.#following.before)
      throw cause
    }
  }

  usage(): Usage[] {
    return this.#connections.usage()
  }

  async close(): Promise<void> {
    this.#following.close()
    this.#connections.close()
    this.#server.off('connection', this.#onConnection)
    this.#server.off('secureConnection', this.#onSecure)
    for (const part of this.#parts.splice(0)) part.close()
    this.#begun.clear()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #byProtocol(): EndingOf {
    const isHttp2 = 'updateSettings' in this.#server
    if (!isHttp2 && !(this.#server instanceof HttpsServer)) return plainEnding
    const http1 = new Http1(this.#server)
    this.#parts.push(http1)
    if (!isHttp2) return (socket) => http1.ending(socket)
    const http2 = new Http2(this.#server)
    this.#parts.push(http2)
    return (socket) => (socket.alpnProtocol === 'h2' ? http2 : http1).ending(socket)
  }

  /** Node takes the context of a connection at this moment, whenever its handshake ends. */
  readonly #onConnection = (socket: Socket): void => {
    const from = peerOf(socket)
    if (from === null) return
    const made = this.#following.current
    this.#begun.set(from, made)
    socket.once('close', () => {
      if (this.#begun.get(from) === made) this.#begun.delete(from)
    })
  }

  readonly #onSecure = (socket: TLSSocket): void => {
    const from = peerOf(socket)
    const served = servedLeaf(socket)
    const begun = from === null ? undefined : this.#begun.get(from)
    if (from !== null) this.#begun.delete(from)
    const made = [...(begun === undefined ? this.#recent : [begun])].find(
      ({ leaf }) => leaf.sha256 === served,
    )
    // Another certificate is that of another context, by SNI: it does not stand on this identity.
    if (made === undefined || socket.destroyed) return
    const closed = this.#connections.add(made, this.#endingOf(socket, made))
    socket.once('close', closed)
  }
}

/** Handshakes that take longer than so many changes of the identity, on a pipe, are not counted. */
const RECENT = 16
const DEFAULT_PROOF_TIMEOUT: Duration = 3000

function setContext(server: Server, settings: ServerSettings, next: IdentitySnapshot): void {
  try {
    server.setSecureContext(serverTls(settings, next))
  } catch (cause) {
    throw RotorError.from(
      cause,
      'ERR_IDENTITY_INVALID',
      `generation ${next.generation}: refused by the server`,
    )
  }
}

/** Null on a pipe, and when the other side is gone. */
const peerOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string | null =>
  remoteAddress === undefined ? null : `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`

const servedLeaf = (socket: TLSSocket): string | undefined =>
  socket.getX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase()
