/** Our own connections to NATS: always with the present identity, never given up, and clear about why there is none. */
import {
  type ConnectionOptions,
  connect,
  type NatsConnection,
  type ReconnectToServerHandler,
} from '@nats-io/transport-node'
import { RotorError } from '../errors.ts'
import type { Identity } from '../identity/identity.ts'
import { parseAddress } from '../probe/address.ts'
import { type Duration, sleep } from '../time.ts'
import { type Explanation, explain } from './explain.ts'
import { isDenied } from './failure.ts'
import { OpenedSockets } from './sockets.ts'
import { natsTls } from './tls.ts'

export { natsTls } from './tls.ts'

export interface ConnectWithOptions extends Omit<ConnectionOptions, 'servers' | 'port' | 'tls' | 'timeout'> {
  /** `host:port`, or with a scheme. */
  readonly servers: readonly string[]
  readonly identity: Identity
  /** Milliseconds to dial one server. @default 4000 */
  readonly timeout?: Duration | undefined
  /** TLS comes before INFO: the servers have `handshake_first`. @default false */
  readonly handshakeFirst?: boolean | undefined
  /** Any other TLS option of Node (`minVersion`, `servername`, ...). Key, certificate and trust are the identity's. */
  readonly tls?: object | undefined
  /** Gives up the first dial; a connection that is there is not touched. */
  readonly signal?: AbortSignal | undefined
}

/** The same servers, one of them (`host:port`) as the last choice. */
export function withLast(servers: readonly string[], last: string | undefined): string[] {
  const isLast = (server: string) => last !== undefined && server.replace(/^\w+:\/\//, '') === last
  return [...servers.filter((server) => !isLast(server)), ...servers.filter(isLast)]
}

/** Milliseconds of a dial after which we look ourselves why it takes so long. A usual one takes 20. */
const PATIENCE: Duration = 400
/** Milliseconds for each look. */
const LOOK: Duration = 2000

/**
 * A connection that uses the material that `identity` holds at each dial, stays with the given servers, and dials
 * for ever once it has been connected. Throws ERR_NATS_DENIED when a server refuses our certificate or user,
 * ERR_NATS_UNAVAILABLE for any other reason; the message names each server and its reason. Any other option of the
 * NATS client may be given and wins over our defaults.
 */
export async function connectWith(options: ConnectWithOptions): Promise<NatsConnection> {
  const { servers, identity, timeout = 4000, handshakeFirst = false, tls, signal, ...rest } = options
  if (servers.length === 0) throw new RotorError('ERR_CONFIG_INVALID', 'servers: expected at least one')
  for (const server of servers) parseAddress(server, 'servers', 4222)
  const attempt = new Attempt(rest.reconnectToServer)
  const stop = new AbortController()
  const stopped = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal])
  const look = () =>
    explain({ servers, identity, handshakeFirst, timeout: Math.min(LOOK, timeout), signal: stopped })
  try {
    if (signal?.aborted) throw signal.reason
    const dialled = attempt.dial({
      maxReconnectAttempts: -1,
      reconnectTimeWait: 500,
      // "-1" means it: two refusals in a row would end the connection otherwise (nats-core handleAuthError)
      ignoreAuthErrorAbort: true,
      ignoreClusterUpdates: true,
      noAsyncTraces: true,
      ...rest,
      servers: [...servers],
      timeout,
      tls: Object.assign(natsTls(identity, attempt.serversToName(servers)), tls, { handshakeFirst }),
      reconnectToServer: attempt.choose,
    })
    // who asks to wait for the first server waits
    if (rest.waitOnFirstConnect === true) return await Promise.race([dialled, givenUp(stopped)])
    return await Promise.race([dialled, hopeless(look, stopped)])
  } catch (error) {
    attempt.giveUp()
    if (signal?.aborted) throw RotorError.from(signal.reason, 'ERR_ABORTED', 'connect to NATS')
    if (RotorError.is(error)) throw error
    throw await failureOf(error, look, servers)
  } finally {
    attempt.end()
    stop.abort()
  }
}

/** Never resolves; rejects when the dial is still going on and no server would take us, and when `stopped` aborts. */
function hopeless(look: () => ReturnType<typeof explain>, stopped: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>()
  const watch = async () => {
    await sleep(PATIENCE, stopped)
    const found = await look()
    if (!found.reachable) reject(noConnection(found, found.text))
  }
  watch().catch(reject)
  return Promise.race([promise, givenUp(stopped)])
}

/** Never resolves; rejects when `stopped` aborts. */
function givenUp(stopped: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>()
  stopped.addEventListener('abort', () => reject(stopped.reason), { once: true })
  return promise
}

async function failureOf(
  error: unknown,
  look: () => ReturnType<typeof explain>,
  servers: readonly string[],
): Promise<RotorError> {
  const text = error instanceof Error ? error.message || error.name : String(error)
  if (isDenied(error)) return noConnection({ denied: true }, `${servers.join(', ')}: ${text}`, error)
  const found = await look()
  const said = found.said === null ? '' : `; ${found.said}`
  return noConnection(found, found.reachable ? `${servers.join(', ')}: ${text}${said}` : found.text, error)
}

const noConnection = (
  { denied, untrusted = false, reachable = false }: Pick<Explanation, 'denied'> & Partial<Explanation>,
  text: string,
  cause?: unknown,
): RotorError =>
  new RotorError(denied ? 'ERR_NATS_DENIED' : 'ERR_NATS_UNAVAILABLE', `no connection to NATS: ${text}`, {
    cause,
    details: { untrusted: untrusted && !reachable },
  })

/** One call of the client's `connect`, which by itself can not be stopped. */
class Attempt {
  readonly #sockets = new OpenedSockets()
  readonly #userChoice: ReconnectToServerHandler | undefined
  /** `host:port` of the dial that is under way. */
  #dialling: string | null = null
  #givenUp = false

  constructor(userChoice: ReconnectToServerHandler | undefined) {
    this.#userChoice = userChoice
  }

  async dial(options: ConnectionOptions): Promise<NatsConnection> {
    const nc = await this.#sockets.during(() => connect(options))
    if (this.#givenUp) await nc.close()
    return nc
  }

  /** Asked by the client before each dial, also of later reconnects. An error ends its loop. */
  readonly choose: ReconnectToServerHandler = (servers, info) => {
    if (this.#givenUp) throw new RotorError('ERR_ABORTED', 'the dial was given up')
    const choice = this.#userChoice === undefined ? null : this.#userChoice(servers, info)
    const chosen = choice === null ? servers[0] : 'server' in choice ? choice.server : choice
    this.#dialling = chosen?.listen ?? null
    return choice
  }

  /** Whose names a certificate may have: the configured servers, and the one of the cluster that is dialled now. */
  serversToName(configured: readonly string[]): () => readonly string[] {
    return () => (this.#dialling === null ? configured : [...configured, this.#dialling])
  }

  giveUp(): void {
    this.#givenUp = true
    this.#sockets.destroy()
  }

  end(): void {
    this.#sockets.release()
  }
}
