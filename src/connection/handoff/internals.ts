/**
 * The inside of a nats.js connection, as far as a handoff touches it: the same fields in nats-core 3.x and in
 * `nats` 2.29. They are no public interface, so nothing is touched before `protocolOf` has found all of them, and the
 * parser has been seen to tell frames apart. A client that looks different is moved by reconnecting (../quiesce.ts).
 */
import type { TLSSocket } from 'node:tls'

export interface ClientOptions {
  readonly [name: string]: unknown
  readonly tls?: unknown
  readonly authenticator?: unknown
  readonly noEcho?: boolean | undefined
  readonly name?: string | undefined
  readonly verbose?: boolean | undefined
  readonly pedantic?: boolean | undefined
}

export interface DialTarget {
  readonly hostname: string
  readonly port: number
  /** The name that the certificate must have; empty for the host itself. */
  readonly tlsName: string
}

/** A server of the client's list. */
export interface KnownServer extends DialTarget {
  /** `host:port` */
  readonly listen: string
}

export interface ClientTransport {
  readonly version: string
  readonly lang: string
  readonly isClosed: boolean
  readonly closeError?: Error | undefined
  readonly socket?: TLSSocket | undefined
  readonly tlsName: string
  connect(to: DialTarget, options: ClientOptions): Promise<void>
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array>
  isEncrypted(): boolean
  send(frame: Uint8Array): void
  close(error?: Error): Promise<void>
  disconnect(): void
  closed(): Promise<unknown>
  discard(): void
}

export interface ClientMessage {
  readonly subject: Uint8Array
  readonly reply?: Uint8Array | undefined
  readonly sid: number
  /** Length of the headers, -1 without. */
  readonly hdr: number
}

/** What the parser found. `msg` comes with messages only. */
export interface Frame {
  readonly kind: number
  readonly msg?: ClientMessage
  readonly data?: Uint8Array
}

export interface Dispatcher {
  push(frame: Frame): void
}

export interface ClientParser {
  dispatcher: Dispatcher
  parse(chunk: Uint8Array): void
}

export interface ClientSubscription {
  readonly sid: number
  readonly subject: string
  readonly queue?: string | undefined
  /** Ends by itself after so many messages. */
  readonly max?: number | undefined
  readonly received: number
  /** UNSUB was sent; it waits for what is under way. */
  readonly draining: boolean
}

export interface ServerInfo {
  readonly server_id: string
  readonly version: string
  readonly headers?: boolean
  readonly nonce?: string
}

export interface ClientProtocol extends Dispatcher {
  connected: boolean
  info?: ServerInfo | undefined
  transport: ClientTransport
  parser: ClientParser
  lastError?: Error | undefined
  readonly options: ClientOptions
  /** Who waits for a PONG, in the order of the PINGs. */
  readonly pongs: readonly unknown[]
  readonly closed: Promise<unknown>
  readonly subscriptions: {
    all(): readonly ClientSubscription[]
    get(sid: number): ClientSubscription | undefined
  }
  readonly features: { update(version: { major: number; minor: number; micro: number }): void }
  /** Where it is, and was told to go. Both hold the same. */
  server?: KnownServer | undefined
  readonly servers: {
    currentServer?: KnownServer | undefined
    getCurrentServer(): KnownServer
    getServers(): readonly KnownServer[]
  }
  isClosed(): boolean
  flushPending(): void
  processInfo(data: Uint8Array): void
  dispatchStatus(status: object): void
  disconnected(error?: Error): Promise<void>
}

/** Numbers of the kinds of frames in this copy of the client. */
export interface FrameKinds {
  readonly message: number
  readonly info: number
  readonly error: number
  readonly ping: number
  readonly pong: number
}

export interface Internals {
  readonly protocol: ClientProtocol
  readonly kinds: FrameKinds
}

/** What must be a function, and where. */
const METHODS: Readonly<Record<string, readonly string[]>> = {
  '': ['push', 'isClosed', 'flushPending', 'processInfo', 'dispatchStatus', 'disconnected'],
  transport: ['connect', 'send', 'close', 'disconnect', 'closed', 'discard', 'isEncrypted'],
  parser: ['parse'],
  subscriptions: ['all', 'get'],
  servers: ['getCurrentServer', 'getServers'],
  features: ['update'],
}

/** The inside of a connected nats.js connection, or null when it is none that we know. */
export function internalsOf(nc: unknown): Internals | null {
  const protocol = field(nc, 'protocol')
  for (const [part, methods] of Object.entries(METHODS)) {
    const owner = part === '' ? protocol : field(protocol, part)
    if (!methods.every((method) => typeof field(owner, method) === 'function')) return null
  }
  if (!Array.isArray(field(protocol, 'pongs')) || field(field(protocol, 'parser'), 'dispatcher') !== protocol)
    return null
  // Every member that is used was just looked at; the types of their arguments are what nats.js documents in its code.
  const known = protocol as ClientProtocol
  const kinds = learnKinds(known.parser)
  return kinds === null ? null : { protocol: known, kinds }
}

const field = (owner: unknown, name: string): unknown =>
  (typeof owner === 'object' && owner !== null) || typeof owner === 'function'
    ? Reflect.get(owner, name)
    : undefined

/** A parser of the same copy of the client, at the start of a stream. */
export function newParser(like: ClientParser, dispatcher: Dispatcher): ClientParser {
  return Reflect.construct(like.constructor, [dispatcher])
}

/** A transport of the same copy of the client, not yet connected. */
export function newTransport(like: ClientTransport): ClientTransport {
  return Reflect.construct(like.constructor, [])
}

/** Ends it without a word to the client. `nats` 2.29 leaves the socket of a transport that it discards open. */
export function discard(transport: ClientTransport): void {
  const { socket } = transport
  transport.discard()
  if (socket === undefined || socket.destroyed) return
  socket.removeAllListeners()
  socket.on('error', () => {})
  socket.destroy()
}

const learned = new WeakMap<object, FrameKinds>()
const SAMPLE = 'MSG a 1 1\r\nx\r\nPING\r\nPONG\r\n-ERR e\r\nINFO {}\r\n'

/** Parses one frame of each kind, to see what this copy calls them; null when it does not do so as expected. */
function learnKinds(parser: ClientParser): FrameKinds | null {
  const known = learned.get(parser.constructor)
  if (known !== undefined) return known
  const frames: Frame[] = []
  try {
    newParser(parser, { push: (frame) => void frames.push(frame) }).parse(Buffer.from(SAMPLE))
  } catch {
    return null
  }
  const [message, ping, pong, error, info] = frames
  if (frames.length !== 5 || !message || !ping || !pong || !error || !info) return null
  if (message.msg?.sid !== 1 || message.data?.length !== 1 || error.data === undefined) return null
  const kinds: FrameKinds = {
    message: message.kind,
    ping: ping.kind,
    pong: pong.kind,
    error: error.kind,
    info: info.kind,
  }
  if (new Set(Object.values(kinds)).size !== 5) return null
  learned.set(parser.constructor, kinds)
  return kinds
}
