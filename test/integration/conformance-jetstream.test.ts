/** What the JetStream and KV packages promise on a connection, kept while it is handed over again and again. */
import assert from 'node:assert/strict'
import {
  AckPolicy,
  type ConsumerMessages,
  type ConsumerNotification,
  DeliverPolicy,
  type JsMsg,
  jetstream,
  jetstreamManager,
} from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { bothWays, type Room } from '../support/conformance.ts'
import { eventually } from '../support/eventually.ts'

const counted = (count: number): string[] => Array.from({ length: count }, (_, i) => `${i}`)
/** Longer than any case: a message that is not acknowledged in time would hide that an ack was lost. */
const ACK_WAIT = 60_000 * 1e6

/** A stream of this case with a consumer that wants acks, made by the connection beside. */
async function stage({ peer, at }: Room) {
  const jsm = await jetstreamManager(peer)
  await jsm.streams.add({ name: at, subjects: [`${at}.>`] })
  const config = { durable_name: 'c', ack_policy: AckPolicy.Explicit, ack_wait: ACK_WAIT }
  await jsm.consumers.add(at, config)
  const publisher = jetstream(peer)
  return {
    /** Publishes until two handoffs have passed; returns how many. */
    publish: async (whileMoving: Room['whileMoving']) =>
      await whileMoving(async (i) => void (await publisher.publish(`${at}.x`, `${i}`))),
    fill: async (count: number) => {
      for (let i = 0; i < count; i++) await publisher.publish(`${at}.x`, `${i}`)
    },
    info: async () => await jsm.consumers.info(at, 'c'),
    jsm,
  }
}

const consumerOf = (nc: NatsConnection, stream: string) => jetstream(nc).consumers.get(stream, 'c')

/** What a consumer says of itself until it is closed. */
function listen(messages: ConsumerMessages): ConsumerNotification[] {
  const said: ConsumerNotification[] = []
  const read = async () => {
    for await (const one of messages.status()) said.push(one)
  }
  void read()
  return said
}

bothWays({ config: 'jetstream { store_dir: "jetstream" }' }, (promises) => {
  promises('publish: each is stored once and in order', async (room) => {
    const { nc, at, whileMoving } = room
    const { jsm } = await stage(room)
    const js = jetstream(nc)
    const pending: Promise<{ seq: number; duplicate: boolean }>[] = []
    const count = await whileMoving((i) => {
      for (let k = 0; k < 3; k++)
        pending.push(js.publish(`${at}.x`, `${3 * i + k}`, { timeout: 5000, retries: 1 }))
    })
    const acks = await Promise.all(pending)
    assert.deepEqual(
      acks.map(({ seq, duplicate }) => [seq, duplicate]),
      acks.map((_, i) => [i + 1, false]),
    )
    const { state } = await jsm.streams.info(at)
    assert.equal(state.messages, 3 * count)
  })

  promises('publish: the same message ID twice is one message', async (room) => {
    const { nc, at, whileMoving } = room
    const { jsm } = await stage(room)
    const js = jetstream(nc)
    const count = await whileMoving(async (i) => {
      const first = await js.publish(`${at}.x`, '', { msgID: `${i}` })
      const again = await js.publish(`${at}.x`, '', { msgID: `${i}` })
      assert.deepEqual([first.duplicate, again.duplicate, again.seq], [false, true, first.seq])
    })
    await assert.rejects(js.publish(`${at}.x`, '', { expect: { lastSequence: 1_000_000 } }))
    assert.equal((await jsm.streams.info(at)).state.messages, count)
  })

  promises('consume: each message once, in order, no ack is lost', async (room) => {
    const { nc, at, whileMoving } = room
    const { publish, info } = await stage(room)
    const messages = await (await consumerOf(nc, at)).consume({ max_messages: 20 })
    const got: string[] = []
    const reading = (async () => {
      for await (const msg of messages) {
        assert.ok(!msg.redelivered)
        got.push(msg.string())
        msg.ack()
      }
    })()
    const sent = await publish(whileMoving)
    await eventually(() => got.length >= sent)
    await nc.flush()
    await eventually(async () => (await info()).num_ack_pending === 0)
    await messages.close()
    await reading
    assert.deepEqual(got, counted(sent))
    const { num_redelivered: again, num_pending: left, ack_floor: floor } = await info()
    assert.deepEqual([again, left, floor.stream_seq], [0, 0, sent])
  })

  promises('consume with a callback: the same', async (room) => {
    const { nc, at, whileMoving } = room
    const { publish, info } = await stage(room)
    const got: string[] = []
    const callback = (msg: JsMsg) => {
      got.push(msg.string())
      msg.ack()
    }
    const messages = await (await consumerOf(nc, at)).consume({ max_messages: 50, callback })
    const sent = await publish(whileMoving)
    await eventually(() => got.length >= sent)
    await eventually(async () => (await info()).num_ack_pending === 0)
    await messages.close()
    assert.deepEqual(got, counted(sent))
    assert.equal((await info()).num_redelivered, 0)
  })

  promises('an ack of a message that came before two handoffs is taken', async (room) => {
    const { nc, at, moves } = room
    const { fill, info } = await stage(room)
    await fill(3)
    const consumer = await consumerOf(nc, at)
    const early: JsMsg[] = []
    for await (const msg of await consumer.fetch({ max_messages: 3, expires: 5000 })) early.push(msg)
    await moves()
    assert.equal((await info()).num_ack_pending, 3)
    assert.equal(await early[0]?.ackAck(), true)
    early[1]?.working()
    early[1]?.ack()
    early[2]?.nak()
    const back = await consumer.next({ expires: 5000 })
    assert.deepEqual([back?.seq, back?.redelivered], [3, true])
    await moves()
    back?.term('enough')
    await nc.flush()
    await eventually(async () => (await info()).num_ack_pending === 0)
    assert.equal(await consumer.next({ expires: 1000 }), null)
  })

  promises('ackAck: confirmed again and again', async (room) => {
    const { nc, at, whileMoving } = room
    const { fill, info } = await stage(room)
    await fill(600)
    const consumer = await consumerOf(nc, at)
    const count = await whileMoving(async (i) => {
      const msg = await consumer.next({ expires: 5000 })
      assert.equal(msg?.string(), `${i}`)
      assert.equal(await msg?.ackAck(), true)
    })
    const { ack_floor: floor, num_redelivered: again } = await info()
    assert.deepEqual([floor.stream_seq, again], [count, 0])
  })

  promises('fetch: as many as asked for, none twice; what is not there is waited for', async (room) => {
    const { nc, peer, at, whileMoving, moves } = room
    const { fill, info } = await stage(room)
    await fill(2000)
    const consumer = await consumerOf(nc, at)
    const got: string[] = []
    await whileMoving(async (i) => {
      if (i >= 100) return
      const batch: string[] = []
      for await (const msg of await consumer.fetch({ max_messages: 20, expires: 5000 })) {
        batch.push(msg.string())
        msg.ack()
      }
      assert.equal(batch.length, 20)
      got.push(...batch)
    })
    assert.deepEqual(got, counted(got.length))
    for await (const msg of await consumer.fetch({ max_messages: 2000 - got.length || 1, expires: 1000 }))
      msg.ack()
    await eventually(async () => (await info()).num_ack_pending === 0)
    const late = consumer.next({ expires: 20_000 })
    await moves()
    await jetstream(peer).publish(`${at}.x`, 'late')
    assert.equal((await late)?.string(), 'late')
  })

  promises('an ordered consumer: in order, without a gap', async (room) => {
    const { nc, at, whileMoving } = room
    const { publish } = await stage(room)
    const consumer = await jetstream(nc).consumers.get(at, { deliver_policy: DeliverPolicy.All })
    const messages = await consumer.consume()
    const got: JsMsg[] = []
    const reading = (async () => {
      for await (const msg of messages) got.push(msg)
    })()
    const said = listen(messages)
    const sent = await publish(whileMoving)
    await eventually(() => got.length >= sent)
    assert.deepEqual(
      got.map((msg) => msg.string()),
      counted(sent),
    )
    assert.deepEqual(
      got.map(({ seq, info }) => [seq, info.deliverySequence]),
      got.map((_, i) => [i + 1, i + 1]),
    )
    assert.deepEqual(
      said.filter(({ type }) => type === 'ordered_consumer_recreated' || type === 'heartbeats_missed'),
      [],
    )
    await messages.close()
    await reading
  })

  promises('heartbeats of a consumer that has nothing to do arrive', async (room) => {
    const { nc, at, moves } = room
    const { fill } = await stage(room)
    const got: string[] = []
    const messages = await (await consumerOf(nc, at)).consume({
      // two that are missed are told: a busy machine may sleep for a second
      idle_heartbeat: 1500,
      expires: 6000,
      callback: (msg) => {
        got.push(msg.string())
        msg.ack()
      },
    })
    const said = listen(messages)
    await eventually(() => said.filter(({ type }) => type === 'heartbeat').length >= 3, { timeout: 20_000 })
    await moves()
    await fill(5)
    await eventually(() => got.length === 5)
    assert.deepEqual(
      said.filter(({ type }) => type !== 'heartbeat' && type !== 'next' && type !== 'debug'),
      [],
    )
    await messages.close()
  })

  promises('KV: put, get, update, delete', async ({ nc, at, whileMoving }) => {
    const kv = await new Kvm(nc).create(at, { history: 5 })
    await whileMoving(async (i) => {
      const revision = await kv.put('a', `${i}`)
      const entry = await kv.get('a')
      assert.deepEqual([entry?.string(), entry?.revision], [`${i}`, revision])
      const next = await kv.update('a', `${i}+`, revision)
      assert.equal(next, revision + 1)
      await assert.rejects(kv.update('a', 'late', revision), /wrong last sequence/)
      assert.equal((await kv.get('a', { revision }))?.string(), `${i}`)
    })
    await kv.delete('a')
    assert.equal((await kv.get('a'))?.operation, 'DEL')
    assert.equal(await kv.create('b', 'new'), (await kv.get('b'))?.revision)
    const keys: string[] = []
    for await (const key of await kv.keys()) keys.push(key)
    assert.deepEqual(keys, ['b'])
  })

  promises('KV: a watch sees every change once and in order', async ({ nc, peer, at, whileMoving }) => {
    const writer = await new Kvm(peer).create(at, { history: 1 })
    await writer.put('k.first', 'before')
    const watch = await (await new Kvm(nc).open(at)).watch({ key: 'k.>' })
    const seen: [string, number][] = []
    const reading = (async () => {
      for await (const { key, revision } of watch) seen.push([key, revision])
    })()
    const count = await whileMoving(async (i) => void (await writer.put(`k.${i}`, `${i}`)))
    await writer.put('other', 'x')
    await eventually(() => seen.length >= count + 1)
    await nc.flush()
    assert.deepEqual(seen, [['k.first', 1], ...counted(count).map((i) => [`k.${i}`, Number(i) + 2])])
    watch.stop()
    await reading
  })

  promises('KV: history', async ({ nc, at, whileMoving }) => {
    const kv = await new Kvm(nc).create(at, { history: 10 })
    for (let i = 0; i < 10; i++) await kv.put('h', `${i}`)
    // its consumer sends as soon as anybody has subscribed, so each SUB counts, whenever it comes
    const read = async () => {
      const values: string[] = []
      for await (const entry of await kv.history({ key: 'h' })) values.push(entry.string())
      assert.deepEqual(values, counted(10))
    }
    for (let i = 0; i < 4; i++) await whileMoving(read)
  })

  promises('streams and consumers are made, listed, purged and deleted', async ({ nc, at, whileMoving }) => {
    const jsm = await jetstreamManager(nc)
    await whileMoving(async (i) => {
      const name = `${at}-${i}`
      await jsm.streams.add({ name, subjects: [`${name}.>`] })
      await jsm.consumers.add(name, { durable_name: 'd', ack_policy: AckPolicy.Explicit })
      await jetstream(nc).publish(`${name}.a`, 'x')
      const names: string[] = []
      for await (const { config } of jsm.streams.list()) names.push(config.name)
      assert.ok(names.includes(name))
      assert.equal((await jsm.streams.purge(name)).purged, 1)
      assert.ok(await jsm.streams.delete(name))
    })
  })
})
