/** An HTTP proxy in front of OpenBao: a test may act at the moment of a call, and make answers slow. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Duration, sleep } from '../../src/time.ts'

export class EngineProxy implements AsyncDisposable {
  /** `POST /v1/pki/root/sign-intermediate`, in the order they came. */
  readonly calls: string[] = []
  /** Awaited with each call before it goes on to the engine. */
  onCall: (call: string) => Promise<void> | void = () => {}
  /** How long every answer is held back, milliseconds. */
  delay: Duration = 0
  readonly #target: string
  readonly #server: Server
  readonly #end = new AbortController()

  private constructor(target: string) {
    this.#target = target
    this.#server = createServer((incoming, outgoing) => {
      this.#pass(incoming, outgoing).catch(() => outgoing.destroy())
    })
  }

  static async start(target: string): Promise<EngineProxy> {
    const proxy = new EngineProxy(target)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort()
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  /** A failure on either side ends the connection, as a network would. */
  async #pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = incoming
    const chunks = await incoming.toArray()
    const call = `${method} ${url}`
    this.calls.push(call)
    await this.onCall(call)
    const onward = request(new URL(url, this.#target), { method, headers, agent: false })
    onward.end(Buffer.concat(chunks))
    const [answer] = (await once(onward, 'response')) as [IncomingMessage]
    const body = Buffer.concat(await answer.toArray())
    await sleep(this.delay, this.#end.signal)
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
    outgoing.end(body)
  }
}
