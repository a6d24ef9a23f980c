/** Three servers behind one address: a handoff that does not get back to its server, under a whole load. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type LoadCluster, startLoadCluster } from '../../bench/load/cluster.ts'
import { FLOWS } from '../../bench/load/flows.ts'
import { startLoad } from '../../bench/load/load.ts'
import { findNatsServer } from '../../src/local/nats-server.ts'
import { eventually } from '../support/eventually.ts'
import { startService } from '../support/moving.ts'
import { ServerProxy } from '../support/proxy.ts'
import { RELEASES } from '../support/test-cluster.ts'

const MOVES = 10
/** Milliseconds for an answer: of a machine that does something else. */
const PATIENCE = 10_000
const RATE = 1500
const TRIES = 4
/** Members of a group of two servers have no order. */
const UNORDERED: readonly string[] = ['sole', 'shared']

const behindOne = ({ addresses }: LoadCluster): Promise<ServerProxy> =>
  ServerProxy.start({ backends: addresses.map((address) => address.replace('tls://', '')) })

for (const release of RELEASES) {
  describe(`servers behind one address (${release})`, () => {
    test('each move gets to another server, and nothing is lost, duplicated, late or failed', async () => {
      await using cluster = await startLoadCluster({ runs: ['a'], binary: findNatsServer(release) })
      const { addresses, peers: access, generations, inboxPrefix } = cluster
      await using proxy = await behindOne(cluster)
      await using service = await startService(proxy, generations[0], {
        inboxPrefix,
        handoff: { timeout: 5000, tries: TRIES },
      })
      await using load = await startLoad({ run: 'a', rate: RATE, addresses, access, patience: PATIENCE })
      await load.use(service.nc)
      await load.begin()
      for (let move = 1; move <= MOVES; move++) {
        const dials = proxy.links.length
        const before = service.nc.info?.server_id
        proxy.choose = () => move % addresses.length
        const { ok, sameServer, reason } = await service.move(generations[move % 2 === 0 ? 0 : 1])
        assert.deepEqual({ ok, sameServer, reason }, { ok: true, sameServer: false, reason: undefined })
        assert.equal(proxy.links.length - dials, TRIES, 'tries to get back')
        assert.notEqual(service.nc.info?.server_id, before)
        await eventually(() => proxy.open.length === 1)
      }
      const { plainPerSecond, ...flows } = await load.finish()
      assert.ok(plainPerSecond > RATE / 2, `${plainPerSecond} messages per second`)
      for (const flow of FLOWS) {
        const { lost, duplicated, reordered, corrupt, failed, redelivered, reasons } = flows[flow]
        const late = UNORDERED.includes(flow) ? 0 : reordered
        assert.deepEqual(
          { lost, duplicated, late, corrupt, failed, redelivered },
          { lost: 0, duplicated: 0, late: 0, corrupt: 0, failed: 0, redelivered: 0 },
          `${flow} ${JSON.stringify(reasons)}`,
        )
      }
    })
  })
}

test('a dial that gets to another server is repeated, until it is back at the same one', async () => {
  await using cluster = await startLoadCluster({ runs: ['a'] })
  const { generations, inboxPrefix, addresses } = cluster
  await using proxy = await behindOne(cluster)
  await using service = await startService(proxy, generations[0], {
    inboxPrefix,
    // by name: the certificate is checked for it again
    servers: proxy.address.replace('127.0.0.1', 'localhost'),
  })
  const before = service.nc.info?.server_id
  // the third try
  proxy.choose = (index) => index % addresses.length
  const { ok, sameServer, reason } = await service.move(generations[1])
  assert.deepEqual({ ok, sameServer, reason }, { ok: true, sameServer: true, reason: undefined })
  assert.deepEqual([proxy.links.length, service.nc.info?.server_id], [4, before])
  await eventually(() => proxy.open.length === 1)
})
