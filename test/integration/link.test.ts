/** The control connection leaves a server whose answers stay away. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NatsConnection } from '@nats-io/transport-node'
import { silentLogger } from '../../src/log.ts'
import { connectWith, withLast } from '../../src/nats/connect.ts'
import { Link } from '../../src/nats/link.ts'
import { eventually } from '../support/eventually.ts'
import { ServerProxy } from '../support/proxy.ts'
import { identityOf, makeTestDomain } from '../support/test-domain.ts'
import { startTlsServer } from '../support/tls-server.ts'

/** Two servers that take one leaf, and an identity with it. */
async function servers() {
  const domain = await makeTestDomain()
  const leaf = await domain.leaf({ name: 'server' })
  const ca = domain.authority().certificate
  await using cleanup = new AsyncDisposableStack()
  const first = cleanup.use(await startTlsServer({ leaf, trusted: [ca] }))
  const second = cleanup.use(await startTlsServer({ leaf, trusted: [ca] }))
  const identity = identityOf(leaf, ca)
  const owned = cleanup.move()
  return { first, second, identity, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

test('what runs on the connection moves to another server if one is there; with none at all it stays', async () => {
  await using there = await servers()
  const { first, second, identity } = there
  const addresses = [first, second].map((server) => server.address('client'))
  const dial = (avoid?: string) =>
    connectWith({ servers: withLast(addresses, avoid), identity, noRandomize: true, timeout: 1000 })
  const link = new Link(dial, silentLogger)
  const attached: NatsConnection[] = []
  await link.attach(async (nc) => {
    attached.push(nc)
    return async () => {}
  })
  const stop = new AbortController()
  const running = link.run(stop.signal)
  try {
    const before = await link.ready(stop.signal)
    assert.equal(before.getServer(), addresses[0])

    await link.leave(stop.signal)
    assert.equal(link.nc.getServer(), addresses[1])
    assert.deepEqual(
      attached.map((nc) => nc.getServer()),
      addresses,
    )
    assert.equal(before.isClosed(), true)

    await first.process.stop()
    await link.leave(stop.signal)
    assert.equal(attached.at(-1)?.getServer(), addresses[1])
    assert.equal(attached.length, 3)

    await second.process.stop()
    const last = link.nc
    await link.leave(stop.signal)
    assert.equal(attached.length, 3)
    assert.equal(link.nc, last)
  } finally {
    stop.abort()
    await running
  }
})

test('a connection that leads nowhere is left, whatever runs on it, and a link on one can be stopped', {
  timeout: 30_000,
}, async () => {
  await using there = await servers()
  const { first, second, identity } = there
  await using proxy = await ServerProxy.start({ backends: [first.address('client')] })
  const addresses = [proxy.address, second.address('client')]
  const dial = (avoid?: string) =>
    connectWith({ servers: withLast(addresses, avoid), identity, noRandomize: true, timeout: 1000 })
  const link = new Link(dial, silentLogger)
  await link.attach(async (nc) => {
    const subscription = nc.subscribe('questions')
    // waits for an answer of the server
    return () => subscription.drain()
  })
  const stop = new AbortController()
  const running = link.run(stop.signal)
  try {
    const before = await link.ready(stop.signal)
    assert.equal(before.getServer(), proxy.address)
    for (const one of proxy.open) one.stall()
    await link.leave(stop.signal)
    assert.equal(link.nc.getServer(), second.address('client'))
    assert.equal(before.isClosed(), true)

    await second.process.stop()
    proxy.calm()
    await eventually(async () => link.nc.getServer() === proxy.address && (await link.nc.rtt()) >= 0)
    for (const one of proxy.open) one.stall()
  } finally {
    stop.abort()
    await running
  }
})
