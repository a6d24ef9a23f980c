/** Connections that a service made itself, with this release of nats.js or the one before: they are moved like ours. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { type ConsumerMessages, connect as connect2, type NatsConnection as NatsConnection2 } from 'nats'
import { CONSUME_AHEAD, type StoredMessage, type Stores } from '../../bench/load/client.ts'
import { startLoadCluster } from '../../bench/load/cluster.ts'
import { FLOWS } from '../../bench/load/flows.ts'
import { startLoad } from '../../bench/load/load.ts'
import { adopt } from '../../src/connection/connect.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { sleep } from '../../src/time.ts'
import { eventually } from '../support/eventually.ts'
import { type MonitoredServer, startMonitoredServer } from '../support/monitored-server.ts'

const MOVES = 20
const RATE = 1000
/** Of a request, milliseconds: a slow machine is no lost message. */
const PATIENCE = 15_000
/** No move by itself within the test. */
const NEVER = 3_600_000
const patience = () => AbortSignal.timeout(20_000)

/** Its consumers go on looking for heartbeats after the connection was closed, so somebody has to end them. */
class Stores2 implements Stores {
  readonly #nc: NatsConnection2
  readonly #consuming: ConsumerMessages[] = []

  constructor(nc: NatsConnection2) {
    this.#nc = nc
  }

  async consume(stream: string, durable: string, callback: (message: StoredMessage) => void): Promise<void> {
    const consumer = await this.#nc.jetstream().consumers.get(stream, durable)
    this.#consuming.push(await consumer.consume({ max_messages: CONSUME_AHEAD, callback }))
  }

  async watch(bucket: string, options: { key: string; resumeFromRevision?: number }) {
    const kv = await this.#nc.jetstream().views.kv(bucket)
    return await kv.watch(options)
  }

  async close(): Promise<void> {
    await Promise.all(this.#consuming.map((messages) => messages.close()))
  }
}

/** As a service gives them to its client. */
const strings = ({ key, certificate: cert, ca }: IdentitySnapshot) => ({
  key,
  cert,
  ca,
  // the trust file holds authorities, no root
  allowPartialTrustChain: true,
  host: '127.0.0.1',
})

describe('a connection of nats 2.29 that was adopted', () => {
  test(`is moved ${MOVES} times under load: nothing lost, doubled, failed or out of order`, async () => {
    await using cluster = await startLoadCluster({ runs: ['adopted'] })
    const { addresses, peers: access, inboxPrefix, generations } = cluster
    await using load = await startLoad({ run: 'adopted', rate: RATE, addresses, access, patience: PATIENCE })
    const servers = addresses.slice(0, 1)
    const nc = await connect2({
      servers,
      inboxPrefix,
      tls: strings(generations[0]),
      maxReconnectAttempts: -1,
    })
    const stores = new Stores2(nc)
    try {
      const identity = new HeldIdentity(generations[0])
      const follower = await adopt(nc, identity, { name: 'orders', spread: NEVER })
      const stop = await load.useClient(nc, stores)
      await load.begin()
      const server = nc.info?.server_id
      for (let round = 1; round <= MOVES; round++) {
        const next = generations[round % 2 === 0 ? 0 : 1]
        identity.set(next)
        const words = await follower.follow(next, patience())
        assert.match(words, /^handed over in \d+ ms$/)
      }
      const { plainPerSecond, ...flows } = await load.finish()
      await stop()
      assert.ok(plainPerSecond > RATE / 10, `${plainPerSecond} messages per second`)
      for (const name of FLOWS) {
        const { lost, duplicated, reordered, corrupt, failed, redelivered, reasons } = flows[name]
        const found = { lost, duplicated, reordered, corrupt, failed, redelivered }
        const none = { lost: 0, duplicated: 0, reordered: 0, corrupt: 0, failed: 0, redelivered: 0 }
        assert.deepEqual(found, none, `${name}: ${JSON.stringify(reasons)}`)
      }
      assert.equal(nc.info?.server_id, server)
    } finally {
      await stores.close()
      await nc.close()
    }
  })
})

describe('adopt()', () => {
  let server: MonitoredServer
  let folder: string
  let first: IdentitySnapshot
  let second: IdentitySnapshot
  before(async () => {
    server = await startMonitoredServer()
    ;[first, second] = server.generations
    folder = await mkdtemp(join(tmpdir(), 'rotor-adopt-'))
    for (const [name, text] of [
      ['tls.key', first.key],
      ['tls.crt', first.certificate],
      ['ca.pem', first.ca],
    ] as const)
      await writeFile(join(folder, name), text, { mode: 0o600 })
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })

  const files = () => ({
    keyFile: join(folder, 'tls.key'),
    certFile: join(folder, 'tls.crt'),
    caFile: join(folder, 'ca.pem'),
    allowPartialTrustChain: true,
    host: '127.0.0.1',
  })
  const options = (name: string, tls: object) => ({
    servers: [server.address],
    name,
    tls,
    reconnectTimeWait: 50,
    maxReconnectAttempts: -1,
  })
  /** Leaves on which the server sees connections of this name. */
  const seen = async (name: string): Promise<string[]> =>
    (await server.connections()).filter((one) => one.name === name).map(({ leaf }) => leaf)

  const clients: readonly { readonly client: string; dial(name: string, tls: object): Promise<Either> }[] = [
    { client: 'nats 2.29', dial: (name, tls) => connect2(options(name, tls)) },
    { client: '@nats-io/transport-node 3.4', dial: (name, tls) => connect(options(name, tls)) },
  ]

  for (const { client, dial } of clients) {
    for (const [how, tls] of [
      ['strings', () => strings(first)],
      ['files', files],
    ] as const) {
      test(`a connection of ${client} made with ${how} on another leaf is moved at once, and follows`, async () => {
        const name = `${client} ${how}`
        const nc = await dial(name, tls())
        try {
          assert.deepEqual(await seen(name), [first.leaf.sha256])
          const identity = new HeldIdentity(second)
          const follower = await adopt(nc, identity, { spread: 0 })
          await eventually(async () => (await seen(name)).length === 1)
          assert.deepEqual(await seen(name), [second.leaf.sha256])
          assert.equal(follower.name, name)
          assert.deepEqual(identity.followers(), [follower])
          assert.deepEqual(
            identity.usage().map(({ generation, sockets }) => ({ generation, sockets })),
            [{ generation: 'second', sockets: 1 }],
          )
          assert.equal(await adopt(nc, identity), follower, 'once is enough')
          await answers(nc)
          identity.set(first)
          await eventually(async () => (await seen(name)).join() === first.leaf.sha256)
          await answers(nc)
        } finally {
          await nc.close()
        }
      })
    }

    test(`a connection of ${client} that is on the leaf already is not moved`, async () => {
      const name = `${client} stays`
      const nc = await dial(name, strings(first))
      try {
        const named = async () => (await server.connections()).filter((one) => one.name === name)
        const before = await named()
        await adopt(nc, new HeldIdentity(first))
        assert.deepEqual(await named(), before)
      } finally {
        await nc.close()
      }
    })

    test(`the client's own reconnects use the newest identity: ${client}`, async () => {
      const name = `${client} reconnects`
      const nc = await dial(name, files())
      try {
        const identity = new HeldIdentity(first)
        await adopt(nc, identity, { spread: NEVER })
        const got: string[] = []
        nc.subscribe('after.restart', {
          callback: (_, { data }) => void got.push(Buffer.from(data).toString()),
        })
        identity.set(second)
        await server.kill()
        await eventually(() => identity.usage().length === 0)
        await server.startAgain()
        await eventually(async () => (await seen(name)).join() === second.leaf.sha256)
        await eventually(() => identity.usage()[0]?.generation === 'second')
        nc.publish('after.restart', 'here')
        await eventually(() => got.join() === 'here')
      } finally {
        await nc.close()
      }
    })

    test(`when the server refuses the new leaf, the connection of ${client} is left as it was`, async () => {
      const name = `${client} refused`
      const nc = await dial(name, strings(first))
      try {
        const before = Reflect.get(Reflect.get(nc, 'options'), 'tls')
        const stranger = await strangerOf(server)
        const identity = new HeldIdentity(stranger)
        await assert.rejects(adopt(nc, identity, { timeout: 2000 }), { code: 'ERR_HANDOFF_FAILED' })
        assert.equal(Reflect.get(Reflect.get(nc, 'options'), 'tls'), before)
        assert.deepEqual(identity.followers(), [])
        await answers(nc)
        await eventually(async () => (await seen(name)).join() === first.leaf.sha256)
        await adopt(nc, new HeldIdentity(second))
        await eventually(async () => (await seen(name)).join() === second.leaf.sha256)
      } finally {
        await nc.close()
      }
    })
  }
})

describe('a client whose inside is unknown', () => {
  let server: MonitoredServer
  before(async () => {
    server = await startMonitoredServer()
  })
  after(async () => await server[Symbol.asyncDispose]())

  for (const client of ['nats 2.29', '@nats-io/transport-node 3.4']) {
    test(`is moved by reconnecting, and no publish or request made meanwhile is lost: ${client}`, async () => {
      const [first, second] = server.generations
      const options = { servers: [server.address], name: client, tls: strings(first), reconnectTimeWait: 50 }
      const inner = client === 'nats 2.29' ? await connect2(options) : await connect(options)
      const other = await connect({ servers: [server.address], tls: strings(second) })
      try {
        const nc = withoutInside(inner)
        const got: number[] = []
        other.subscribe('numbers', { callback: (_, message) => void got.push(Number(message.string())) })
        other.subscribe('echo', { callback: (_, message) => void message.respond(message.data) })
        await other.flush()

        const identity = new HeldIdentity(first)
        const follower = await adopt(nc, identity, { spread: NEVER })
        let published = 0
        for (const next of [second, first, second]) {
          const requests: Promise<{ readonly data: Uint8Array }>[] = []
          identity.set(next)
          let moving = true
          const moved = follower.follow(next, patience()).finally(() => {
            moving = false
          })
          // within one turn it has begun: what is asked from here on is asked during the move
          await new Promise(setImmediate)
          for (let turn = 0; moving; turn++) {
            nc.publish('numbers', String(published++))
            if (turn % 10 === 0) {
              requests.push(nc.request('echo', 'mux', { timeout: 5000 }))
              requests.push(nc.request('echo', 'one', { timeout: 5000, noMux: true }))
            }
            await sleep(1)
          }
          assert.equal(await moved, 'reconnected')
          const answers = (await Promise.all(requests)).map(({ data }) => Buffer.from(data).toString())
          assert.deepEqual(new Set(answers), new Set(['mux', 'one']))
          await eventually(async () =>
            (await server.connections()).some(
              ({ name, leaf }) => name === client && leaf === next.leaf.sha256,
            ),
          )
        }
        await inner.flush()
        await eventually(() => got.length >= published)
        await other.flush()
        assert.deepEqual(
          got,
          Array.from({ length: published }, (_, i) => i),
        )
      } finally {
        await inner.close()
        await other.close()
      }
    })
  }

  test('what is held when the connection is closed is not left waiting', async () => {
    const [first, second] = server.generations
    const inner = await connect({ servers: [server.address], tls: strings(first), reconnectTimeWait: 50 })
    const nc = withoutInside(inner)
    const identity = new HeldIdentity(first)
    const follower = await adopt(nc, identity, { spread: NEVER })
    identity.set(second)
    const moved = follower.follow(second, patience())
    await new Promise(setImmediate)
    const asked = nc.request('nobody', '', { timeout: 5000 })
    asked.catch(() => {})
    await inner.close()
    await assert.rejects(asked, /closed/i)
    await assert.rejects(moved, { code: 'ERR_HANDOFF_FAILED' })
    assert.throws(() => nc.publish('nobody'), /closed/i)
  })
})

type Either = NatsConnection | NatsConnection2

/** What every client of NATS offers, and nothing that a handoff needs. */
function withoutInside<C extends Either>(nc: C): C {
  return new Proxy(nc, {
    get(target, name) {
      if (name === 'protocol') return undefined
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** It still publishes, subscribes and asks. */
async function answers(nc: Either): Promise<void> {
  const sub = nc.subscribe('are.you.there', { callback: (_, message) => void message.respond('yes') })
  const { data } = await nc.request('are.you.there', '', { timeout: 5000 })
  assert.equal(Buffer.from(data).toString(), 'yes')
  sub.unsubscribe()
}

/** Of an authority that the server does not trust. */
async function strangerOf({ domain, generations: [first] }: MonitoredServer): Promise<IdentitySnapshot> {
  const epoch = domain.epoch + 1
  const known = domain.authorities.some((authority) => authority.epoch === epoch)
  if (!known) await domain.addAuthority(epoch, { notBefore: domain.now - 60_000 })
  const { keyPem, chainPem, certificate } = await domain.leaf({ name: 'client', epoch })
  return { ...first, key: keyPem, certificate: chainPem, leaf: certificate, generation: 'stranger' }
}
