/**
 * The accounts block on real servers, oldest and newest: every action of issuer and agents is allowed with nats.js,
 * and what is not theirs is refused by the server.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager, StorageType } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { connect, type Msg, type NatsConnection, nanos } from '@nats-io/transport-node'
import { keysUnder } from '../../src/nats/bucket.ts'
import { MEMBER_PREFIX, memberKey, TOKEN_PREFIX, tokenKey } from '../../src/wire/enrolment.ts'
import { domainNames } from '../../src/wire/names.ts'
import { eventually } from '../support/eventually.ts'
import { RELEASES, startTestCluster, type TestCluster } from '../support/test-cluster.ts'
import { makeTestDomain, type TestDomain } from '../support/test-domain.ts'

const DOMAIN = 'prod'
const names = domainNames(DOMAIN)

const USERS = [
  { name: 'issuer-1', role: 'issuer' },
  { name: 'nats-1', role: 'server' },
  {
    name: 'orders',
    role: 'service',
    publish: ['demo.orders.>'],
    subscribe: ['demo.requests.*'],
    streams: ['DEMO'],
  },
  { name: 'billing', role: 'service' },
] as const

for (const release of RELEASES) {
  describe(`accounts block on ${release}`, { timeout: 60_000 }, () => {
    let domain: TestDomain
    let cluster: TestCluster
    let issuer: NatsConnection
    let server: NatsConnection
    let orders: NatsConnection
    let billing: NatsConnection

    before(async () => {
      domain = await makeTestDomain({ domain: DOMAIN })
      cluster = await startTestCluster({ domain, release, users: USERS })
      issuer = await cluster.connect('issuer-1')
      server = await cluster.connect('nats-1')
      orders = await cluster.connect('orders')
      billing = await cluster.connect('billing')
      await createRecords(issuer)
    })
    after(async () => {
      await cluster?.[Symbol.asyncDispose]()
    })

    /** As the agent of the server does it. */
    async function reload(): Promise<void> {
      const id = (await ask(server, '$SYS.REQ.SERVER.PING')).server.id
      const loaded = async () => (await ask(server, `$SYS.REQ.SERVER.${id}.VARZ`)).data.config_load_time
      const before = await loaded()
      const request = `$SYS.REQ.SERVER.${id}.RELOAD`
      if (release === 'nats-server-oldest') {
        // before 2.10 there is no such request, and through an import nothing says so: SIGHUP it is
        await assert.rejects(ask(server, request, undefined, 300), { name: 'TimeoutError' })
        cluster.servers[0]?.kill('SIGHUP')
      } else {
        assert.equal((await ask(server, request)).error, undefined)
      }
      await eventually(async () => (await loaded()) !== before)
    }

    test('a bundle of the issuer reaches an agent through its own durable consumer', async () => {
      await jetstream(issuer).publish(names.bundleSubject, 'bundle 1', {
        msgID: names.messageId(1),
        expect: { lastSubjectSequence: 0 },
      })
      const jsm = await jetstreamManager(orders, { checkAPI: false })
      await jsm.consumers.add(names.bundleStream, consumerConfig('orders'))
      const consumer = await jetstream(orders).consumers.get(names.bundleStream, names.consumer('orders'))
      const first = await consumer.next({ expires: 5000 })
      assert.equal(first?.string(), 'bundle 1')
      first.working()
      assert.equal(await first.ackAck(), true)
      await jetstream(issuer).publish(names.bundleSubject, 'bundle 2', { msgID: names.messageId(2) })
      const messages = await consumer.consume({ max_messages: 1 })
      for await (const message of messages) {
        assert.equal(message.string(), 'bundle 2')
        message.ack()
        break
      }
      await messages.close()
    })

    test('the issuer answers signing, turn, time and order requests', async () => {
      const subjects = [names.signSubject('*'), names.turnSubject('*'), names.timeSubject, names.orderSubject]
      const subscriptions = subjects.map((subject) =>
        issuer.subscribe(subject, {
          queue: names.issuers,
          callback: (_, message) => {
            message.respond(`answer to ${message.subject}`)
          },
        }),
      )
      await issuer.flush()
      const answer = await orders.request(names.signSubject('orders'), 'csr', { timeout: 2000 })
      assert.equal(answer.string(), `answer to ${names.signSubject('orders')}`)
      assert.equal(
        (await server.request(names.turnSubject('nats-1'), 'acquire', { timeout: 2000 })).data.length > 0,
        true,
      )
      assert.equal(
        (await issuer.request(names.orderSubject, 'rotate', { timeout: 2000 })).data.length > 0,
        true,
      )
      const time = await orders.request(names.timeSubject, '', { timeout: 2000 })
      assert.equal(time.string(), `answer to ${names.timeSubject}`)
      for (const subscription of subscriptions) subscription.unsubscribe()
    })

    test('the issuer watches what the agents publish to their own status keys', async () => {
      const status = await new Kvm(issuer).open(names.statusBucket)
      const watch = await status.watch()
      await jetstream(orders).publish(names.statusSubject('orders'), 'fine')
      for await (const entry of watch) {
        assert.equal(entry.key, 'orders')
        assert.equal(entry.string(), 'fine')
        break
      }
      watch.stop()
      assert.equal((await status.get('orders'))?.string(), 'fine')
      await status.purge('orders')
    })

    test('the issuer keeps the rotation state by compare-and-set', async () => {
      const state = await new Kvm(issuer).open(names.stateBucket)
      const revision = await state.create('rotation', 'one')
      await state.update('rotation', 'two', revision)
      await assert.rejects(state.update('rotation', 'three', revision))
      assert.equal((await state.get('rotation'))?.string(), 'two')
    })

    test('the issuer finds every server and reads its connections', async () => {
      const found = await ask(issuer, '$SYS.REQ.SERVER.PING')
      assert.equal(found.server.name, 'nats-1')
      const id = String(found.server.id)
      const { data: connz } = await ask(issuer, `$SYS.REQ.SERVER.${id}.CONNZ`, { auth: true })
      const users = connz.connections.map((each: { authorized_user: string }) => each.authorized_user)
      assert.deepEqual(users.toSorted(), USERS.map(({ name }) => names.spiffeId(name)).toSorted())
      assert.equal((await ask(issuer, `$SYS.REQ.SERVER.${id}.VARZ`)).data.server_name, 'nats-1')
      assert.equal((await ask(issuer, `$SYS.REQ.SERVER.${id}.ROUTEZ`)).data.num_routes, 0)
      assert.deepEqual((await ask(issuer, `$SYS.REQ.SERVER.${id}.GATEWAYZ`)).data.outbound_gateways, {})
      assert.equal((await ask(issuer, `$SYS.REQ.SERVER.${id}.LEAFZ`)).data.leafnodes, 0)
      assert.equal(typeof (await ask(issuer, `$SYS.REQ.SERVER.${id}.JSZ`)).data.streams, 'number')
      // from 2.10 on, and nobody has this id
      if (release === 'nats-server-oldest') return
      for (const what of ['LDM', 'KICK']) {
        const { error } = await ask(issuer, `$SYS.REQ.SERVER.${id}.${what}`, { cid: 999_999 })
        assert.match(error.description, /no such client/)
      }
    })

    test('the agent of a server asks for a reload and reads the reason of a refusal', async () => {
      await reload()
      if (release === 'nats-server-oldest') return
      const subject = `$SYS.REQ.SERVER.${server.info?.server_id}.RELOAD`
      await writeFile(join(cluster.folder, 'nats-1', 'ca.pem'), 'no certificate')
      const { error } = await ask(server, subject)
      assert.match(error.description, /ca\.pem|certificate/)
      await writeFile(join(cluster.folder, 'nats-1', 'ca.pem'), domain.authority().certificate.pem)
    })

    test('a request that is under way during a reload is answered', async () => {
      const arrived = Promise.withResolvers<Msg>()
      const subscription = issuer.subscribe(names.signSubject('*'), {
        callback: (_, message) => arrived.resolve(message),
      })
      await issuer.flush()
      const answer = orders.request(names.signSubject('orders'), 'csr', { timeout: 5000 })
      const message = await arrived.promise
      await reload()
      message.respond('signed')
      assert.equal((await answer).string(), 'signed')
      subscription.unsubscribe()
    })

    test('a service may use its own subjects and streams', async () => {
      const jsm = await jetstreamManager(orders, { checkAPI: false })
      await jsm.streams.add({ name: 'DEMO', subjects: ['demo.orders.>'] })
      await jetstream(orders).publish('demo.orders.1', 'hello')
      await jsm.consumers.add('DEMO', { durable_name: 'worker', ack_policy: AckPolicy.Explicit })
      const consumer = await jetstream(orders).consumers.get('DEMO', 'worker')
      const message = await consumer.next({ expires: 5000 })
      assert.equal(message?.string(), 'hello')
      assert.equal(await message.ackAck(), true)
    })

    test('the issuer keeps tokens and members, lists them, and clears away what a removed agent left', async () => {
      const state = await new Kvm(issuer).open(names.stateBucket)
      await state.create(tokenKey('0123456789abcdef'), 'token')
      await state.create(memberKey('orders'), 'member')
      assert.deepEqual(await keysUnder(issuer, names.stateBucket, TOKEN_PREFIX), ['join.0123456789abcdef'])
      assert.deepEqual(await keysUnder(issuer, names.stateBucket, MEMBER_PREFIX), ['agent.orders'])
      assert.deepEqual(await keysUnder(issuer, names.stateBucket, 'nothing.'), [])
      const status = await new Kvm(issuer).open(names.statusBucket)
      await status.purge('orders')
      const jsm = await jetstreamManager(issuer)
      await jsm.consumers.add(names.bundleStream, consumerConfig('left'))
      assert.equal(await jsm.consumers.delete(names.bundleStream, names.consumer('left')), true)
      const answering = issuer.subscribe(names.enrolSubject, {
        queue: names.issuers,
        callback: (_, message) => {
          message.respond('answer')
        },
      })
      assert.equal((await issuer.request(names.enrolSubject, 'list', { timeout: 2000 })).string(), 'answer')
      answering.unsubscribe()
    })

    const refusals: [string, (name: 'orders' | 'nats-1') => string][] = [
      ['make or list tokens, or remove an agent', () => names.enrolSubject],
      ['write a token', () => `$KV.${names.stateBucket}.${tokenKey('0123456789abcdef')}`],
      ['register itself', (name) => `$KV.${names.stateBucket}.${memberKey(name)}`],
      [
        'read a token',
        () =>
          `$JS.API.DIRECT.GET.KV_${names.stateBucket}.$KV.${names.stateBucket}.${tokenKey('0123456789abcdef')}`,
      ],
      ['read tokens by their sequence', () => `$JS.API.STREAM.MSG.GET.KV_${names.stateBucket}`],
      ['list tokens by their subjects', () => `$JS.API.STREAM.INFO.KV_${names.stateBucket}`],
      ['watch tokens and members', () => `$JS.API.CONSUMER.CREATE.KV_${names.stateBucket}`],
      ['publish a bundle', () => names.bundleSubject],
      ['publish an order', () => names.orderSubject],
      ['ask for a signature in the name of another', () => names.signSubject('billing')],
      ['take the turn of another', () => names.turnSubject('billing')],
      ['write the status of another', () => names.statusSubject('billing')],
      ['write the rotation state', () => `$KV.${names.stateBucket}.rotation`],
      [
        'read a bucket',
        () => `$JS.API.DIRECT.GET.KV_${names.statusBucket}.${names.statusSubject('billing')}`,
      ],
      ['create a stream', () => '$JS.API.STREAM.CREATE.MINE'],
      ['delete the bundle stream', () => `$JS.API.STREAM.DELETE.${names.bundleStream}`],
      ['purge the bundle stream', () => `$JS.API.STREAM.PURGE.${names.bundleStream}`],
      [
        'delete the consumer of another',
        () => `$JS.API.CONSUMER.DELETE.${names.bundleStream}.${names.consumer('billing')}`,
      ],
      [
        'create a consumer in the name of another',
        () =>
          `$JS.API.CONSUMER.CREATE.${names.bundleStream}.${names.consumer('billing')}.${names.bundleSubject}`,
      ],
      [
        'create a consumer without the filter',
        (name) => `$JS.API.CONSUMER.CREATE.${names.bundleStream}.${names.consumer(name)}`,
      ],
      [
        'pull from the consumer of another',
        () => `$JS.API.CONSUMER.MSG.NEXT.${names.bundleStream}.${names.consumer('billing')}`,
      ],
      [
        'acknowledge for another',
        () => `$JS.ACK.${names.bundleStream}.${names.consumer('billing')}.1.1.1.1.1`,
      ],
      ['list connections', () => '$SYS.REQ.SERVER.PING.CONNZ'],
      ['list the connections of a server', () => `$SYS.REQ.SERVER.${issuer.info?.server_id}.CONNZ`],
      ['close a connection', () => `$SYS.REQ.SERVER.${issuer.info?.server_id}.KICK`],
      ['send a connection away', () => `$SYS.REQ.SERVER.${issuer.info?.server_id}.LDM`],
    ]
    for (const [action, subject] of refusals) {
      test(`neither a service nor the agent of a server may ${action}`, async () => {
        await assertRefused(orders, subject('orders'))
        await assertRefused(server, subject('nats-1'))
      })
    }

    test('a service may not reload a server, and the issuer neither', async () => {
      const subject = `$SYS.REQ.SERVER.${orders.info?.server_id}.RELOAD`
      await assertRefused(orders, subject)
      await assertRefused(issuer, subject)
    })

    test('a node that serves no requests may not publish to the inboxes of others', async () => {
      await assertRefused(billing, `${names.inbox('orders')}.x`)
      await assertRefused(server, `${names.inbox('orders')}.x`)
    })

    test('a service without traffic of its own may not touch the traffic of others', async () => {
      await assertRefused(billing, 'demo.orders.1')
      await assertSubscriptionRefused(billing, 'demo.requests.1')
    })

    for (const subject of [
      '>',
      '_INBOX.>',
      names.bundleSubject,
      names.signSubject('*'),
      `$KV.${names.statusBucket}.>`,
      `$KV.${names.stateBucket}.>`,
      names.enrolSubject,
    ]) {
      test(`an agent may not listen on ${subject}`, async () => {
        await assertSubscriptionRefused(orders, subject)
        await assertSubscriptionRefused(server, subject)
      })
    }

    test('the issuer may not delete or purge its streams', async () => {
      await assertRefused(issuer, `$JS.API.STREAM.DELETE.${names.bundleStream}`)
      await assertRefused(issuer, `$JS.API.STREAM.PURGE.KV_${names.stateBucket}`)
    })

    test('a certificate whose SPIFFE ID has no user is refused', async () => {
      await assert.rejects(cluster.connect('stranger'))
    })

    test('a client without a certificate is refused', async () => {
      const tls = { ca: domain.authority().certificate.pem, allowPartialTrustChain: true }
      await assert.rejects(
        connect({ servers: `tls://${cluster.addresses[0]}`, tls, timeout: 1000, reconnect: false }),
      )
    })
  })
}

const consumerConfig = (agent: string) => ({
  durable_name: names.consumer(agent),
  filter_subject: names.bundleSubject,
  ack_policy: AckPolicy.Explicit,
  deliver_policy: DeliverPolicy.Last,
  num_replicas: 1,
  mem_storage: true,
  inactive_threshold: nanos(3_600_000),
})

async function createRecords(issuer: NatsConnection): Promise<void> {
  const jsm = await jetstreamManager(issuer)
  await jsm.streams.add({
    name: names.bundleStream,
    subjects: [names.bundleSubject],
    storage: StorageType.File,
    deny_delete: true,
    deny_purge: true,
  })
  const kvm = new Kvm(issuer)
  await kvm.create(names.statusBucket, { history: 1 })
  await kvm.create(names.stateBucket, { history: 1 })
}

async function ask(nc: NatsConnection, subject: string, body?: object, timeout = 3000) {
  const answer = await nc.request(subject, body === undefined ? '' : JSON.stringify(body), { timeout })
  return answer.json<{
    server: { id: string; name: string }
    data: {
      connections: { authorized_user: string }[]
      config_load_time: string
      server_name: string
      num_routes: number
      outbound_gateways: object
      leafnodes: number
      streams: number
    }
    error: { description: string }
  }>()
}

/** The server answers a forbidden publish with an error, and nats.js fails the request on that subject with it. */
async function assertRefused(nc: NatsConnection, subject: string): Promise<void> {
  await assert.rejects(
    nc.request(subject, '', { timeout: 2000 }),
    /Permissions Violation for Publish/,
    subject,
  )
}

async function assertSubscriptionRefused(nc: NatsConnection, subject: string): Promise<void> {
  const refused = Promise.withResolvers<Error | null>()
  nc.subscribe(subject, { callback: (error) => refused.resolve(error) })
  await nc.flush()
  assert.match((await refused.promise)?.message ?? 'allowed', /Permissions Violation for Subscription/)
}
