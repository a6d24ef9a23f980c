/** The connection of a service: an ordinary one of nats.js, that moves to a new certificate without a gap. */
import type { ConnectionOptions, NatsConnection, TlsOptions } from '@nats-io/transport-node'
import { RotorError } from '../errors.ts'
import type { Identity } from '../identity/identity.ts'
import type { Follower } from '../identity/usage.ts'
import { connectWith, natsTls } from '../nats/connect.ts'
import { FollowingConnection, type FollowOptions } from './following.ts'
import type { NatsClient } from './quiesce.ts'

export interface RotorConnectionOptions extends Omit<ConnectionOptions, 'servers' | 'port' | 'tls'> {
  /** `host:port`, with or without `tls://`. @default 127.0.0.1:4222 */
  readonly servers?: string | readonly string[]
  readonly port?: number
  /** Where key, certificate and trust come from, now and after each rotation. */
  readonly identity: Identity
  /** `handshakeFirst` and any TLS option of Node, but key, certificate and trust. */
  readonly tls?: Omit<TlsOptions, keyof typeof OURS>
  readonly handoff?: FollowOptions
  /** Gives up the first dial; a connection that is there is not touched. */
  readonly signal?: AbortSignal
}

/** Options of the client that would be a second source of what the identity holds. */
const OURS = { key: 0, cert: 0, ca: 0, keyFile: 0, certFile: 0, caFile: 0, pfx: 0, secureContext: 0 }

/**
 * As `connect` of `@nats-io/transport-node`, with every option of it. What is different unless it is said otherwise:
 * it is tried for ever to reconnect (nats.js: ten times), also after two refusals in a row, every half second (2 s),
 * a dial takes 4 s at most (20 s), and a server that is dialled by IP address is looked for by that in its certificate.
 *
 * Throws ERR_NATS_DENIED when a server refuses our certificate or user, ERR_NATS_UNAVAILABLE for any other reason,
 * ERR_CONFIG_INVALID for options that do not go together.
 */
export async function connect(options: RotorConnectionOptions): Promise<NatsConnection> {
  const { servers, port, identity, tls = {}, handoff, ...rest } = options
  if (servers !== undefined && port !== undefined)
    throw new RotorError('ERR_CONFIG_INVALID', 'servers, port: expected one of the two, found both')
  const twice = Object.entries(tls).find(([option, value]) => option in OURS && value !== undefined)?.[0]
  if (twice !== undefined)
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      `tls.${twice}: expected nothing, as it comes from the identity`,
    )
  const handshakeFirst = tls.handshakeFirst === true
  const nc = await connectWith({
    ignoreClusterUpdates: false,
    ...rest,
    servers: typeof servers === 'string' ? [servers] : (servers ?? [`127.0.0.1:${port ?? 4222}`]),
    identity,
    handshakeFirst,
    tls: foreign(tls),
  })
  following.set(nc, new FollowingConnection(nc, identity, handoff))
  return nc
}

const following = new WeakMap<object, FollowingConnection>()

/**
 * The same for a connection that the service made itself, with `@nats-io/transport-node` 3.x or `nats` 2.29: from here
 * on it dials with the identity, and moves with it. A connection that stands on another certificate is moved at once.
 * Throws ERR_HANDOFF_FAILED when it can not be; then it is left as it was.
 */
export async function adopt(
  nc: NatsClient,
  identity: Identity,
  options: FollowOptions & { readonly signal?: AbortSignal } = {},
): Promise<Follower> {
  const known = following.get(nc)
  if (known !== undefined) return known
  const { signal = new AbortController().signal, ...rest } = options
  const settings = settingsOf(nc)
  if (nc.isClosed() || nc.isDraining())
    throw new RotorError(
      'ERR_HANDOFF_FAILED',
      'expected an open connection, found one that is closed or draining',
    )
  const before = settings.tls
  const servers = [settings.servers ?? []].flat()
  settings.tls = Object.assign(natsTls(identity, servers), foreign(Object(before)))
  const follower = new FollowingConnection(nc, identity, rest)
  following.set(nc, follower)
  try {
    await follower.follow(identity.current(), signal)
    return follower
  } catch (cause) {
    settings.tls = before
    follower.leave()
    following.delete(nc)
    throw cause
  }
}

const METHODS = ['closed', 'isClosed', 'isDraining', 'flush', 'reconnect', 'publish', 'status']

/** The options that the client asks at each dial (nats-facts 5.1). */
function settingsOf(nc: object): { tls?: unknown; servers?: string | string[] } {
  const options: unknown = Reflect.get(nc, 'options')
  const isClient = METHODS.every((method) => typeof Reflect.get(nc, method) === 'function')
  if (isClient && typeof options === 'object' && options !== null) return options
  throw new RotorError(
    'ERR_HANDOFF_FAILED',
    'expected a connection of @nats-io/transport-node 3.x or nats 2.29, found another object',
  )
}

const foreign = (tls: object): object =>
  Object.fromEntries(Object.entries(tls).filter(([name]) => !(name in OURS)))
