/** A name that leads to three servers: a handoff goes back to its own, and to another one when that takes nobody. */
import assert from 'node:assert/strict'
import dns from 'node:dns'
import { describe, type TestContext, test } from 'node:test'
import { startLoadCluster } from '../../bench/load/cluster.ts'
import { FLOWS } from '../../bench/load/flows.ts'
import { startLoad } from '../../bench/load/load.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { eventually } from '../support/eventually.ts'
import { startService } from '../support/moving.ts'
import { ServerProxy } from '../support/proxy.ts'

const ADDRESSES = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
/** Milliseconds for an answer: of a machine that does something else. */
const PATIENCE = 10_000
const RATE = 500

/** From here on "localhost" has three addresses; everything behind the resolver is real. */
function resolveToThree(t: TestContext): void {
  const answer = ADDRESSES.map((address) => ({ address, family: 4 }))
  t.mock.method(dns, 'lookup', (_: string, __: object, done: (error: null, found: object) => void) =>
    done(null, answer),
  )
  t.mock.method(dns.promises, 'lookup', async () => answer)
}

/** One proxy on each address, the same port on all, a server of its own behind each. */
async function behindOneName(addresses: readonly string[]) {
  await using cleanup = new AsyncDisposableStack()
  const proxies: ServerProxy[] = []
  let port = ''
  for (const [i, host] of ADDRESSES.entries()) {
    const backends = [addresses[i]?.replace('tls://', '') ?? '']
    const listen = port === '' ? {} : { listen: `${host}:${port}` }
    const proxy = cleanup.use(await ServerProxy.start({ backends, ...listen }))
    port = proxy.address.split(':')[1] ?? ''
    proxies.push(proxy)
  }
  const owned = cleanup.move()
  return { proxies, name: `localhost:${port}`, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

describe('servers behind one name', () => {
  test('moves go back to the same server; when it takes nobody any more, to another; nothing is lost', async (t) => {
    await using cluster = await startLoadCluster({ runs: ['a'] })
    const { addresses, peers: access, generations, inboxPrefix } = cluster
    await using named = await behindOneName(addresses)
    resolveToThree(t)
    const [proxy = assert.fail('no proxy')] = named.proxies
    await using service = await startService(proxy, generations[0], {
      inboxPrefix,
      servers: named.name,
      identity: new HeldIdentity(generations[0]),
      handoff: { timeout: 5000 },
    })
    const connected = () => named.proxies.map(({ open }) => open.length)
    const dials = () => named.proxies.map(({ links }) => links.length)
    await using load = await startLoad({ run: 'a', rate: RATE, addresses, access, patience: PATIENCE })
    await load.use(service.nc)
    await load.begin()

    const where = connected().indexOf(1)
    const atFirst = dials()
    for (let move = 1; move <= 4; move++) {
      const { ok, sameServer, reason } = await service.move(generations[move % 2 === 0 ? 0 : 1])
      assert.deepEqual({ ok, sameServer, reason }, { ok: true, sameServer: true, reason: undefined })
    }
    assert.deepEqual(
      dials(),
      atFirst.map((count, i) => (i === where ? count + 4 : count)),
      'dials of each address',
    )

    const own = named.proxies[where] ?? assert.fail('not connected')
    own.onLink = (link) => link.cut()
    for (const [next, sameServer] of [
      [generations[1], false],
      [generations[0], true],
    ] as const) {
      const event = await service.move(next)
      assert.deepEqual([event.ok, event.sameServer, event.reason], [true, sameServer, undefined])
      await eventually(() => connected().reduce((sum, n) => sum + n) === 1)
      assert.notEqual(connected().indexOf(1), where)
    }

    const { plainPerSecond, ...flows } = await load.finish()
    assert.ok(plainPerSecond > RATE / 2, `${plainPerSecond} messages per second`)
    for (const flow of FLOWS) {
      const { lost, duplicated, corrupt, failed, redelivered, reasons } = flows[flow]
      assert.deepEqual(
        { lost, duplicated, corrupt, failed, redelivered },
        { lost: 0, duplicated: 0, corrupt: 0, failed: 0, redelivered: 0 },
        `${flow} ${JSON.stringify(reasons)}`,
      )
    }
  })
})
