/** A service on a connection that can be handed over, through a proxy, with a little traffic and its events. */
import { dirname } from 'node:path'
import type { NatsConnection } from '@nats-io/transport-node'
import { connect, type RotorConnectionOptions } from '../../src/connection/connect.ts'
import type { HandoffEvent } from '../../src/connection/following.ts'
import { RotorError } from '../../src/errors.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import type { Follower } from '../../src/identity/usage.ts'
import { findNatsServer, type NatsServerRelease, startNatsServer } from '../../src/local/nats-server.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { ServerProxy } from './proxy.ts'
import { type Generations, makeGenerations } from './tls-generations.ts'
import { startTlsServer, type TlsServer } from './tls-server.ts'

export interface MovingServer extends AsyncDisposable {
  readonly server: TlsServer
  readonly generations: Generations
  /** On two authorities that the server trusts, as it is by all of them. */
  readonly first: IdentitySnapshot
  readonly second: IdentitySnapshot
  /** Ends TLS itself, so that it knows the steps; the server sees `first` as its client. */
  readonly proxy: ServerProxy
  /** Looks at nothing. */
  readonly wire: ServerProxy
  /** SIGKILL; returns when it has ended. */
  kill(): Promise<void>
  /** The same server again, after `kill`. */
  restart(): Promise<void>
  /** A connection of its own, without a proxy. Closed with the server. */
  peer(options?: Partial<RotorConnectionOptions>): Promise<NatsConnection>
}

export async function startMovingServer(
  release: NatsServerRelease = 'nats-server',
  config = '',
): Promise<MovingServer> {
  await using cleanup = new AsyncDisposableStack()
  const generations = await makeGenerations()
  const { domain, older, newer } = generations
  const leaf = await domain.leaf({ name: 'server' })
  const server = cleanup.use(
    await startTlsServer({
      release,
      leaf,
      trusted: domain.authorities.map(({ certificate }) => certificate),
      config,
      // it waits for our TLS longer than we wait for its
      tls: { client: 'timeout: 60' },
    }),
  )
  const first = await generations.make(older, [older, newer])
  const second = await generations.make(newer, [older, newer])
  const backends = [server.address('client')]
  const { ca } = first
  const open = {
    server: { key: leaf.keyPem, cert: leaf.chainPem, ca },
    client: { key: first.key, cert: first.certificate, ca },
  }
  const proxy = cleanup.use(await ServerProxy.start({ backends, open }))
  const wire = cleanup.use(await ServerProxy.start({ backends }))
  let running = server.process
  const owned = cleanup.move()
  return {
    server,
    generations,
    first,
    second,
    proxy,
    wire,
    async kill() {
      running.kill('SIGKILL')
      await running.exited
    },
    async restart() {
      const cwd = dirname(server.configFile)
      const binary = findNatsServer(release)
      running = owned.use(await startNatsServer({ name: 'again', cwd, configFile: 'server.conf', binary }))
    },
    peer: async (options = {}) => {
      const { servers: _, identity = new HeldIdentity(first), signal: __, ...rest } = options
      const nc = await connectWith({ ...rest, servers: backends, identity })
      owned.defer(() => nc.close())
      return nc
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

export interface Service extends AsyncDisposable {
  readonly nc: NatsConnection
  readonly identity: HeldIdentity
  readonly follower: Follower
  /** All so far, oldest first. */
  readonly events: readonly HandoffEvent[]
  /** Sets the material, moves, and returns the event about it, whether it went well or not; `code` of what was thrown. */
  move(next: IdentitySnapshot): Promise<HandoffEvent & { readonly code?: string }>
}

/** Milliseconds for each answer in a handoff: one that comes is waited for, whatever else the machine does. */
const TIMEOUT = 10_000
/** Options of a service that waits until no answer came. */
export const IMPATIENT = { handoff: { timeout: 1500 } }

/** It moves when it is told to, not by itself, unless `options.handoff` says otherwise. */
export async function startService(
  proxy: ServerProxy,
  first: IdentitySnapshot,
  options: Partial<RotorConnectionOptions> = {},
): Promise<Service> {
  proxy.calm()
  const identity = new HeldIdentity(first)
  const nc = await connect({
    servers: proxy.address,
    ignoreClusterUpdates: true,
    reconnectTimeWait: 50,
    reconnectJitter: 0,
    reconnectJitterTLS: 0,
    name: 'service',
    ...options,
    identity,
    handoff: { spread: 3_600_000, timeout: TIMEOUT, ...options.handoff },
  })
  const events: HandoffEvent[] = []
  const watching = (async () => {
    for await (const status of nc.status() as AsyncIterable<{ type: string }>) {
      if (status.type === 'rotor') events.push(status as HandoffEvent)
    }
  })()
  const [follower] = identity.followers()
  if (follower === undefined) throw new TypeError('the connection does not follow its identity')
  return {
    nc,
    identity,
    follower,
    events,
    async move(next) {
      const before = events.length
      identity.set(next)
      const failure = await follower.follow(next, AbortSignal.timeout(30_000)).then(
        () => null,
        (error: unknown) => error,
      )
      // the status comes by way of an iterator
      await new Promise(setImmediate)
      const event = events[before]
      if (event === undefined) throw new Error('no event came', { cause: failure })
      if (event.ok !== (failure === null))
        throw new Error('the event and the outcome differ', { cause: failure })
      if (failure === null) return event
      const codes: readonly string[] = ['ERR_HANDOFF_FAILED', 'ERR_NATS_UNAVAILABLE']
      if (!RotorError.is(failure) || !codes.includes(failure.code)) throw failure
      return { ...event, code: failure.code }
    },
    async [Symbol.asyncDispose]() {
      await nc.close()
      await watching
    },
  }
}
