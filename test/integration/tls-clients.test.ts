/** HTTPS clients that follow an identity: which certificate they show, whom they trust, what happens to old sockets. */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { createServer, get, type Server } from 'node:https'
import { after, afterEach, before, describe, test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { Dispatcher1Wrapper, request, fetch as undiciFetch } from 'undici'
import type { HeldIdentity, IdentitySnapshot } from '../../src/identity/identity.ts'
import { dispatcher } from '../../src/tls/dispatcher.ts'
import { httpsAgent } from '../../src/tls/https-agent.ts'
import { secureServer } from '../../src/tls/secure-server.ts'
import { eventually } from '../support/eventually.ts'
import { held, listening, makeGenerations, portOf, rotationOf } from '../support/tls-generations.ts'

const never = new AbortController().signal

/** One request: its answer, or the reason why there is none. */
type Ask = (path: string) => Promise<string>

interface Client extends AsyncDisposable {
  readonly ask: Ask
  readonly follower: ReturnType<typeof httpsAgent> | ReturnType<typeof dispatcher>
}

interface Options {
  readonly maxAge?: number
  /** Connections at once. */
  readonly connections?: number
}

type Make = (identity: HeldIdentity, url: () => string, options?: Options) => Client

const byAgent: Make = (identity, url, options = {}) => {
  const agent = httpsAgent(identity, { maxAge: options.maxAge, maxSockets: options.connections ?? 10 })
  const ask: Ask = (path) =>
    new Promise((resolve, reject) => {
      get(new URL(path, url()), { agent }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (part: string) => {
          text += part
        })
        response.on('error', reject)
        response.on('end', () => resolve(text))
      }).on('error', reject)
    })
  return { ask, follower: agent, [Symbol.asyncDispose]: () => agent.close() }
}

const byDispatcher =
  (http2: boolean, send: (url: URL, using: ReturnType<typeof dispatcher>) => Promise<string>): Make =>
  (identity, url, { maxAge, connections = 10 } = {}) => {
    const using = dispatcher(identity, { maxAge, agent: { allowH2: http2, connections } })
    const ask: Ask = (path) => send(new URL(path, url()), using)
    return { ask, follower: using, [Symbol.asyncDispose]: () => using.destroy() }
  }

const KINDS: Readonly<Record<string, Make>> = {
  'an https.Agent': byAgent,
  'a dispatcher of undici': byDispatcher(false, async (url, using) =>
    (await request(url, { dispatcher: using })).body.text(),
  ),
  "a dispatcher in undici's fetch": byDispatcher(true, async (url, using) =>
    (await undiciFetch(url, { dispatcher: using })).text(),
  ),
}

for (const [kind, make] of Object.entries(KINDS)) {
  describe(`${kind} that follows an identity`, { timeout: 60_000 }, () => {
    let steps: IdentitySnapshot[]
    let server: Server
    let serverIdentity: HeldIdentity
    const waiting: ServerResponse[] = []
    const sockets = new Set<TLSSocket>()

    before(async () => {
      steps = await rotationOf(await makeGenerations())
      server = createServer({ requestCert: true }, (request, response) => {
        if (request.url === '/wait') {
          response.write('begun ')
          waiting.push(response)
        } else response.end(clientOf(request.socket as TLSSocket))
      })
      server.on('secureConnection', (socket) => {
        sockets.add(socket)
        socket.once('close', () => sockets.delete(socket))
      })
      serverIdentity = held(step(1))
      secureServer(server, serverIdentity)
      await listening(server)
    })

    afterEach(async () => {
      await eventually(() => sockets.size === 0)
      waiting.length = 0
      serverIdentity.set(step(1))
    })

    after(() => server.close())

    const step = (index: number): IdentitySnapshot => {
      const found = steps[index]
      assert.ok(found)
      return found
    }
    const clientOf = (socket: TLSSocket): string =>
      (socket.getPeerX509Certificate()?.fingerprint256 ?? '').replaceAll(':', '').toLowerCase()
    const url = (): string => `https://localhost:${portOf(server)}`

    test('shows the newest leaf, and keeps a connection while nothing changes', async () => {
      const identity = held(step(1))
      await using client = make(identity, url)
      assert.equal(await client.ask('/'), step(1).leaf.sha256)
      const [socket] = sockets
      assert.ok(socket)
      for (let i = 0; i < 5; i++) assert.equal(await client.ask('/'), step(1).leaf.sha256)
      // undici may open a second one
      assert.ok(sockets.has(socket) && sockets.size <= 2)
      identity.set(step(2))
      assert.equal(await client.ask('/'), step(2).leaf.sha256)
      await eventually(() => !sockets.has(socket))
      await eventually(() => leaves(client).every(([leaf]) => leaf === step(2).leaf.sha256))
      assert.match(await client.follower.follow(step(1), never), /for new connections; \d older in use/)
      assert.equal(await client.ask('/'), step(1).leaf.sha256)
    })

    test('trusts only the authorities of the newest trust file', async () => {
      const identity = held(step(1))
      await using client = make(identity, url)
      // the server still has a leaf of the older authority
      assert.equal(await client.ask('/'), step(1).leaf.sha256)
      identity.set(step(3))
      await assert.rejects(client.ask('/'))
      serverIdentity.set(step(2))
      assert.equal(await client.ask('/'), step(3).leaf.sha256)
    })

    test('lets a request that is under way finish on its old socket, and does not use that again', async () => {
      const identity = held(step(1))
      await using client = make(identity, url)
      const slow = client.ask('/wait')
      await eventually(() => waiting.length === 1)
      assert.deepEqual(leaves(client), [[step(1).leaf.sha256, 1]])
      identity.set(step(2))
      assert.equal(await client.ask('/'), step(2).leaf.sha256)
      assert.deepEqual(leaves(client), [
        [step(1).leaf.sha256, 1],
        [step(2).leaf.sha256, 1],
      ])
      assert.deepEqual(identity.usage(), client.follower.usage())
      assert.match(await client.follower.follow(step(2), never), /1 older in use/)
      waiting[0]?.end('done')
      assert.equal(await slow, 'begun done')
      await eventually(() => leaves(client).length === 1)
      assert.deepEqual(leaves(client), [[step(2).leaf.sha256, 1]])
    })

    test('loses no request that waits for a connection', async () => {
      const identity = held(step(1))
      await using client = make(identity, url, { connections: 1 })
      const slow = client.ask('/wait')
      await eventually(() => waiting.length === 1)
      const queued = [client.ask('/'), client.ask('/')]
      identity.set(step(2))
      waiting[0]?.end('done')
      assert.equal(await slow, 'begun done')
      const leavesShown = await Promise.all(queued)
      // undici has given them to the connection that is in use
      const expected = client.follower.name === 'undici' ? step(1) : step(2)
      assert.deepEqual(leavesShown, [expected.leaf.sha256, expected.leaf.sha256])
    })

    test('cuts requests of an older generation at the age that was asked for', async () => {
      const identity = held(step(1))
      await using client = make(identity, url, { maxAge: 50 })
      const slow = client.ask('/wait')
      await eventually(() => waiting.length === 1)
      identity.set(step(2))
      await assert.rejects(slow)
      await eventually(() => client.follower.usage().length === 0)
    })

    test('leaves the identity when it is closed', async () => {
      const identity = held(step(1))
      const client = make(identity, url)
      await client.ask('/')
      assert.deepEqual(identity.followers(), [client.follower])
      await client.follower.close()
      await client.follower.close()
      assert.deepEqual(identity.followers(), [])
      await eventually(() => client.follower.usage().length === 0)
    })

    const leaves = (client: Client) => client.follower.usage().map(({ leaf, sockets }) => [leaf, sockets])
  })
}

test("Node's own fetch takes the dispatcher in undici's wrapper for older handlers", async () => {
  const [first] = await rotationOf(await makeGenerations())
  assert.ok(first)
  const server = createServer((_, response) => response.end('hello'))
  await using _ = secureServer(server, held(first))
  const port = await listening(server)
  const following = dispatcher(held(first))
  try {
    const response = await fetch(`https://localhost:${port}`, {
      dispatcher: new Dispatcher1Wrapper(following),
    } as object)
    assert.equal(await response.text(), 'hello')
    assert.equal(following.usage()[0]?.leaf, first.leaf.sha256)
  } finally {
    await following.close()
    server.close()
  }
})
