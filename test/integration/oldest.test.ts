/** The oldest supported nats-server: no RELOAD request there, so its agent sends SIGHUP and proves by handshakes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findNatsServer } from '../../src/local/nats-server.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { RunningDomain } from '../support/running-domain.ts'

test('three servers of the oldest release follow two rotations, one after the other', async () => {
  await using domain = await RunningDomain.start({
    servers: 3,
    services: [{ name: 'orders' }],
    binary: findNatsServer('nats-server-oldest'),
  })
  await domain.startAll(['orders'])
  for (let round = 0; round < 2; round += 1) {
    const overview = await domain.rotate()
    // 1. every listener serves the leaf its agent holds, issued by the authority that signs
    for (const { server, result } of await domain.probe(await domain.identity('orders'), [
      'client',
      'cluster',
    ])) {
      const held = await domain.identity(server)
      assert.equal(result.served.sha256, held.leaf.sha256, `${server} ${result.kind}`)
      assert.equal(result.accepted, true, `${server} ${result.kind}: ${result.refused}`)
    }
    // 2. and every agent says so
    for (const { name, status } of overview.agents)
      assert.equal(status?.leaf.issuerEpoch, overview.active, name)
  }
  assert.deepEqual(chainProblems(await domain.history()), [])
})
