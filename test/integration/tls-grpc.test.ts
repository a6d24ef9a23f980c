/** A gRPC server that follows an identity, with calls and streams of grpc-js. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { afterEach, before, beforeEach, describe, test } from 'node:test'
import { Server } from '@grpc/grpc-js'
import { RotorError } from '../../src/errors.ts'
import type { HeldIdentity, IdentitySnapshot } from '../../src/identity/identity.ts'
import { type GrpcListener, type GrpcListenOptions, listenGrpc } from '../../src/tls/grpc.ts'
import { eventually } from '../support/eventually.ts'
import { addEcho, type EchoClient, echoClient } from '../support/grpc-echo.ts'
import {
  dialled,
  type Generations,
  held,
  leafOf,
  makeGenerations,
  rotationOf,
} from '../support/tls-generations.ts'

const never = new AbortController().signal

describe('a gRPC server that follows an identity', { timeout: 60_000 }, () => {
  let generations: Generations
  let steps: IdentitySnapshot[]
  let server: Server
  let echo: { finish(): void }
  let clients: EchoClient[]
  let listeners: GrpcListener[]

  before(async () => {
    generations = await makeGenerations()
    steps = await rotationOf(generations)
  })

  beforeEach(() => {
    server = new Server()
    echo = addEcho(server)
    clients = []
    listeners = []
  })

  afterEach(async () => {
    for (const client of clients) client.close()
    for (const listener of listeners) await listener.close()
    await new Promise((resolve) => server.tryShutdown(resolve))
  })

  const step = (index: number): IdentitySnapshot => {
    const found = steps[index]
    assert.ok(found)
    return found
  }

  async function listen(identity: HeldIdentity, options: GrpcListenOptions = {}): Promise<GrpcListener> {
    const listener = await listenGrpc(server, identity, { host: '127.0.0.1', ...options })
    listeners.push(listener)
    return listener
  }

  function client(listener: GrpcListener, snapshot: IdentitySnapshot): EchoClient {
    const made = echoClient(listener.port, snapshot, generations.domain.root.certificate.pem)
    clients.push(made)
    return made
  }

  const leaves = (listener: GrpcListener) => listener.usage().map(({ leaf, sockets }) => [leaf, sockets])

  test('answers calls of trusted clients, and knows who they are', async () => {
    const listener = await listen(held(step(0)))
    assert.equal(await client(listener, step(0)).echo('hello'), 'hello agent')
    await assert.rejects(client(listener, step(2)).echo('hello'), /UNAVAILABLE/)
    assert.deepEqual(leaves(listener), [[step(0).leaf.sha256, 1]])
  })

  test('rotates leaf and client trust under open streams, which go on', async () => {
    const identity = held(step(0))
    const listener = await listen(identity)
    const old = client(listener, step(0))
    const stream = old.watch('first')
    const [first] = await once(stream, 'data')
    assert.equal(first, 'first')
    for (const index of [1, 2, 3]) {
      identity.set(step(index))
      assert.match(await listener.follow(step(index), never), /served to a new connection/)
    }
    // the connection of before carries calls, new ones of the removed authority are refused
    assert.equal(await old.echo('still'), 'still agent')
    await assert.rejects(client(listener, step(0)).echo('hello'), /UNAVAILABLE/)
    assert.equal(await client(listener, step(2)).echo('hello'), 'hello agent')
    assert.deepEqual(leaves(listener), [
      [step(0).leaf.sha256, 1],
      [step(2).leaf.sha256, 1],
    ])
    const last = once(stream, 'data')
    echo.finish()
    assert.deepEqual(await last, ['last'])
    await once(stream, 'end')
  })

  test('drains connections of older generations when asked: streams finish first', async () => {
    const identity = held(step(0))
    const listener = await listen(identity, { closeIdle: 0 })
    const stream = client(listener, step(1)).watch('first')
    await once(stream, 'data')
    identity.set(step(2))
    const young = client(listener, step(1))
    assert.equal(await young.echo('hello'), 'hello agent')
    assert.equal(leaves(listener).length, 2)
    const ended = once(stream, 'end')
    echo.finish()
    stream.resume()
    await ended
    await eventually(() => leaves(listener).every(([leaf]) => leaf === step(2).leaf.sha256))
    assert.equal(await young.echo('again'), 'again agent')
  })

  test('ends older connections by age, streams or not', async () => {
    const identity = held(step(0))
    const listener = await listen(identity, { maxAge: 20, grace: 20 })
    const stream = client(listener, step(1)).watch('first')
    const failed = once(stream, 'error')
    await once(stream, 'data')
    identity.set(step(2))
    await failed
    await eventually(() => leaves(listener).length === 0)
  })

  test('lets everybody in who asks for it to, and keeps the TLS settings it was given', async () => {
    const listener = await listen(held(step(0)), {
      requireClientCertificate: false,
      tls: { minVersion: 'TLSv1.3' },
      name: 'orders',
    })
    assert.equal(listener.name, 'orders')
    const socket = await dialled(listener.port, step(0), {
      key: undefined,
      cert: undefined,
      ALPNProtocols: ['h2'],
    })
    assert.deepEqual([leafOf(socket), socket.alpnProtocol], [step(0).leaf.sha256, 'h2'])
    socket.destroy()
    const old = dialled(listener.port, step(0), { maxVersion: 'TLSv1.2', ALPNProtocols: ['h2'] })
    await assert.rejects(old)
  })

  test('leaves the identity and the port when it is closed', async () => {
    const identity = held(step(0))
    const listener = await listen(identity, { grace: 50 })
    const stream = client(listener, step(0)).watch('first')
    const failed = once(stream, 'error')
    await once(stream, 'data')
    assert.equal(identity.followers().length, 1)
    await Promise.all([listener.close(), listener.close(), failed])
    assert.deepEqual(identity.followers(), [])
    await eventually(() => listener.usage().length === 0)
  })

  test('says where it can not listen', async () => {
    const identity = held(step(0))
    const { port } = await listen(identity)
    await assert.rejects(listen(identity, { port }), (error) => {
      assert.ok(RotorError.is(error))
      assert.equal(error.code, 'ERR_CONFIG_INVALID')
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1 port ${port}`))
      return true
    })
    assert.equal(identity.followers().length, 1)
  })
})
