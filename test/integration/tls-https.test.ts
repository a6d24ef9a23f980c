/** HTTPS and HTTP/2 servers that follow an identity: what happens to requests and streams under way. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect as connectHttp2, createSecureServer } from 'node:http2'
import { Agent, createServer as createHttps, get, request as httpsRequest } from 'node:https'
import { after, before, describe, test } from 'node:test'
import type { Server, TLSSocket } from 'node:tls'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { clientTls } from '../../src/tls/contexts.ts'
import { secureServer } from '../../src/tls/secure-server.ts'
import { eventually } from '../support/eventually.ts'
import {
  dialled,
  held,
  leafOf,
  listening,
  makeGenerations,
  portOf,
  rotationOf,
} from '../support/tls-generations.ts'

const never = new AbortController().signal

describe('an HTTPS server that follows an identity', { timeout: 60_000 }, () => {
  let steps: IdentitySnapshot[]
  const opened: Server[] = []

  before(async () => {
    steps = await rotationOf(await makeGenerations())
  })

  after(() => {
    for (const server of opened) server.close()
  })

  const step = (index: number): IdentitySnapshot => {
    const found = steps[index]
    assert.ok(found)
    return found
  }

  interface Waiting {
    readonly request: IncomingMessage
    readonly response: ServerResponse
  }

  async function https(options: object) {
    const waiting: Waiting[] = []
    const server = createHttps({ requestCert: true }, (request, response) => {
      if (request.url === '/wait') waiting.push({ request, response })
      else response.end('ok')
    })
    opened.push(server)
    const identity = held(step(0))
    const following = secureServer(server, identity, options)
    await listening(server)
    const agent = new Agent({ keepAlive: true, ...clientTls(step(1)) })
    const ask = async (path: string): Promise<{ socket: TLSSocket; connection: string | undefined }> => {
      const request = get({ host: '127.0.0.1', port: portOf(server), path, agent })
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      const { socket } = response
      response.resume()
      await once(response, 'end')
      return { socket: socket as TLSSocket, connection: response.headers.connection }
    }
    const stop = async () => {
      agent.destroy()
      await following.close()
      server.close()
    }
    return { server, identity, following, ask, waiting, [Symbol.asyncDispose]: stop }
  }

  test('keeps idle connections unless asked to close them', async () => {
    await using story = await https({})
    const { socket } = await story.ask('/')
    story.identity.set(step(2))
    const again = await story.ask('/')
    assert.equal(again.socket, socket)
    assert.equal(again.connection, 'keep-alive')
    assert.deepEqual(
      story.following.usage().map(({ leaf }) => leaf),
      [step(0).leaf.sha256],
    )
  })

  test('closes idle ones when asked, and busy ones with their next answer', async () => {
    await using story = await https({ closeIdle: 50 })
    const idle = await story.ask('/')
    const busy = story.ask('/wait')
    await eventually(() => story.waiting.length === 1)
    story.identity.set(step(2))
    // the idle one took the request that waits, so ask once more for another connection
    const young = await story.ask('/')
    assert.equal(leafOf(young.socket), step(2).leaf.sha256)
    story.waiting[0]?.response.end('at last')
    assert.equal((await busy).connection, 'close')
    assert.equal((await busy).socket, idle.socket)
    await eventually(() => story.following.usage().every(({ leaf }) => leaf === step(2).leaf.sha256))
    assert.equal(young.socket.destroyed, false)
  })

  test('closes a connection that was idle at the change', async () => {
    await using story = await https({ closeIdle: 0 })
    const { socket } = await story.ask('/')
    const closed = once(socket, 'close')
    story.identity.set(step(2))
    await closed
    await eventually(() => story.following.usage().length === 0)
  })

  test('counts a request that asks before it sends its body as under way', async () => {
    await using story = await https({ closeIdle: 0 })
    story.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      response.writeContinue()
      story.waiting.push({ request, response })
    })
    const sent = httpsRequest({
      host: '127.0.0.1',
      port: portOf(story.server),
      method: 'POST',
      headers: { expect: '100-continue' },
      agent: false,
      ...clientTls(step(1)),
    })
    sent.flushHeaders()
    await once(sent, 'continue')
    story.identity.set(step(2))
    sent.end('body')
    const waiting = story.waiting[0]
    assert.ok(waiting)
    await once(waiting.request.resume(), 'end')
    waiting.response.end('ok')
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    assert.equal(response.headers.connection, 'close')
    await once(response.resume(), 'end')
  })

  test('an upgraded connection is not idle, but ages', async () => {
    await using story = await https({ closeIdle: 0, maxAge: 100, grace: 50 })
    story.server.on('upgrade', (_, socket) => {
      socket.on('error', () => {})
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.pipe(socket)
    })
    const client = await dialled(portOf(story.server), step(1))
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    await once(client, 'data')
    const closed = once(client, 'close')
    story.identity.set(step(2))
    client.write('still here')
    assert.equal(String((await once(client, 'data'))[0]), 'still here')
    await closed
  })

  test('HTTP/2 sessions of an older generation get a GOAWAY and finish their streams', async () => {
    const server = createSecureServer({ requestCert: true })
    opened.push(server)
    const waiting: (() => void)[] = []
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 })
      stream.write('begun')
      waiting.push(() => stream.end('done'))
    })
    const identity = held(step(0))
    await using following = secureServer(server, identity, { closeIdle: 0 })
    const port = await listening(server)
    const dial = () => {
      const session = connectHttp2(`https://127.0.0.1:${port}`, {
        ...clientTls(step(1)),
        servername: 'localhost',
      })
      session.on('error', () => {})
      return session
    }
    const [busy, idle] = [dial(), dial()]
    await Promise.all([once(busy, 'connect'), once(idle, 'connect')])
    const request = busy.request({ ':path': '/' }).setEncoding('utf8')
    let text = ''
    request.on('data', (part: string) => {
      text += part
    })
    await once(request, 'data')
    assert.match(await following.follow(step(0), never), /served/)
    identity.set(step(2))
    await once(idle, 'close')
    assert.equal(text, 'begun')
    assert.equal(busy.destroyed, false)
    waiting[0]?.()
    await Promise.all([once(request, 'end'), once(busy, 'close')])
    assert.equal(text, 'begundone')
    await eventually(() => following.usage().length === 0)
    const young = dial()
    await once(young, 'connect')
    assert.equal(leafOf(young.socket as TLSSocket), step(2).leaf.sha256)
    young.close()
  })
})
