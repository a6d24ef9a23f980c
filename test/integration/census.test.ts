/** Who is connected, and who still stands on an old authority: asked of real servers, the newest and the oldest. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { editJson } from '../../demo/domain.ts'
import { countConnections, type ServerCount } from '../../issuer/census/count.ts'
import { knownOf, Leaves } from '../../issuer/census/known.ts'
import { encodePayload } from '../../src/bundle/payload.ts'
import { connect as connectLibrary } from '../../src/index.ts'
import { findNatsServer, startNatsServer } from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { bootstrap } from '../../src/rotation/advance.ts'
import { placeAll } from '../../src/rotation/census.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import { makeSchedule } from '../../src/schedule.ts'
import { domainNames } from '../../src/wire/names.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { RELEASES, startTestCluster } from '../support/test-cluster.ts'
import { makeTestDomain, type TestDomain } from '../support/test-domain.ts'

const CLIENTS = 300
const SERVERS = ['nats-1', 'nats-2', 'nats-3']
const AGENTS = [...SERVERS, 'orders'].map((name) => ({
  name,
  role: name === 'orders' ? 'service' : 'server',
}))

const stateOf = (domain: TestDomain): RotationState =>
  bootstrap({ domain: 'prod', payload: encodePayload(domain.payload()), fence: 0 }, Date.now())

/** What is known of a count when no agent has reported. */
const knownFrom = (state: RotationState, { servers }: ServerCount) =>
  knownOf({ names: domainNames('prod'), state, statuses: [], agents: AGENTS, servers }, new Leaves())

for (const release of RELEASES) {
  describe(`connections of ${release}`, { timeout: 4 * PATIENCE }, () => {
    test('three hundred on three servers are counted page by page, while others come and go', async () => {
      const schedule = makeSchedule({ epochZero: Date.now() })
      const domain = await makeTestDomain({ domain: 'prod', schedule, epochs: [0] })
      const users = [
        { name: 'issuer', role: 'issuer' },
        { name: 'orders', role: 'service' },
      ] as const
      await using cluster = await startTestCluster({ domain, users, release, servers: 3 })
      const leaf = await domain.leaf({ name: 'orders', dns: [], ip: [] })
      const ca = domain.authority().certificate.pem
      const tls = { cert: leaf.chainPem, key: leaf.keyPem, ca, allowPartialTrustChain: true }
      const dial = (name: string, server: number): Promise<NatsConnection> =>
        connect({
          servers: `tls://${cluster.addresses[server]}`,
          name,
          tls,
          timeout: PATIENCE,
          reconnect: false,
        })
      await using cleanup = new AsyncDisposableStack()
      const open: NatsConnection[] = []
      for (let i = 0; i < CLIENTS; i += 30) {
        const names = Array.from({ length: 30 }, (_, k) => i + k)
        for (const nc of await Promise.all(names.map((n) => dial(`client-${n}`, n % 3)))) open.push(nc)
      }
      cleanup.defer(async () => {
        await Promise.all(open.map((nc) => nc.close()))
      })
      const issuer = await cluster.connect('issuer')

      // 1. some leave and some come while the pages are read
      const options = { expected: SERVERS, now: Date.now(), page: 25, timeout: PATIENCE }
      const [count] = await Promise.all([
        countConnections(issuer, options),
        ...open.splice(0, 30).map((nc) => nc.close()),
        ...[0, 1, 2].map(async (n) => open.push(await dial('late', n))),
      ])
      assert.equal(count.problem, null)
      const names = new Set(count.connections.map((c) => c.name))
      for (let n = 30; n < CLIENTS; n++)
        assert.ok(names.has(`client-${n}`), `client-${n} was there all the time`)
      const keys = count.connections.map((c) => `${c.serverId} ${c.kind} ${c.cid}`)
      assert.equal(new Set(keys).size, keys.length, 'nobody is counted twice')

      // 2. each client stands on the authority whose certificate it showed, and routes hold nothing
      const state = stateOf(domain)
      const known = knownFrom(state, count)
      for (const { connection, epochs, by } of placeAll(count.connections, known)) {
        const expected = connection.kind === 'client' ? [[0], 'chain'] : [[], 'agent']
        assert.deepEqual(
          [epochs, by],
          expected,
          `${connection.kind} ${connection.name} of ${connection.server}`,
        )
      }
      assert.ok(count.connections.filter(({ kind }) => kind === 'route').length >= 6)

      // 3. what is missing is said, and nothing is thrown
      const more = await countConnections(issuer, { ...options, expected: [...SERVERS, 'nats-9'] })
      assert.match(more.problem ?? '', /^nats-9: no answer/)
      const denied = await countConnections(await cluster.connect('orders'), options)
      assert.match(denied.problem ?? '', /\$SYS\.REQ\.SERVER\.PING/)
      assert.deepEqual(denied.connections, [])
      const tooMany = await countConnections(issuer, { ...options, max: 50 })
      assert.match(tooMany.problem ?? '', /nats-1: more than 50 connections/)
    })

    test('gateways and leaf nodes are counted, and only a server nobody knows holds an authority', async () => {
      await using cleanup = new AsyncDisposableStack()
      const folder = await mkdtemp(join(tmpdir(), 'rotor-census-'))
      cleanup.defer(() => rm(folder, { recursive: true, force: true }))
      const [clientA, clientB, clientFar, gatewayA, gatewayB, leafnodes] = await freePorts(6)
      const start = async (name: string, port: number | undefined, config: string) => {
        await writeFile(
          join(folder, `${name}.conf`),
          `server_name: ${name}\nlisten: "127.0.0.1:${port}"\nsystem_account: SYS\n${config}
          accounts { SYS { users: [{ user: sys, password: sys }] }, APP { users: [{ user: app, password: app }] } }`,
        )
        const binary = findNatsServer(release)
        cleanup.use(await startNatsServer({ name, cwd: folder, configFile: `${name}.conf`, binary }))
      }
      const gateway = (name: string, own?: number, other?: number) =>
        `gateway { name: ${name}, listen: "127.0.0.1:${own}"
          gateways: [{ name: ${name === 'A' ? 'B' : 'A'}, url: "nats://127.0.0.1:${other}" }] }`
      await start(
        'nats-1',
        clientA,
        `${gateway('A', gatewayA, gatewayB)}\nleafnodes { listen: "127.0.0.1:${leafnodes}" }`,
      )
      await start('nats-2', clientB, gateway('B', gatewayB, gatewayA))
      const remote = `{ url: "nats://app:app@127.0.0.1:${leafnodes}", account: APP }`
      await start('far', clientFar, `leafnodes { remotes: [${remote}] }`)
      const nc = await connect({ servers: `127.0.0.1:${clientA}`, user: 'sys', pass: 'sys' })
      cleanup.defer(() => nc.close())
      const schedule = makeSchedule({ epochZero: Date.now() })
      const domain = await makeTestDomain({ domain: 'prod', schedule, epochs: [0] })
      const state = stateOf(domain)
      await eventually(async () => {
        const count = await countConnections(nc, { expected: ['nats-1', 'nats-2'], now: Date.now() })
        assert.equal(count.problem, null)
        const placed = placeAll(count.connections, knownFrom(state, count)).map(
          ({ connection: { server, kind, name }, by }) => `${server} ${kind} ${name} ${by}`,
        )
        const found = (text: string) => placed.filter((line) => line === text).length
        assert.equal(found('nats-1 gateway B agent'), 2, 'in and out')
        assert.equal(found('nats-2 gateway A agent'), 2, 'in and out')
        // 2.9 does not tell whose leaf node it is
        const name = release === 'nats-server' ? 'far' : ''
        assert.equal(found(`nats-1 leafnode ${name} start`), 1)
        assert.equal(found('nats-1 client  plain'), 1)
        return true
      })
    })

    test('a plain client on an old leaf keeps its authority in trust, by name, until it leaves', async () => {
      await using domain = await RunningDomain.start({
        services: [{ name: 'orders' }],
        binary: findNatsServer(release),
      })
      await domain.startAll(['orders'], { retireAfter: 0 })
      await domain.settled()
      await using cleanup = new AsyncDisposableStack()
      const plain = await domain.connectAs('orders')
      cleanup.defer(() => plain.close())
      const agent = domain.agents.get('orders')
      assert.ok(agent)
      const servers = domain.local.plans.map(({ host, clientPort }) => `${host}:${clientPort}`)
      const shared = { servers, inboxPrefix: domain.names.inbox('orders') }
      const library = await connectLibrary({ ...shared, name: 'library', identity: agent.identity })
      cleanup.defer(() => library.close())
      const dir = domain.identityDir('orders')
      const tls = {
        certFile: join(dir, 'tls.crt'),
        keyFile: join(dir, 'tls.key'),
        caFile: join(dir, 'ca.pem'),
        allowPartialTrustChain: true,
        host: '127.0.0.1',
      }
      const sidecar = await connect({
        ...shared,
        tls,
        name: 'sidecar',
        reconnectTimeWait: 100,
        maxReconnectAttempts: -1,
      })
      cleanup.defer(() => sidecar.close())
      const heard = { library: statuses(library), sidecar: statuses(sidecar) }
      const [old = 0] = (await domain.overview()).authorities.map(({ epoch }) => epoch)

      // 1. the library moves, the others stay where they are
      await domain.rotate()
      const held = await eventually(
        async () => {
          const overview = await domain.overview()
          const names = overview.waitingFor.map(({ kind, name }) => `${kind} ${name}`).sort()
          assert.deepEqual(names, ['connection sidecar', 'connection test-orders'])
          return overview
        },
        { timeout: PATIENCE, interval: 200 },
      )
      assert.equal(held.reason, 'authority-still-needed')
      assert.match(
        held.waitingFor[0]?.missing ?? '',
        new RegExp(`of nats-1 stands on a leaf of epoch ${old} `),
      )
      assert.deepEqual(
        held.census?.standing.map(({ epoch, certain, possible }) => [epoch, certain, possible]),
        [[old, 2, 0]],
      )

      // 2. the command says the same
      const config = domain.local.founded.issuerConfig
      const asked = await rotor('census', '--config', config, '--epoch', String(old), '--json')
      const answer = JSON.parse(asked.stdout)
      assert.equal(asked.code, 1, asked.stderr)
      assert.deepEqual(answer.connections.map((c: { name: string }) => c.name).sort(), [
        'sidecar',
        'test-orders',
      ])
      assert.equal(answer.problem, null)
      const { code, stdout } = await rotor('census', '--config', config)
      assert.equal(code, 0)
      assert.match(stdout, /sidecar +spiffe:\/\/demo\/orders +client +nats-1 cid \d+/)

      // 3. with the policy for strangers, the newest servers ask it to move; the oldest can not
      await plain.close()
      if (release === 'nats-server-oldest') await sidecar.close()
      else {
        await domain.stopIssuer()
        const { policy } = JSON.parse(await readFile(config, 'utf8'))
        await editJson(config, { policy: { ...policy, strangers: { after: '1s', kick: { perSecond: 5 } } } })
        await domain.startIssuer({ retireAfter: 0 })
      }
      await domain.settled(undefined, (now) => now.authorities.length === 1)
      if (release === 'nats-server-oldest') return
      const types = heard.sidecar.filter((type) => ['ldm', 'disconnect', 'reconnect'].includes(type))
      assert.deepEqual(types, ['ldm', 'disconnect', 'reconnect'])
      assert.ok(!heard.library.some((type) => ['ldm', 'disconnect'].includes(type)), heard.library.join())
      await sidecar.flush()
      const moved = domain.logs.filter((line) => line.includes('was asked to move'))
      assert.deepEqual(
        moved.map((line) => JSON.parse(line)).map(({ asked: what, name }) => `${what} ${name}`),
        ['LDM sidecar', 'KICK sidecar'],
      )
    })
  })
}

/** What the connection tells, as it comes. */
function statuses(nc: NatsConnection): string[] {
  const heard: string[] = []
  void (async () => {
    for await (const { type } of nc.status()) heard.push(type)
  })()
  return heard
}
