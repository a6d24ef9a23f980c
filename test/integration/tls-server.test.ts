/** Servers of Node that follow an identity: what new handshakes get, and what happens to open connections. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createSecureServer } from 'node:http2'
import { createServer as createHttps } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { secureServer } from '../../src/tls/secure-server.ts'
import { eventually } from '../support/eventually.ts'
import {
  dialled,
  type Generations,
  greeting,
  held,
  leafOf,
  listening,
  makeGenerations,
  rotationOf,
} from '../support/tls-generations.ts'

const never = new AbortController().signal

describe('a server that follows an identity', { timeout: 60_000 }, () => {
  let generations: Generations
  let steps: IdentitySnapshot[]
  const opened: Server[] = []

  before(async () => {
    generations = await makeGenerations()
    steps = await rotationOf(generations)
  })

  after(() => {
    for (const server of opened) server.close()
  })

  const step = (index: number): IdentitySnapshot => {
    const found = steps[index]
    assert.ok(found)
    return found
  }

  /** It greets every client it takes, and hangs up. */
  function greeter(options: object = {}): Server {
    const server = createServer({ requestCert: true, rejectUnauthorized: true, ...options })
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {})
      socket.end('hello')
    })
    opened.push(server)
    return server
  }

  test('shows the new leaf to new handshakes, and trusts clients by the new trust file alone', async () => {
    const server = greeter()
    const identity = held(step(0))
    await using following = secureServer(server, identity)
    const port = await listening(server)
    const { older, newer, make } = generations
    const old = await make(older, [older, newer])
    const young = await make(newer, [older, newer])
    const seen: [boolean, boolean, boolean][] = []
    for (const next of steps) {
      identity.set(next)
      const [byOld, byYoung] = [await greeting(port, old), await greeting(port, young)]
      const leaf = (byOld ?? byYoung)?.leaf
      seen.push([byOld !== null, byYoung !== null, leaf === next.leaf.sha256])
    }
    assert.deepEqual(seen, [
      [true, false, true],
      [true, true, true],
      [true, true, true],
      [false, true, true],
    ])
    assert.equal(following.name, 'server')
  })

  test('proves it by a handshake when it is told to follow, and says so when it can not', async () => {
    const server = greeter()
    await using following = secureServer(server, held(step(0)))
    assert.match(await following.follow(step(2), never), /not proven: the server does not listen/)
    const port = await listening(server)
    const words = await following.follow(step(2), never)
    assert.match(
      words,
      new RegExp(`${step(2).leaf.sha256.slice(0, 16)} served .* 127\\.0\\.0\\.1 port ${port}`),
    )
    assert.match(words, /0 older connections open/)
    assert.equal((await greeting(port, step(2)))?.leaf, step(2).leaf.sha256)
  })

  test('proves it again after it was put back', async () => {
    const server = greeter()
    const identity = held(step(0))
    await using following = secureServer(server, identity)
    await listening(server)
    const dials: string[] = []
    server.on('secureConnection', (socket: TLSSocket) => {
      dials.push((socket.getX509Certificate()?.fingerprint256 ?? '').replaceAll(':', '').toLowerCase())
    })
    await following.follow(step(0), never)
    await following.follow(step(0), never)
    identity.set(step(2))
    await following.follow(step(0), never)
    await eventually(() => dials.length === 2)
    assert.deepEqual(dials, [step(0).leaf.sha256, step(0).leaf.sha256])
  })

  test('does the same on a Unix socket', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rotor-tls-'))
    try {
      const path = join(folder, 'socket')
      const server = createServer({ requestCert: true }, (socket) => socket.on('error', () => {}))
      opened.push(server)
      const identity = held(step(0))
      await using following = secureServer(server, identity)
      server.listen(path)
      await once(server, 'listening')
      const client = await dialled(0, step(1), { path })
      await eventually(() => following.usage().length === 1)
      identity.set(step(2))
      const words = await following.follow(step(2), never)
      assert.ok(words.includes(`served to a new connection at ${path}; 1 older connection open`), words)
      await eventually(() => following.usage().length === 1)
      assert.equal(following.usage()[0]?.leaf, step(0).leaf.sha256)
      client.destroy()
      const closed = once(server, 'close')
      server.close()
      await closed
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  test('goes back when the proof fails: something else decides about the context', async () => {
    const server = greeter()
    const identity = held(step(0))
    await using following = secureServer(server, identity)
    const port = await listening(server)
    const set = server.setSecureContext.bind(server)
    const stubborn = { ...step(0), requestCert: true }
    server.setSecureContext = () => set({ key: stubborn.key, cert: stubborn.certificate, ca: stubborn.ca })
    await assert.rejects(following.follow(step(2), never), (error) => {
      assert.ok(RotorError.is(error))
      assert.equal(error.code, 'ERR_PROOF_FAILED')
      assert.match(error.message, new RegExp(`port ${port}: expected leaf .* was served`))
      return true
    })
    server.setSecureContext = set
    identity.set(step(1))
    assert.match(await following.follow(step(1), never), /served/)
  })

  test('keeps what the server was made with: versions, ciphers, ALPN, optional client certificates', async () => {
    const server = greeter({
      maxVersion: 'TLSv1.2',
      ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256',
      ALPNProtocols: ['greeting'],
      rejectUnauthorized: false,
    })
    const identity = held(step(0))
    await using _ = secureServer(server, identity)
    const port = await listening(server)
    identity.set(step(2))
    const client = await dialled(port, step(2), {
      key: undefined,
      cert: undefined,
      ALPNProtocols: ['greeting'],
    })
    assert.deepEqual(
      [client.getProtocol(), client.getCipher().name, client.alpnProtocol, leafOf(client)],
      ['TLSv1.2', 'ECDHE-ECDSA-AES128-GCM-SHA256', 'greeting', step(2).leaf.sha256],
    )
    client.destroy()
  })

  test('does not touch names of addContext, nor count their connections', async () => {
    const server = createServer()
    opened.push(server)
    server.on('secureConnection', (socket) => socket.on('error', () => {}))
    const identity = held(step(0))
    await using following = secureServer(server, identity)
    const other = await generations.make(generations.older, [generations.older])
    server.addContext('other.example', { key: other.key, cert: other.certificate })
    const port = await listening(server)
    identity.set(step(2))
    const anyName = { checkServerIdentity: () => undefined }
    const named = await dialled(port, step(1), { ...anyName, servername: 'other.example' })
    const plain = await dialled(port, step(1))
    assert.deepEqual([leafOf(named), leafOf(plain)], [other.leaf.sha256, step(2).leaf.sha256])
    await eventually(() => following.usage().length > 0)
    assert.deepEqual(
      following.usage().map(({ sockets, leaf }) => [sockets, leaf]),
      [[1, step(2).leaf.sha256]],
    )
    named.destroy()
    plain.destroy()
  })

  test('leaves open connections alone and counts them by generation until they close', async () => {
    const server = createServer({ requestCert: true })
    opened.push(server)
    server.on('secureConnection', (socket) => socket.on('error', () => {}).pipe(socket))
    const identity = held(step(0))
    await using following = secureServer(server, identity, { name: 'echo' })
    const port = await listening(server)
    const old = await dialled(port, step(1))
    const twin = await dialled(port, step(1))
    await eventually(() => following.usage()[0]?.sockets === 2)
    // only the trust changes here
    identity.set(step(1))
    identity.set(step(2))
    const young = await dialled(port, step(1))
    await eventually(() => following.usage().length === 2)
    assert.deepEqual(
      following
        .usage()
        .map(({ type, name, generation, leaf, sockets }) => [type, name, generation, leaf, sockets]),
      [
        ['server', 'echo', step(0).generation, step(0).leaf.sha256, 2],
        ['server', 'echo', step(2).generation, step(2).leaf.sha256, 1],
      ],
    )
    assert.deepEqual(identity.usage(), following.usage())
    old.write('still here')
    assert.equal(String((await once(old, 'data'))[0]), 'still here')
    assert.match(await following.follow(step(2), never), /2 older connections open/)
    for (const socket of [old, twin, young]) socket.destroy()
    await eventually(() => following.usage().length === 0)
  })

  test('ends them by age when asked: gently first, destroyed after the grace', async () => {
    const server = createServer({ requestCert: true })
    opened.push(server)
    const ends: string[] = []
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {})
      socket.once('finish', () => ends.push('gently'))
      socket.once('close', () => ends.push('closed'))
    })
    const identity = held(step(0))
    await using following = secureServer(server, identity, { maxAge: 30, grace: 30 })
    const port = await listening(server)
    // it never hangs up by itself
    const old = await dialled(port, step(1), { allowHalfOpen: true } as object)
    old.resume()
    await eventually(() => following.usage().length === 1)
    identity.set(step(2))
    const young = await dialled(port, step(1))
    await eventually(() => following.usage().every(({ leaf }) => leaf === step(2).leaf.sha256))
    assert.equal(ends[0], 'gently')
    assert.equal(following.usage()[0]?.sockets, 1)
    for (const socket of [old, young]) socket.destroy()
  })

  test('a generation that is put back does not age', async () => {
    const aging = async () => {
      const server = createServer({ requestCert: true })
      opened.push(server)
      server.on('secureConnection', (socket) => socket.on('error', () => {}).pipe(socket))
      const identity = held(step(0))
      const following = secureServer(server, identity, { maxAge: 100, grace: 0 })
      const client = await dialled(await listening(server), step(1))
      await eventually(() => following.usage().length === 1)
      return { identity, following, client, [Symbol.asyncDispose]: () => following[Symbol.asyncDispose]() }
    }
    await using kept = await aging()
    await using replaced = await aging()
    kept.identity.set(step(2))
    await kept.following.follow(step(0), never)
    // its time begins later, so when it is over that of the first one would be, too
    const over = once(replaced.client.resume(), 'close')
    replaced.identity.set(step(2))
    await over
    kept.client.write('still here')
    assert.equal(String((await once(kept.client, 'data'))[0]), 'still here')
    kept.client.destroy()
  })

  test('leaves nothing behind when it is closed; the server goes on with what it has', async () => {
    const server = greeter()
    const https = createHttps({ requestCert: true }, (_, response) => response.end())
    const http2 = createSecureServer({ allowHTTP1: true }, (_, response) => response.end())
    opened.push(https)
    const names = ['connection', 'secureConnection', 'session', 'newListener', 'removeListener', 'request']
    const counts = () => [server, https, http2].map((of) => names.map((name) => of.listenerCount(name)))
    const before = counts()
    const identity = held(step(0))
    const policy = { closeIdle: 60_000, maxAge: 60_000 }
    const followers = [server, https, http2].map((each) => secureServer(each, identity, policy))
    assert.equal(identity.followers().length, 3)
    const port = await listening(server)
    // one connection that ages, and is idle
    const client = await dialled(await listening(https), step(1))
    await eventually(() => identity.usage().length === 1)
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const unchanged = timers()
    identity.set(step(1))
    assert.ok(timers() > unchanged)
    for (const follower of followers) await follower.close()
    for (const follower of followers) await follower.close()
    await eventually(() => timers() <= unchanged)
    assert.deepEqual(identity.followers(), [])
    assert.deepEqual(counts(), before)
    identity.set(step(2))
    assert.equal((await greeting(port, step(1)))?.leaf, step(0).leaf.sha256)
    client.destroy()
  })

  test('refuses what is no such server', () => {
    assert.throws(() => secureServer({} as Server, held(step(0))), TypeError)
  })
})
