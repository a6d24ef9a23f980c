/**
 * A TCP proxy in front of nats-servers: what a network may do to a connection, at the moment that a test chooses.
 *
 * As it is, bytes pass unread. With `open` it ends TLS on both sides, as if it were the server, and sees the commands of
 * the clients, so that a test can name a step of a handoff by them.
 */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket, connect as tlsConnect } from 'node:tls'
import { freePorts } from '../../src/local/ports.ts'

interface Material {
  readonly key: string
  readonly cert: string
  readonly ca: string
}

export interface ProxyOptions {
  /** `host:port` to listen on. @default a free port of 127.0.0.1 */
  readonly listen?: string
  /** `host:port` of the servers. */
  readonly backends: readonly string[]
  readonly open?: {
    /** Shown to the clients. */
    readonly server: Material
    /** Shown to the servers, whatever the client showed. */
    readonly client: Material
  }
}

const COMMAND = /^(CONNECT|SUB|UNSUB|PING)\b/

/** One way of a link. */
export class Lane {
  #held: Buffer[] = []
  #waits: (chunk: Buffer) => boolean = () => false
  readonly #to: Duplex

  constructor(to: Duplex) {
    this.#to = to
  }

  /** Does anything wait? */
  get holds(): boolean {
    return this.#held.length > 0
  }

  stall(): void {
    this.keepBack(() => true)
  }

  /** What comes at once and is such waits, also while what came after it passes. */
  keepBack(waits: (chunk: Buffer) => boolean): void {
    this.#waits = waits
  }

  resume(): void {
    this.#waits = () => false
    for (const chunk of this.#held.splice(0)) this.pass(chunk)
  }

  pass(chunk: Buffer): void {
    if (this.#waits(chunk)) this.#held.push(chunk)
    else if (this.#to.writable) this.#to.write(chunk)
  }
}

/** One connection of a client, through the proxy. */
export class Link {
  /** Counts from 0, in the order of the dials. */
  readonly index: number
  /** From the client to the server, and back. */
  readonly up: Lane
  readonly down: Lane
  /** CONNECT, SUB, UNSUB and PING of the client, since `ServerProxy.calm`; only with `open`. */
  said: string[] = []
  readonly #ends: readonly Duplex[]

  constructor(index: number, client: Duplex, server: Duplex) {
    this.index = index
    this.up = new Lane(server)
    this.down = new Lane(client)
    this.#ends = [client, server]
  }

  get isOpen(): boolean {
    return this.#ends.every((end) => !end.destroyed)
  }

  stall(): void {
    this.up.stall()
    this.down.stall()
  }

  resume(): void {
    this.up.resume()
    this.down.resume()
  }

  cut(): void {
    for (const end of this.#ends) end.destroy()
  }
}

export class ServerProxy implements AsyncDisposable {
  readonly links: Link[] = []
  /** Called with each new link, before anything passes. */
  onLink: (link: Link) => void = () => {}
  /** Called with the commands that came at once, which are in `said` already, before they pass. */
  onCommands: (link: Link, commands: readonly string[]) => void = () => {}
  /** Which of the backends the next link goes to. */
  choose: (index: number) => number = () => 0
  readonly #options: ProxyOptions
  readonly #server: Server
  readonly #sockets = new Set<Duplex>()
  readonly address: string

  private constructor(options: ProxyOptions, address: string) {
    this.#options = options
    this.address = address
    this.#server = createServer((socket) => this.#accept(socket))
  }

  static async start(options: ProxyOptions): Promise<ServerProxy> {
    const address = options.listen ?? `127.0.0.1:${(await freePorts(1))[0]}`
    const proxy = new ServerProxy(options, address)
    const [host, port] = address.split(':')
    proxy.#server.listen(Number(port), host)
    await once(proxy.#server, 'listening')
    return proxy
  }

  get open(): readonly Link[] {
    return this.links.filter((link) => link.isOpen)
  }

  /** No disturbance any more; what was said is forgotten. */
  calm(): void {
    this.onLink = () => {}
    this.onCommands = () => {}
    for (const link of this.links) {
      link.said = []
      if (link.isOpen) link.resume()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #accept(client: Socket): void {
    const [host = '', port = ''] = (this.#options.backends[this.choose(this.links.length)] ?? '').split(':')
    const server = connect({ host, port: Number(port) })
    for (const socket of [client, server]) {
      socket.setNoDelay(true)
      this.#own(socket)
    }
    this.#tie(client, server)
    const { open } = this.#options
    if (open === undefined) {
      this.#link(client, server)
      return
    }
    // The greeting comes in the clear, then both sides shake hands.
    server.once('data', (info: Buffer) => {
      server.pause()
      client.write(info)
      const trust = { rejectUnauthorized: true, allowPartialTrustChain: true }
      const plainClient = new TLSSocket(client, {
        isServer: true,
        requestCert: true,
        ...trust,
        ...open.server,
      })
      const plainServer = tlsConnect({ socket: server, servername: 'localhost', ...trust, ...open.client })
      for (const socket of [plainClient, plainServer]) this.#own(socket)
      this.#tie(plainClient, plainServer)
      this.#link(plainClient, plainServer)
    })
  }

  #link(client: Duplex, server: Duplex): void {
    const link = new Link(this.links.length, client, server)
    this.links.push(link)
    this.onLink(link)
    let rest = ''
    client.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\r\n')
      rest = lines.pop() ?? ''
      const commands = lines.filter((line) => COMMAND.test(line))
      link.said.push(...commands)
      if (commands.length > 0) this.onCommands(link, commands)
      link.up.pass(chunk)
    })
    server.on('data', (chunk: Buffer) => link.down.pass(chunk))
  }

  #own(socket: Duplex): void {
    this.#sockets.add(socket)
    // a client that was refused, a server that was killed
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
  }

  /** They end together, at once. */
  #tie(one: Duplex, other: Duplex): void {
    one.once('close', () => other.destroy())
    other.once('close', () => one.destroy())
    // what was written before, goes out
    one.once('end', () => other.end())
    other.once('end', () => one.end())
  }
}
