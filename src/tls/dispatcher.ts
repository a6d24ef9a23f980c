/** `nats-rotor/undici`: a Dispatcher for undici that follows an identity. */
import type { EventEmitter } from 'node:events'
import type { ConnectionOptions } from 'node:tls'
import { Agent, buildConnector, Dispatcher } from 'undici'
import type { Identity, IdentitySnapshot } from '../identity/identity.ts'
import { type Follower, SocketCount, type Usage } from '../identity/usage.ts'
import { Connections } from './connections.ts'
import { clientTls } from './contexts.ts'
import { Following, type FollowingHandle, shortLeaf } from './following.ts'
import type { ClientOptions } from './https-agent.ts'

export interface DispatcherOptions extends ClientOptions {
  /** For undici's Agent; what concerns its connections belongs into `connect`. */
  readonly agent?: AgentOptions | undefined
  /** For its connections: timeout, names, and so on. */
  readonly connect?: ConnectOptions | undefined
}

type AgentOptions = Omit<
  Agent.Options,
  'autoSelectFamily' | 'connect' | 'connectTimeout' | 'factory' | 'maxCachedSessions' | 'socketPath'
>
type ConnectOptions = Omit<ConnectionOptions, 'ca' | 'cert' | 'key' | 'pfx' | 'session'> &
  Pick<buildConnector.BuildOptions, 'maxCachedSessions' | 'socketPath' | 'timeout'>

/** A Dispatcher; `close()` leaves the identity and resolves when all requests have ended. */
export type FollowingDispatcher = Dispatcher & FollowingHandle & { readonly type: 'client' }

/**
 * `fetch(url, { dispatcher })`, `request(url, { dispatcher })`, `setGlobalDispatcher(dispatcher)`. After a change new
 * requests use new connections, made with the newest material; older ones are closed when their requests have ended.
 */
export function dispatcher(identity: Identity, options: DispatcherOptions = {}): FollowingDispatcher {
  return new SwappingDispatcher(new Agents(identity, options))
}

const EVENTS = ['connect', 'disconnect', 'connectionError', 'drain'] as const

/** The agent of this generation, and those of older ones whose requests have not ended. */
class Agents implements Pick<Follower, 'type' | 'name'> {
  readonly type = 'client'
  readonly name: string
  readonly following: Following
  readonly connections: Connections
  readonly #options: DispatcherOptions
  readonly #ending = new Map<Agent, Promise<void>>()
  /** Told of what the agents tell. */
  readonly #events: Dispatcher[] = []
  #connector: buildConnector.connector
  #agent: Agent

  constructor(identity: Identity, options: DispatcherOptions) {
    this.name = options.name ?? 'undici'
    this.#options = options
    const count = new SocketCount({ type: this.type, name: this.name }, options.clock)
    // They end by themselves after their request.
    const policy = { maxAge: options.maxAge, grace: 0 }
    this.connections = new Connections(count, policy, () => this.following.current)
    this.#connector = this.#makeConnector(identity.current())
    this.#agent = this.#makeAgent()
    this.following = new Following(identity, (next) => this.#use(next))
  }

  /** Called once, before anything is dispatched. */
  tell(dispatcher: Dispatcher): void {
    this.#events.push(dispatcher)
  }

  get current(): Agent {
    return this.#agent
  }

  async close(): Promise<void> {
    this.following.close()
    this.#end(this.#agent)
    await Promise.all(this.#ending.values())
    this.connections.close()
  }

  async destroy(error: Error | null): Promise<void> {
    this.following.close()
    this.connections.close()
    await Promise.all([this.#agent, ...this.#ending.keys()].map((agent) => agent.destroy(error)))
  }

  #use(next: IdentitySnapshot): void {
    this.#connector = this.#makeConnector(next)
    this.connections.changed()
    const last = this.#agent
    this.#agent = this.#makeAgent()
    this.#end(last)
  }

  /** Each has sessions of its own: none of an older generation is resumed. */
  #makeConnector(next: IdentitySnapshot): buildConnector.connector {
    const { agent, connect } = this.#options
    const http2 = agent?.allowH2 === undefined ? {} : { allowH2: agent.allowH2 }
    return buildConnector({ ...connect, ...http2, ...clientTls(next) } as buildConnector.BuildOptions)
  }

  #makeAgent(): Agent {
    const agent = new Agent({
      ...this.#options.agent,
      connect: (options, done) => this.#connect(options, done),
    })
    for (const event of EVENTS) {
      // The events differ in what they tell; here they are only passed on.
      agent.on(event as 'drain', (...told: unknown[]) => {
        for (const dispatcher of this.#events) (dispatcher as EventEmitter).emit(event, ...told)
      })
    }
    return agent
  }

  /** Also for an older agent: requests that wait there for a connection get one of the newest generation. */
  #connect(options: buildConnector.Options, done: buildConnector.Callback): void {
    const made = this.following.current
    this.#connector(options, (...[error, socket]: Parameters<buildConnector.Callback>) => {
      if (error !== null) return done(error, null)
      const destroy = (): void => {
        socket.destroy()
      }
      socket.once('close', this.connections.add(made, { gently: () => {}, destroy }))
      done(null, socket)
    })
  }

  #end(agent: Agent): void {
    const ended = agent
      .close()
      // closed already, or destroyed in between
      .catch(() => {})
      .finally(() => this.#ending.delete(agent))
    this.#ending.set(agent, ended)
  }
}

/** All state is in `agents`: `compose` calls these methods through a proxy, which has no private fields. */
class SwappingDispatcher extends Dispatcher implements FollowingHandle {
  readonly type = 'client'
  readonly name: string
  private readonly agents: Agents

  constructor(agents: Agents) {
    super()
    this.name = agents.name
    this.agents = agents
    agents.tell(this)
    agents.following.join(this)
  }

  override dispatch(options: Agent.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.agents.current.dispatch(options, handler)
  }

  async follow(next: IdentitySnapshot): Promise<string> {
    const { following, connections } = this.agents
    following.adopt(next)
    return `leaf ${shortLeaf(next)} for new connections; ${connections.older} older in use until their requests end`
  }

  usage(): Usage[] {
    return this.agents.connections.usage()
  }

  override close(callback: () => void): void
  override close(): Promise<void>
  override close(callback?: () => void): Promise<void> {
    return settled(this.agents.close(), callback)
  }

  override destroy(error: Error | null, callback: () => void): void
  override destroy(callback: () => void): void
  override destroy(error?: Error | null): Promise<void>
  override destroy(error?: Error | null | (() => void), callback?: () => void): Promise<void> {
    const [reason, done] = typeof error === 'function' ? [null, error] : [error ?? null, callback]
    return settled(this.agents.destroy(reason), done)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

function settled(work: Promise<void>, callback: (() => void) | undefined): Promise<void> {
  return callback === undefined ? work : work.then(callback)
}
