/** The control connection leaves a server whose answers stay away. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NatsConnection } from '@nats-io/transport-node'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { silentLogger } from '../../src/log.ts'
import { connectWith, withLast } from '../../src/nats/connect.ts'
import { Link } from '../../src/nats/link.ts'
import { makeTestDomain } from '../support/test-domain.ts'
import { startTlsServer } from '../support/tls-server.ts'

test('what runs on the connection moves to another server if one is there; with none at all it stays', async () => {
  const domain = await makeTestDomain()
  const leaf = await domain.leaf({ name: 'server' })
  const ca = domain.authority().certificate
  await using first = await startTlsServer({ leaf, trusted: [ca] })
  await using second = await startTlsServer({ leaf, trusted: [ca] })
  const identity = new HeldIdentity({
    key: leaf.keyPem,
    certificate: leaf.chainPem,
    ca: ca.pem,
    leaf: leaf.certificate,
    generation: '1',
    version: 1,
  })
  const servers = [first, second].map((server) => server.address('client'))
  const dial = (avoid?: string) =>
    connectWith({ servers: withLast(servers, avoid), identity, noRandomize: true, timeout: 1000 })
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
    assert.equal(before.getServer(), servers[0])

    await link.leave(stop.signal)
    assert.equal(link.nc.getServer(), servers[1])
    assert.deepEqual(
      attached.map((nc) => nc.getServer()),
      servers,
    )
    assert.equal(before.isClosed(), true)

    await first.process.stop()
    await link.leave(stop.signal)
    assert.equal(attached.at(-1)?.getServer(), servers[1])
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
