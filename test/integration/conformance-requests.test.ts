/** What nats.js promises about requests and about the connection itself, kept while it is handed over again and again. */
import assert from 'node:assert/strict'
import {
  errors,
  headers,
  type Msg,
  type NatsConnection,
  type RequestManyOptions,
  type Status,
} from '@nats-io/transport-node'
import { bothWays, type Room } from '../support/conformance.ts'
import { eventually } from '../support/eventually.ts'

const DENIED = '["denied", "denied.>"]'
const USERS = `authorization { users: [
  { user: peer, password: p }
  { user: service, password: p, permissions: { publish: { deny: ${DENIED} }, subscribe: { deny: ${DENIED} } } }
] }`
const user = (name: string) => ({ user: name, pass: 'p' })

/** Answers everything with its own text; returns how to end. */
function serve(nc: NatsConnection, subject: string): () => void {
  const sub = nc.subscribe(subject, { callback: (_, msg) => void msg.respond(msg.data) })
  return () => sub.unsubscribe()
}

/** The reason behind what a request rejects with. */
const causeOf = (error: unknown): unknown => (error instanceof errors.RequestError ? error.cause : error)

const rejectsWith = (promise: Promise<unknown>, kind: new (...args: never[]) => Error): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert.ok(causeOf(error) instanceof kind, `expected ${kind.name}, found ${String(error)}`)
    return true
  })

interface Inner {
  readonly features: object
  getServerVersion(): { major: number; minor: number; micro: number }
  context(): Promise<object>
}
const inner = (nc: NatsConnection) => nc as unknown as Inner

const typesOf = (statuses: readonly Status[]): string[] => statuses.map(({ type }) => type)

/** Several services answer, one with an empty message as its last. */
function serveMany(nc: NatsConnection, subject: string, answers: readonly string[]): () => void {
  const sub = nc.subscribe(subject, {
    callback: (_, msg) => {
      for (const answer of answers) msg.respond(answer)
    },
  })
  return () => sub.unsubscribe()
}

async function askMany(room: Room, options: Partial<RequestManyOptions>): Promise<string[]> {
  const answers = await room.nc.requestMany(room.at, '', { maxWait: 400, ...options })
  const texts: string[] = []
  for await (const msg of answers) texts.push(msg.string())
  return texts
}

bothWays({ config: USERS, client: user('service'), peer: user('peer') }, (promises) => {
  promises('request: every one is answered with its own answer', async ({ nc, peer, at, whileMoving }) => {
    const end = serve(peer, at)
    await peer.flush()
    const asked: Promise<string>[] = []
    const count = await whileMoving((i) => {
      for (const noMux of [false, true]) {
        const answer = nc.request(at, `${i}`, { timeout: 5000, noMux })
        asked.push(answer.then((msg) => msg.string()))
      }
    })
    const expected = Array.from({ length: 2 * count }, (_, i) => `${Math.floor(i / 2)}`)
    assert.deepEqual(await Promise.all(asked), expected)
    end()
  })

  promises('request: one after the other, with headers there and back', async (room) => {
    const { nc, peer, at, whileMoving } = room
    const sub = peer.subscribe(at, {
      callback: (_, msg) => void msg.respond('', msg.headers ? { headers: msg.headers } : {}),
    })
    await peer.flush()
    await whileMoving(async (i) => {
      const hdrs = headers()
      hdrs.set('n', `${i}`)
      const answer = await nc.request(at, '', { headers: hdrs, timeout: 5000, noMux: i % 2 === 0 })
      assert.equal(answer.headers?.get('n'), `${i}`)
    })
    sub.unsubscribe()
  })

  promises('request: an answer that takes two handoffs arrives', async ({ nc, peer, at, moves }) => {
    const waiting: Msg[] = []
    const sub = peer.subscribe(at, { callback: (_, msg) => void waiting.push(msg) })
    await peer.flush()
    const answers = [false, true].map((noMux) => nc.request(at, '', { timeout: 15_000, noMux }))
    await eventually(() => waiting.length === 2)
    await moves()
    for (const msg of waiting) assert.ok(msg.respond('late'))
    for (const answer of await Promise.all(answers)) assert.equal(answer.string(), 'late')
    sub.unsubscribe()
  })

  promises('respond: a service on it answers each request once', async ({ nc, peer, at, whileMoving }) => {
    serve(nc, at)
    await nc.flush()
    await whileMoving(async (i) => {
      const answers = Array.from({ length: 5 }, (_, k) => peer.request(at, `${i} ${k}`, { timeout: 5000 }))
      const texts = (await Promise.all(answers)).map((msg) => msg.string())
      assert.deepEqual(
        texts,
        [0, 1, 2, 3, 4].map((k) => `${i} ${k}`),
      )
    })
  })

  promises('respond works on a message that came before two handoffs', async ({ nc, peer, at, moves }) => {
    const waiting: Msg[] = []
    nc.subscribe(at, { callback: (_, msg) => void waiting.push(msg) })
    nc.subscribe(`${at}.q`, { queue: 'q', callback: (_, msg) => void waiting.push(msg) })
    await nc.flush()
    const answers = [at, `${at}.q`].map((subject) => peer.request(subject, '', { timeout: 15_000 }))
    await eventually(() => waiting.length === 2)
    await moves()
    for (const msg of waiting) assert.ok(msg.respond(msg.subject))
    assert.deepEqual((await Promise.all(answers)).map((msg) => msg.string()).sort(), [at, `${at}.q`])
    assert.equal(waiting.length, 2)
  })

  promises(
    'respondMessage: true with a reply subject, false without',
    async ({ nc, peer, at, whileMoving }) => {
      const said: boolean[] = []
      nc.subscribe(at, { callback: (_, msg) => void said.push(nc.respondMessage(msg)) })
      await nc.flush()
      const rounds = await whileMoving(async (i) => {
        peer.publish(at, `nobody waits ${i}`)
        assert.equal((await peer.request(at, `${i}`, { timeout: 5000 })).string(), `${i}`)
      })
      assert.deepEqual(
        said,
        Array.from({ length: 2 * rounds }, (_, i) => i % 2 === 1),
      )
    },
  )

  for (const noMux of [false, true]) {
    const how = noMux ? 'without the mux' : 'with the mux'
    promises(`requestMany ${how}, timer: all answers of its time`, async (room) => {
      const ends = [1, 2, 3].map((n) => serveMany(room.peer, room.at, [`${n}`]))
      await room.peer.flush()
      await room.whileMoving(async (i) => {
        if (i > 3) return
        const texts = await askMany(room, { strategy: 'timer', maxWait: 200, noMux })
        assert.deepEqual(texts.sort(), ['1', '2', '3'])
      })
      for (const end of ends) end()
    })

    promises(`requestMany ${how}, count: exactly so many`, async (room) => {
      const end = serveMany(room.peer, room.at, ['a', 'b', 'c', 'd'])
      await room.peer.flush()
      await room.whileMoving(async () => {
        const texts = await askMany(room, { strategy: 'count', maxMessages: 2, maxWait: 5000, noMux })
        assert.deepEqual(texts.slice(0, 2), ['a', 'b'])
      })
      end()
    })

    promises(`requestMany ${how}, stall: ends when nothing comes any more`, async (room) => {
      const end = serveMany(room.peer, room.at, ['a', 'b'])
      await room.peer.flush()
      await room.whileMoving(async (i) => {
        if (i > 3) return
        const began = performance.now()
        const texts = await askMany(room, { strategy: 'stall', maxWait: 10_000, noMux })
        assert.deepEqual(texts, ['a', 'b'])
        assert.ok(performance.now() - began < 5000)
      })
      end()
    })

    promises(`requestMany ${how}, sentinel: ends with the empty message`, async (room) => {
      const end = serveMany(room.peer, room.at, ['a', 'b', ''])
      await room.peer.flush()
      await room.whileMoving(async () => {
        const texts = await askMany(room, { strategy: 'sentinel', maxWait: 5000, noMux })
        assert.deepEqual(texts, ['a', 'b', ''])
      })
      end()
    })

    promises(`request ${how}: nobody there is told at once`, async ({ nc, at, whileMoving }) => {
      await whileMoving(async () => {
        const began = performance.now()
        await rejectsWith(nc.request(at, '', { timeout: 10_000, noMux }), errors.NoRespondersError)
        assert.ok(performance.now() - began < 5000)
      })
    })

    promises(`request ${how}: a time-out is told`, async ({ nc, peer, at, moves }) => {
      const silent = peer.subscribe(at, { callback: () => {} })
      await peer.flush()
      const late = nc.request(at, '', { timeout: 300, noMux })
      await rejectsWith(late, errors.TimeoutError)
      await moves()
      silent.unsubscribe()
    })
  }

  promises('requestMany: nobody there is told', async (room) => {
    await room.whileMoving(async () => {
      await rejectsWith(askMany(room, { noMux: true }), errors.NoRespondersError)
      await rejectsWith(askMany(room, { noMux: false }), errors.NoRespondersError)
    })
  })

  promises('flush: the server has taken what was published', async ({ nc, peer, at, whileMoving }) => {
    const got: Msg[] = []
    const sub = peer.subscribe(at, { callback: (_, msg) => void got.push(msg) })
    await peer.flush()
    await whileMoving(async (i) => {
      nc.publish(at, '')
      await nc.flush()
      await peer.flush()
      assert.equal(got.length, i + 1)
    })
    sub.unsubscribe()
  })

  promises('many flushes at once are all answered, and rtt measures', async ({ nc, whileMoving }) => {
    const flushes: Promise<void>[] = []
    await whileMoving(async () => {
      for (let i = 0; i < 5; i++) flushes.push(nc.flush())
      const rtt = await nc.rtt()
      assert.ok(rtt >= 0 && rtt < 3000, `${rtt}`)
    })
    await Promise.all(flushes)
  })

  promises('stats count each message once', async ({ nc, peer, at, whileMoving }) => {
    nc.subscribe(at, { callback: () => {} })
    await nc.flush()
    const before = nc.stats()
    const sent = await whileMoving((i) => {
      peer.publish(at, `a${10_000 + i}`)
      nc.publish(at, `${10_000 + i}`)
    })
    await Promise.all([peer.flush(), nc.flush()])
    await eventually(() => nc.stats().inMsgs - before.inMsgs >= 2 * sent)
    await nc.flush()
    const { inMsgs, inBytes, outMsgs, outBytes } = nc.stats()
    assert.deepEqual(
      [
        inMsgs - before.inMsgs,
        inBytes - before.inBytes,
        outMsgs - before.outMsgs,
        outBytes - before.outBytes,
      ],
      [2 * sent, 11 * sent, sent, 5 * sent],
    )
  })

  promises('info, getServer, getServers, getServerVersion, features', async (room) => {
    const { nc, place, moves, handoffs } = room
    const { server_id: server, client_id: client, version } = nc.info ?? {}
    // not in the interface, but used by the packages for JetStream
    const { features } = inner(nc)
    await room.whileMoving(() => {
      assert.equal(nc.info?.server_id, server)
      assert.equal(nc.info?.version, version)
      assert.equal(nc.getServer(), place.address)
      assert.deepEqual(
        nc.getServers().map(({ listen }) => listen),
        [place.address],
      )
      const { major, minor, micro } = inner(nc).getServerVersion()
      assert.equal(`${major}.${minor}.${micro}`, version)
      assert.equal(inner(nc).features, features)
      assert.ok(!nc.isClosed() && !nc.isDraining())
    })
    await moves()
    if (handoffs.done > 0) assert.notEqual(nc.info?.client_id, client)
    else assert.equal(nc.info?.client_id, client)
  })

  promises('context: the server says who we are', async ({ nc, whileMoving }) => {
    await whileMoving(async () => {
      assert.match(JSON.stringify(await inner(nc).context()), /"user":"service"/)
    })
  })

  promises(
    'noEcho: its own messages do not come back',
    async ({ nc, peer, at, whileMoving }) => {
      const texts: string[] = []
      nc.subscribe(at, { callback: (_, msg) => void texts.push(msg.string()) })
      nc.subscribe(at, { queue: 'q', callback: (_, msg) => void texts.push(msg.string()) })
      await nc.flush()
      const sent = await whileMoving((i) => {
        nc.publish(at, 'own')
        if (i % 4 === 0) peer.publish(at, `of another ${i}`)
      })
      await Promise.all([nc.flush(), peer.flush()])
      const expected = 2 * Math.ceil(sent / 4)
      await eventually(() => texts.length >= expected)
      await nc.flush()
      assert.ok(texts.every((text) => text.startsWith('of another')))
      assert.equal(texts.length, expected)
    },
    { noEcho: true },
  )

  promises('a publish that is not permitted: told by status, the connection lives on', async (room) => {
    const { nc, at, statuses, whileMoving } = room
    serve(nc, at)
    const count = await whileMoving(async () => {
      nc.publish('denied.here', 'x')
      assert.equal((await nc.request(at, 'ok', { timeout: 5000 })).string(), 'ok')
    })
    await nc.flush()
    const told = () => statuses.flatMap((status) => (status.type === 'error' ? [status.error] : []))
    await eventually(() => told().length === count)
    for (const error of told()) {
      assert.ok(error instanceof errors.PermissionViolationError)
      assert.deepEqual([error.operation, error.subject], ['publish', 'denied.here'])
    }
    assert.deepEqual(new Set(typesOf(statuses)), new Set(['error']))
  })

  promises('a request that is not permitted rejects', async ({ nc, moves, whileMoving }) => {
    await whileMoving(async () => {
      for (const noMux of [false, true]) {
        await rejectsWith(
          nc.request('denied.here', '', { timeout: 5000, noMux }),
          errors.PermissionViolationError,
        )
      }
    })
    await moves()
  })

  promises(
    'a subscription that is not permitted: it is closed with the reason, the others live on',
    async ({ nc, at, statuses, whileMoving, moves }) => {
      serve(nc, at)
      await whileMoving(async (i) => {
        if (i > 10) return
        const problems: Error[] = []
        const sub = nc.subscribe('denied', { callback: (error) => void (error && problems.push(error)) })
        const iterated = nc.subscribe(`denied.${i}`)
        await assert.rejects(async () => {
          for await (const msg of iterated) assert.fail(`nothing may come, found ${msg.subject}`)
        }, errors.PermissionViolationError)
        const reason = await sub.closed
        assert.ok(reason instanceof errors.PermissionViolationError)
        assert.equal(problems.length, 1)
        assert.ok(sub.isClosed())
        assert.equal((await nc.request(at, 'ok', { timeout: 5000 })).string(), 'ok')
      })
      await moves()
      assert.deepEqual(new Set(typesOf(statuses)), new Set(['error']))
    },
    // one that the server has not refused yet is refused to the new connection, too
    { refusals: true },
  )

  promises('status tells of a slow consumer once, and again when it was slow again', async (room) => {
    const { nc, peer, at, statuses, moves } = room
    const sub = nc.subscribe(at, { slow: 5 })
    await nc.flush()
    const slow = () => statuses.flatMap((status) => (status.type === 'slowConsumer' ? [status] : []))
    for (let i = 0; i < 20; i++) peer.publish(at, `${i}`)
    await eventually(() => sub.getPending() === 20)
    await moves()
    assert.deepEqual(
      slow().map(({ sub: of, pending }) => [of, pending]),
      [[sub, 6]],
    )
    let read = 0
    for await (const msg of sub) {
      assert.equal(msg.string(), `${read}`)
      read += 1
      if (read === 20) for (let i = 20; i < 40; i++) peer.publish(at, `${i}`)
      if (read === 21) await eventually(() => sub.getPending() > 10)
      if (read === 40) break
    }
    assert.ok(slow().length >= 1)
  })

  promises(
    'status: no word of disconnects, and leaving its iterator is fine',
    async (room) => {
      const { nc, statuses, moves } = room
      const left = (async () => {
        for await (const status of nc.status()) return status.type
        return 'ended'
      })()
      const first = nc.reconnect()
      assert.equal(await left, 'forceReconnect')
      await first
      await eventually(() => typesOf(statuses).includes('reconnect'))
      const before = statuses.length
      await moves()
      await nc.flush()
      assert.deepEqual(typesOf(statuses.slice(before)), [])
    },
    { refusals: true },
  )

  promises(
    'reconnect: told by status, and everything lives on',
    async ({ nc, peer, at, statuses, moves }) => {
      const texts: string[] = []
      nc.subscribe(at, { callback: (_, msg) => void texts.push(msg.string()) })
      nc.subscribe(`${at}.few`, { max: 100, callback: (_, msg) => void msg.respond('yes') })
      for (let round = 1; round <= 3; round++) {
        await moves(1)
        const before = statuses.length
        await nc.reconnect()
        await eventually(() => typesOf(statuses.slice(before)).includes('reconnect'))
        const told = typesOf(statuses.slice(before)).filter((type) => type !== 'reconnecting')
        assert.deepEqual(told, ['forceReconnect', 'disconnect', 'reconnect'])
        await nc.flush()
        peer.publish(at, `${round}`)
        await peer.flush()
        await nc.flush()
        assert.equal((await peer.request(`${at}.few`, '', { timeout: 5000 })).string(), 'yes')
        assert.equal((await nc.request(`${at}.few`, '', { timeout: 5000 })).string(), 'yes')
      }
      await moves()
      assert.deepEqual(texts, ['1', '2', '3'])
    },
    { refusals: true },
  )
})
