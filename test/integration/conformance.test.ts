/** What nats.js promises about publishing and subscribing, kept while the connection is handed over again and again. */
import assert from 'node:assert/strict'
import {
  createInbox,
  errors,
  headers,
  type Msg,
  type NatsConnection,
  type Subscription,
  type SubscriptionOptions,
} from '@nats-io/transport-node'
import { bothWays } from '../support/conformance.ts'
import { eventually } from '../support/eventually.ts'

/** A subscription with a callback, and what it got. */
function gather(nc: NatsConnection, subject: string, options: SubscriptionOptions = {}) {
  const messages: Msg[] = []
  const problems: Error[] = []
  const callback = (error: Error | null, msg: Msg) => void (error ? problems.push(error) : messages.push(msg))
  const sub = nc.subscribe(subject, { ...options, callback })
  const texts = () => messages.map((msg) => msg.string())
  /** Returns when so many came, and what was under way besides them. */
  const got = async (count: number) => {
    await eventually(() => messages.length >= count)
    await nc.flush()
    assert.equal(messages.length, count)
  }
  return { sub, messages, problems, texts, got }
}

const counted = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `${from + i}`)

async function readAll(sub: Subscription): Promise<string[]> {
  const texts: string[] = []
  for await (const msg of sub) texts.push(msg.string())
  return texts
}

bothWays({ config: 'max_payload: 262144' }, (promises) => {
  promises('messages to itself arrive once and in order', async ({ nc, at, whileMoving }) => {
    const { texts, got } = gather(nc, at)
    const sent = await whileMoving((i) => nc.publish(at, `${i}`))
    await got(sent)
    assert.deepEqual(texts(), counted(sent))
  })

  promises('messages of others arrive once and in order', async ({ nc, peer, at, whileMoving }) => {
    const { texts, got } = gather(nc, at)
    await nc.flush()
    const sent = await whileMoving((i) => {
      peer.publish(at, `${i}`)
      return i % 8 === 0 ? peer.flush() : undefined
    })
    await peer.flush()
    await got(sent)
    assert.deepEqual(texts(), counted(sent))
  })

  promises('messages to others arrive once and in order', async ({ nc, peer, at, whileMoving }) => {
    const { texts, got, sub } = gather(peer, at)
    await peer.flush()
    const sent = await whileMoving((i) => nc.publish(at, `${i}`))
    await nc.flush()
    await got(sent)
    assert.deepEqual(texts(), counted(sent))
    sub.unsubscribe()
  })

  promises('equal messages that come now and then are as many as were sent', async (room) => {
    const { nc, peer, at, whileMoving } = room
    const { got } = gather(nc, at)
    await nc.flush()
    let sent = 0
    await whileMoving((i) => {
      if (i % 20 > 0) return
      sent += 1
      peer.publish(at)
    })
    await peer.flush()
    await got(sent)
  })

  // Without a moment in between it can not be told which of them came twice (handoff/overlap.ts).
  promises('equal messages all the time: none is lost', async ({ nc, peer, at, whileMoving }) => {
    const { messages } = gather(nc, at)
    await nc.flush()
    const sent = await whileMoving(() => {
      for (let i = 0; i < 5; i++) peer.publish(at, 'always the same')
    })
    await peer.flush()
    await eventually(() => messages.length >= 5 * sent)
    assert.ok(messages.every((msg) => msg.string() === 'always the same'))
  })

  promises('headers: every value arrives', async ({ nc, peer, at, whileMoving }) => {
    const { messages, got } = gather(nc, at)
    await nc.flush()
    const sent = await whileMoving((i) => {
      const hdrs = headers()
      hdrs.set('n', `${i}`)
      hdrs.append('list', 'a')
      hdrs.append('list', 'b')
      peer.publish(at, Uint8Array.of(0, 255, i % 256), { headers: hdrs })
    })
    await peer.flush()
    await got(sent)
    for (const [i, { headers: hdrs, data }] of messages.entries()) {
      assert.equal(hdrs?.get('n'), `${i}`)
      assert.deepEqual(hdrs?.values('list'), ['a', 'b'])
      assert.deepEqual([...data], [0, 255, i % 256])
    }
  })

  promises('empty payloads arrive, with and without headers', async ({ nc, at, whileMoving }) => {
    const { messages, got } = gather(nc, `${at}.*`)
    const sent = await whileMoving((i) => {
      const hdrs = headers()
      hdrs.set('n', `${i}`)
      if (i % 3 === 0) nc.publish(`${at}.${i}`)
      else if (i % 3 === 1) nc.publish(`${at}.${i}`, '')
      else nc.publish(`${at}.${i}`, new Uint8Array(0), { headers: hdrs })
    })
    await got(sent)
    for (const [i, { subject, data, headers: hdrs }] of messages.entries()) {
      assert.deepEqual([subject, data.length], [`${at}.${i}`, 0])
      assert.equal(hdrs?.get('n'), i % 3 === 2 ? `${i}` : undefined)
    }
  })

  promises('the largest payload arrives, one byte more is refused', async ({ nc, at, whileMoving }) => {
    const { messages, got } = gather(nc, at)
    let sent = 0
    await whileMoving(async (i) => {
      const most = nc.info?.max_payload ?? 0
      assert.equal(most, 262_144)
      if (sent < 20) {
        nc.publish(at, new Uint8Array(most).fill(i))
        sent += 1
      }
      assert.throws(() => nc.publish(at, new Uint8Array(most + 1)), errors.InvalidArgumentError)
      await nc.flush()
    })
    await got(sent)
    assert.ok(messages.every(({ data }, i) => data.length === 262_144 && data[262_143] === i))
  })

  promises('wildcards match what they should', async ({ nc, peer, at, whileMoving }) => {
    const one = gather(nc, `${at}.*.end`)
    const rest = gather(nc, `${at}.>`)
    const exact = gather(nc, `${at}.b.end`)
    await nc.flush()
    const rounds = await whileMoving((i) => {
      for (const part of ['a', 'b', 'a.c']) peer.publish(`${at}.${part}.end`, `${i}`)
    })
    await peer.flush()
    await one.got(2 * rounds)
    await rest.got(3 * rounds)
    await exact.got(rounds)
    assert.deepEqual(exact.texts(), counted(rounds))
    assert.deepEqual(
      rest.messages.map(({ subject }) => subject),
      counted(rounds).flatMap(() => ['a', 'b', 'a.c'].map((part) => `${at}.${part}.end`)),
    )
    assert.deepEqual(new Set(one.messages.map(({ sid }) => sid)), new Set([one.sub.getID()]))
  })

  promises('two subscriptions to one subject get each message once each', async (room) => {
    const { nc, peer, at, whileMoving } = room
    const both = [gather(nc, at), gather(nc, at)]
    await nc.flush()
    const sent = await whileMoving((i) => peer.publish(at, `${i}`))
    await peer.flush()
    for (const { got, texts } of both) {
      await got(sent)
      assert.deepEqual(texts(), counted(sent))
    }
  })

  promises('an iterator gives every message, and ends with its subscription', async (room) => {
    const { nc, peer, at, whileMoving } = room
    const sub = nc.subscribe(at)
    const reading = readAll(sub)
    await nc.flush()
    const sent = await whileMoving((i) => peer.publish(at, `${i}`))
    await peer.flush()
    await eventually(() => sub.getProcessed() === sent)
    assert.equal(sub.getReceived(), sent)
    assert.equal(sub.getPending(), 0)
    sub.unsubscribe()
    assert.deepEqual(await reading, counted(sent))
    assert.ok(sub.isClosed())
    await sub.closed
  })

  promises('leaving an iterator ends its subscription', async ({ nc, peer, at, moves }) => {
    const sub = nc.subscribe(at)
    await nc.flush()
    peer.publish(at, 'one')
    await moves()
    peer.publish(at, 'two')
    const seen: string[] = []
    for await (const msg of sub) {
      seen.push(msg.string())
      if (seen.length === 2) break
    }
    await sub.closed
    assert.deepEqual(seen, ['one', 'two'])
    assert.ok(sub.isClosed())
    await moves()
    peer.publish(at, 'three')
    await peer.flush()
    await nc.flush()
    assert.deepEqual(seen, ['one', 'two'])
  })

  promises(
    'subscriptions made and ended in between get exactly theirs',
    async ({ nc, peer, at, whileMoving }) => {
      await whileMoving(async (i) => {
        const { sub, messages } = gather(nc, `${at}.${i}`)
        nc.publish(`${at}.${i}`, 'own')
        await nc.flush()
        peer.publish(`${at}.${i}`, 'of another')
        await peer.flush()
        await eventually(() => messages.length === 2, { interval: 1 })
        sub.unsubscribe()
        nc.publish(`${at}.${i}`, 'late')
        await nc.flush()
        assert.deepEqual(
          messages.map((msg) => msg.string()),
          ['own', 'of another'],
        )
      })
    },
  )

  promises(
    'the only member of a queue group gets each message once',
    async ({ nc, peer, at, whileMoving }) => {
      const { messages, got } = gather(nc, at, { queue: 'workers' })
      await nc.flush()
      const sent = await whileMoving((i) => peer.publish(at, `${i}`))
      await peer.flush()
      await got(sent)
      assert.equal(new Set(messages.map((msg) => msg.string())).size, sent)
    },
  )

  promises('of several members of a queue group one gets each message', async (room) => {
    const { nc, peer, at, whileMoving } = room
    const members = [nc, nc, peer].map((member) => gather(member, at, { queue: 'workers' }))
    const other = gather(nc, at, { queue: 'others' })
    await Promise.all([nc.flush(), peer.flush()])
    const sent = await whileMoving((i) => peer.publish(at, `${i}`))
    await peer.flush()
    const all = () => members.flatMap(({ texts }) => texts())
    await eventually(() => all().length >= sent)
    await Promise.all([nc.flush(), peer.flush()])
    assert.equal(all().length, sent)
    assert.equal(new Set(all()).size, sent)
    assert.ok(members.every(({ messages }) => messages.length > 0))
    await other.got(sent)
    for (const { sub } of members) sub.unsubscribe()
  })

  promises('max: exactly so many, then closed', async ({ nc, peer, at, whileMoving, moves }) => {
    const few = gather(nc, at, { max: 10 })
    const queued = gather(nc, at, { max: 10, queue: 'q' })
    const iterated = nc.subscribe(at, { max: 10 })
    const reading = readAll(iterated)
    await nc.flush()
    for (let i = 0; i < 5; i++) peer.publish(at, `${i}`)
    await moves()
    for (let i = 5; i < 9; i++) peer.publish(at, `${i}`)
    await peer.flush()
    await few.got(9)
    assert.ok(!few.sub.isClosed())
    assert.equal(few.sub.getMax(), 10)
    await whileMoving((i) => peer.publish(at, `${9 + i}`))
    await peer.flush()
    await Promise.all([few.sub.closed, queued.sub.closed, iterated.closed])
    await nc.flush()
    assert.deepEqual(few.texts(), counted(10))
    assert.equal(queued.messages.length, 10)
    assert.deepEqual(await reading, counted(10))
  })

  promises('many short ones: each gets exactly its max', async ({ nc, peer, at, whileMoving }) => {
    const made: ReturnType<typeof gather>[] = []
    await whileMoving(async (i) => {
      const subject = `${at}.${i}`
      made.push(gather(nc, subject, { max: 3 }))
      if (i % 2 === 0) await nc.flush()
      for (let k = 0; k < 5; k++) (i % 2 === 0 ? peer : nc).publish(subject, `${k}`)
    })
    await peer.flush()
    await Promise.all(made.map(({ sub }) => sub.closed))
    await nc.flush()
    for (const { texts } of made) assert.deepEqual(texts(), counted(3))
  })

  promises('unsubscribe(max) counts what came before', async ({ nc, peer, at, moves }) => {
    const { sub, texts, got } = gather(nc, at)
    await nc.flush()
    for (let i = 0; i < 4; i++) peer.publish(at, `${i}`)
    await peer.flush()
    await got(4)
    await moves()
    sub.unsubscribe(7)
    await moves()
    for (let i = 4; i < 20; i++) peer.publish(at, `${i}`)
    await peer.flush()
    await sub.closed
    await nc.flush()
    assert.deepEqual(texts(), counted(7))
  })

  promises('unsubscribe: not one message after it', async ({ nc, at, moves, whileMoving }) => {
    const { sub, messages } = gather(nc, at)
    await whileMoving(() => nc.publish(at, 'before'))
    await nc.flush()
    sub.unsubscribe()
    const before = messages.length
    nc.publish(at, 'after')
    await nc.flush()
    await moves()
    nc.publish(at, 'after')
    await nc.flush()
    assert.equal(messages.length, before)
    assert.ok(sub.isClosed())
    assert.equal(await sub.closed, undefined)
  })

  promises('drain of a subscription: what was sent before it arrives, then it is closed', async (room) => {
    const { nc, at, whileMoving } = room
    await whileMoving(async (i) => {
      const subject = `${at}.${i}`
      const { sub, texts } = gather(nc, subject)
      const iterated = nc.subscribe(subject)
      const reading = readAll(iterated)
      for (let k = 0; k < 20; k++) nc.publish(subject, `${k}`)
      const drained = Promise.all([sub.drain(), iterated.drain()])
      assert.ok(sub.isDraining())
      nc.publish(subject, 'late')
      await drained
      await sub.closed
      assert.deepEqual(texts(), counted(20))
      assert.deepEqual(await reading, counted(20))
      await assert.rejects(sub.drain(), errors.InvalidOperationError)
    })
  })

  promises('timeout: told when nothing comes, forgotten when something does', async (room) => {
    const { nc, at, moves, whileMoving } = room
    const silent = gather(nc, `${at}.silent`, { timeout: 150 })
    const iterated = nc.subscribe(`${at}.silent`, { timeout: 150 })
    const heard = gather(nc, `${at}.heard`, { timeout: 5000 })
    nc.publish(`${at}.heard`, '0')
    await assert.rejects(readAll(iterated), errors.TimeoutError)
    await eventually(() => silent.problems.length === 1)
    assert.ok(silent.problems[0] instanceof errors.TimeoutError)
    await moves()
    const sent = await whileMoving((i) => nc.publish(`${at}.heard`, `${i + 1}`))
    await heard.got(sent + 1)
    assert.deepEqual(heard.problems, [])
  })

  promises('the reply subject is passed on', async ({ nc, peer, at, whileMoving }) => {
    const { messages, got } = gather(nc, at)
    await nc.flush()
    const sent = await whileMoving((i) => peer.publish(at, 'x', { reply: `answer.${i}` }))
    await peer.flush()
    await got(sent)
    assert.deepEqual(
      messages.map(({ reply }) => reply),
      counted(sent).map((i) => `answer.${i}`),
    )
  })

  promises('publishMessage sends a message on as it is', async ({ nc, peer, at, whileMoving }) => {
    const forward = nc.subscribe(`${at}.in`, {
      callback: (_, msg) => nc.publishMessage({ ...fields(msg), subject: `${at}.out` }),
    })
    const { messages, got, sub } = gather(peer, `${at}.out`)
    await Promise.all([nc.flush(), peer.flush()])
    const sent = await whileMoving((i) => {
      const hdrs = headers()
      hdrs.set('n', `${i}`)
      peer.publish(`${at}.in`, `${i}`, { headers: hdrs, reply: createInbox() })
    })
    await got(sent)
    assert.ok(messages.every((msg, i) => msg.string() === `${i}` && msg.headers?.get('n') === `${i}`))
    forward.unsubscribe()
    sub.unsubscribe()
  })

  promises('wrong subjects and payloads throw at once', async ({ nc, whileMoving }) => {
    await whileMoving(() => {
      for (const subject of ['', 'a b', 'a\r\nPING'])
        assert.throws(() => nc.publish(subject, 'x'), errors.InvalidSubjectError)
      assert.throws(() => nc.subscribe('a b'), errors.InvalidSubjectError)
      assert.throws(() => nc.publish('a', 1 as unknown as string), TypeError)
    })
    await nc.flush()
  })
})

const fields = ({ data, headers: hdrs, reply = '', subject, sid }: Msg) =>
  ({ data, subject, sid, reply, ...(hdrs === undefined ? {} : { headers: hdrs }) }) as Msg
