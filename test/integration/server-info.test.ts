/** Requests to the system services of real servers, from an account that imports them. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import type { NatsServerRelease } from '../../src/local/nats-server.ts'
import { natsTls } from '../../src/nats/connect.ts'
import { configLoadTime, discoverServers, reloadServer } from '../../src/nats/server-info.ts'
import { eventually } from '../support/eventually.ts'
import { identityOf, makeTestDomain, type TestDomain, type TestLeaf } from '../support/test-domain.ts'
import { startTlsServer, type TlsServer } from '../support/tls-server.ts'

const CONFIG = `
  system_account: SYS
  accounts {
    SYS {
      users: [{ user: sys, password: sys }]
      exports: [
        { service: "$SYS.REQ.SERVER.PING", response_type: stream }
        { service: "$SYS.REQ.SERVER.*.RELOAD" }
        { service: "$SYS.REQ.SERVER.*.VARZ" }
      ]
    }
    APP {
      users: [
        { user: app, password: app }
        { user: poor, password: poor, permissions: { publish: "none", subscribe: "_INBOX.>" } }
      ]
      imports: [
        { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING" } }
        { service: { account: SYS, subject: "$SYS.REQ.SERVER.*.RELOAD" } }
        { service: { account: SYS, subject: "$SYS.REQ.SERVER.*.VARZ" } }
      ]
    }
    BARE { users: [{ user: bare, password: bare }] }
  }`

let domain: TestDomain
let leaf: TestLeaf

before(async () => {
  domain = await makeTestDomain()
  leaf = await domain.leaf({ name: 'server' })
})

for (const release of ['nats-server', 'nats-server-oldest'] as const satisfies NatsServerRelease[]) {
  describe(`requests to ${release}`, () => {
    const trusted = () => [domain.authority().certificate]
    let running: TlsServer
    let nc: NatsConnection
    let id: string

    const dial = async (user: string) => {
      const identity = identityOf(leaf, domain.authority().certificate)
      const servers = [running.address('client')]
      return await connect({ servers, tls: natsTls(identity, servers), user, pass: user })
    }

    before(async () => {
      running = await startTlsServer({ release, leaf, trusted: trusted(), config: CONFIG })
      nc = await dial('app')
      id = nc.info?.server_id ?? ''
    })
    after(async () => {
      await nc.close()
      await running[Symbol.asyncDispose]()
    })

    test('the server is discovered, whether the number is known or not', async () => {
      const expected = [{ id, name: 'tested', version: running.process.version, cluster: null }]
      assert.deepEqual(await discoverServers(nc, { timeout: 1000 }), expected)
      const started = performance.now()
      assert.deepEqual(await discoverServers(nc, { expected: 1, timeout: 10_000 }), expected)
      assert.ok(performance.now() - started < 5000, 'it does not wait for more than were expected')
    })

    test('the load time of the configuration is told, and stays while nothing is loaded', async () => {
      const time = await configLoadTime(nc, id)
      assert.match(time ?? '', /^\d{4}-\d\d-\d\dT/)
      assert.equal(await configLoadTime(nc, id), time)
    })

    if (release === 'nats-server') {
      test('a reload is done when the answer comes', async () => {
        const before = await configLoadTime(nc, id)
        assert.equal(await reloadServer(nc, id), 'reloaded')
        assert.notEqual(await configLoadTime(nc, id), before)
      })

      test("a refused reload tells the server's own text, and the load time stays", async () => {
        const before = await configLoadTime(nc, id)
        const other = await domain.leaf({ name: 'other' })
        await running.write({ chainPem: leaf.chainPem, keyPem: other.keyPem }, trusted())
        await assert.rejects(reloadServer(nc, id), {
          code: 'ERR_RELOAD_REFUSED',
          message: /^tested: .*server\.conf.*private key does not match public key/,
        })
        assert.equal(await configLoadTime(nc, id), before)
        await running.write(leaf, trusted())
        assert.equal(await reloadServer(nc, id), 'reloaded')
      })
    } else {
      test('this version knows no reload request: unsupported', async () => {
        assert.equal(await reloadServer(nc, id, 2000), 'unsupported')
      })

      test('after SIGHUP the load time is another one', async () => {
        const before = await configLoadTime(nc, id)
        assert.ok(running.process.kill('SIGHUP'))
        await eventually(async () => (await configLoadTime(nc, id)) !== before)
      })
    }

    test('a server that is not there answers nothing', async () => {
      const gone = `N${'A'.repeat(55)}`
      await assert.rejects(reloadServer(nc, gone, 500), { code: 'ERR_NATS_UNAVAILABLE' })
      const time = configLoadTime(nc, gone, 500)
      // the oldest one is silent where there is nobody behind a service import
      if (release === 'nats-server') assert.equal(await time, null)
      else await assert.rejects(time, { code: 'ERR_NATS_UNAVAILABLE', message: /within 500 ms/ })
    })

    test('an id that is none is refused before it becomes a subject', async () => {
      for (const bad of ['', '*', '>', 'a.b', 'N A']) {
        await assert.rejects(reloadServer(nc, bad), { code: 'ERR_RECORD_INVALID' })
      }
    })

    test('an account without the services, or a user without the right: a clear error', async () => {
      const bare = await dial('bare')
      await assert.rejects(discoverServers(bare, { timeout: 500 }), { code: 'ERR_NATS_UNAVAILABLE' })
      await bare.close()
      const poor = await dial('poor')
      for (const call of [discoverServers(poor), reloadServer(poor, id), configLoadTime(poor, id)]) {
        await assert.rejects(call, { code: 'ERR_NATS_DENIED', message: /\$SYS\.REQ/ })
      }
      await poor.close()
    })
  })
}
