/** Every way to log in, the options of CONNECT, and the end of a connection, while it is handed over again and again. */
import assert from 'node:assert/strict'
import { describe } from 'node:test'
import {
  credsAuthenticator,
  errors,
  nkeyAuthenticator,
  nkeys,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node'
import { bothWays, connections, type PlaceOptions, type Room } from '../support/conformance.ts'
import { eventually } from '../support/eventually.ts'
import { operatorMode } from '../support/nats-jwt.ts'

/** Messages in both directions and requests, all the time. */
async function livesOn({ nc, peer, at, whileMoving }: Room): Promise<void> {
  const here: string[] = []
  const there: string[] = []
  nc.subscribe(`${at}.here`, { callback: (_, msg) => void here.push(msg.string()) })
  nc.subscribe(`${at}.ask`, { callback: (_, msg) => void msg.respond(msg.data) })
  const other = peer.subscribe(`${at}.there`, { callback: (_, msg) => void there.push(msg.string()) })
  await Promise.all([nc.flush(), peer.flush()])
  const count = await whileMoving(async (i) => {
    peer.publish(`${at}.here`, `${i}`)
    nc.publish(`${at}.there`, `${i}`)
    assert.equal((await nc.request(`${at}.ask`, `${i}`, { timeout: 5000 })).string(), `${i}`)
  })
  await Promise.all([nc.flush(), peer.flush()])
  const expected = Array.from({ length: count }, (_, i) => `${i}`)
  await eventually(() => here.length >= count && there.length >= count)
  assert.deepEqual([here, there], [expected, expected])
  other.unsubscribe()
}

/** It is known to the server by this name. */
async function isKnownAs({ nc, place }: Room, user: string): Promise<void> {
  await eventually(async () => {
    const row = (await connections(place)).find(({ cid }) => cid === nc.info?.client_id)
    assert.equal(row?.authorized_user, user)
    return true
  })
}

const user = nkeys.createUser()
const operator = operatorMode()
const seed = user.getSeed()

interface Login extends PlaceOptions {
  readonly client: Parameters<typeof bothWays>[0]['client']
  readonly known: string
}

const LOGINS: Readonly<Record<string, Login>> = {
  'user and password': {
    config: 'authorization { user: u, password: p }',
    client: { user: 'u', pass: 'p' },
    known: 'u',
  },
  'user and password by an authenticator': {
    config: 'authorization { users: [{ user: u, password: p }] }',
    client: { authenticator: usernamePasswordAuthenticator('u', () => 'p') },
    known: 'u',
  },
  token: {
    config: 'authorization { token: secret }',
    client: { token: 'secret' },
    known: '[REDACTED]',
  },
  'token by an authenticator': {
    config: 'authorization { token: secret }',
    client: { authenticator: tokenAuthenticator(() => 'secret') },
    known: '[REDACTED]',
  },
  nkey: {
    config: `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`,
    client: { authenticator: nkeyAuthenticator(seed) },
    known: user.getPublicKey(),
  },
  'credentials of an operator': {
    config: operator.config,
    client: { authenticator: credsAuthenticator(Buffer.from(operator.creds)) },
    known: operator.user,
  },
  'certificate alone': {
    tls: 'verify_and_map: true',
    config: 'authorization { users: [{ user: "CN=client" }] }',
    client: {},
    known: 'CN=client',
  },
}

for (const [name, { client = {}, known, ...place }] of Object.entries(LOGINS)) {
  describe(`login: ${name}`, () => {
    bothWays({ ...place, client }, (promises) => {
      promises('is done again at each handoff', async (room) => {
        await livesOn(room)
        await isKnownAs(room, known)
      })
    })
  })
}

describe('handshakeFirst', () => {
  bothWays({ tls: 'handshake_first: true', client: { handshakeFirst: true } }, (promises) => {
    promises('TLS comes before INFO', livesOn)
  })
})

describe('the oldest server', () => {
  bothWays({ release: 'nats-server-oldest' }, (promises) => {
    promises('messages and requests', livesOn)
  })
})

describe('options of CONNECT', () => {
  bothWays({}, (promises) => {
    promises(
      'name: the server knows it',
      async (room) => {
        await room.whileMoving(async () => {
          const { nc, place } = room
          await eventually(async () => {
            const row = (await connections(place)).find(({ cid }) => cid === nc.info?.client_id)
            assert.deepEqual([row?.name, row?.lang], ['orders', 'nats.js'])
            return true
          })
        })
        await livesOn(room)
      },
      { name: 'orders' },
    )
    promises('verbose: an OK for everything', livesOn, { verbose: true })
    promises('pedantic', livesOn, { pedantic: true })
    promises('verbose and pedantic', livesOn, { verbose: true, pedantic: true })
    promises(
      'noEcho: others hear us, we hear others',
      async ({ nc, peer, at, whileMoving }) => {
        const end = peer.subscribe(at, { callback: (_, msg) => void msg.respond(msg.data) })
        await peer.flush()
        await whileMoving(async (i) => {
          assert.equal((await nc.request(at, `${i}`, { timeout: 5000 })).string(), `${i}`)
        })
        end.unsubscribe()
      },
      { noEcho: true },
    )
    promises(
      'inboxPrefix: answers come there, and nowhere else',
      async ({ nc, peer, at, whileMoving }) => {
        const replies: string[] = []
        const sub = peer.subscribe(at, {
          callback: (_, msg) => {
            replies.push(msg.reply ?? '')
            msg.respond()
          },
        })
        await peer.flush()
        await whileMoving(async (i) => {
          await nc.request(at, '', { timeout: 5000, noMux: i % 2 === 0 })
        })
        assert.ok(replies.length > 0 && replies.every((reply) => reply.startsWith('_INBOX_service.')))
        sub.unsubscribe()
      },
      { inboxPrefix: '_INBOX_service' },
    )
    promises(
      'short pings: the connection is not taken for a stale one',
      async (room) => {
        await livesOn(room)
        await room.moves()
        const types = room.statuses.map(({ type }) => type)
        assert.deepEqual(
          types.filter((type) => type !== 'ping'),
          [],
        )
      },
      { pingInterval: 20, maxPingOut: 5 },
    )
  })
})

describe('the end', () => {
  bothWays({}, (promises) => {
    promises('close: subscriptions end, nothing goes any more', async (room) => {
      const { nc, at, moves } = room
      await livesOn(room)
      const sub = nc.subscribe(`${at}.end`)
      const reading = (async () => {
        for await (const msg of sub) assert.fail(msg.subject)
      })()
      await nc.flush()
      const closed = nc.closed()
      await moves()
      await nc.close()
      assert.equal(await closed, undefined)
      await reading
      await sub.closed
      assert.ok(nc.isClosed())
      assert.equal(nc.info, undefined)
      for (const use of [() => nc.publish('a', 'b'), () => nc.subscribe('a')])
        assert.throws(use, errors.ClosedConnectionError)
      for (const use of [
        () => nc.flush(),
        () => nc.request('a'),
        () => nc.requestMany('a'),
        () => nc.rtt(),
        () => nc.drain(),
        () => nc.reconnect(),
      ])
        await assert.rejects(use, errors.ClosedConnectionError)
      await nc.close()
    })

    promises('close while a request waits: it rejects', async ({ nc, peer, at, moves }) => {
      const silent = peer.subscribe(at, { callback: () => {} })
      await peer.flush()
      const waiting = assert.rejects(nc.request(at, '', { timeout: 20_000 }))
      await moves()
      await nc.close()
      await waiting
      silent.unsubscribe()
    })

    promises('drain: what came is delivered, what was published arrives', async (room) => {
      const { nc, peer, at, moves, whileMoving } = room
      const there: string[] = []
      const other = peer.subscribe(`${at}.there`, { callback: (_, msg) => void there.push(msg.string()) })
      const sub = nc.subscribe(`${at}.here`)
      const queued = nc.subscribe(`${at}.here`, { queue: 'q' })
      const here: string[] = []
      const read = async (from: typeof sub) => {
        for await (const msg of from) here.push(msg.string())
      }
      const reading = Promise.all([read(sub), read(queued)])
      await Promise.all([nc.flush(), peer.flush()])
      const count = await whileMoving((i) => nc.publish(`${at}.here`, `${i}`))
      await moves(1)
      for (let i = 0; i < 50; i++) nc.publish(`${at}.there`, 'last')
      const drained = nc.drain()
      assert.ok(nc.isDraining())
      await assert.rejects(nc.drain(), errors.DrainingConnectionError)
      await assert.rejects(nc.reconnect(), errors.DrainingConnectionError)
      assert.throws(() => nc.subscribe('late'), errors.DrainingConnectionError)
      await drained
      assert.equal(await nc.closed(), undefined)
      await reading
      await peer.flush()
      assert.equal(here.length, 2 * count)
      await eventually(() => there.length === 50)
      assert.throws(() => nc.publish('a', 'b'), errors.ClosedConnectionError)
      other.unsubscribe()
    })

    promises('drain without anything to do, and dispose', async ({ nc, moves }) => {
      await moves()
      await nc[Symbol.asyncDispose]()
      assert.ok(nc.isClosed())
      await nc[Symbol.asyncDispose]()
    })

    promises('close at any moment', async ({ nc, at, handoffs, moves }) => {
      nc.subscribe(at, { callback: () => {} })
      await moves()
      // while the next one is under way, most often
      const { done } = handoffs
      for (let i = 0; handoffs.done === done && i < 300; i++) {
        nc.publish(at, 'x')
        await nc.flush()
      }
      await nc.close()
    })
  })
})
