/** Handoffs where it is hard: very many subscriptions, a service that is slow, very many handoffs, many connections. */
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { on } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { NatsConnection } from '@nats-io/transport-node'
import { Ledger, readLedgers } from '../../bench/load/ledger.ts'
import { take } from '../../bench/load/moved.ts'
import { keepPace } from '../../bench/load/pace.ts'
import { encodePayload } from '../../bench/load/payload.ts'
import { connect, type RotorConnectionOptions } from '../../src/connection/connect.ts'
import type { HandoffEvent } from '../../src/connection/following.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { type Duration, sleep } from '../../src/time.ts'
import { eventually } from '../support/eventually.ts'
import type { HeapMessage, HeapOptions, Look } from '../support/handoff-heap-child.ts'
import { type MonitoredServer, startMonitoredServer } from '../support/monitored-server.ts'

const SUBSCRIPTIONS = 10_000
const CONNECTIONS = 30
/** Until then code is compiled, and lists in the VM get the size they keep. */
const WARM_UP = 400
const HANDOFFS = 1200
/** From the warm-up to the end: one connection that is not let go each time would be some 50 %. */
const MOST_GROWTH = 0.04
/** Connections of one process that may move at the same time. */
const AT_ONCE = 4
/** No move by itself within the test. */
const NEVER = 3_600_000
const patience = () => AbortSignal.timeout(60_000)

let server: MonitoredServer
before(async () => {
  server = await startMonitoredServer()
})
after(async () => await server[Symbol.asyncDispose]())

const open = (identity: HeldIdentity, options: Partial<RotorConnectionOptions> = {}) =>
  connect({ servers: server.address, identity, handoff: { spread: NEVER }, ...options })

/** Moves the only connection of this identity so many times, to and fro. */
async function move(identity: HeldIdentity, times: number): Promise<void> {
  const [follower] = identity.followers()
  assert.ok(follower)
  for (let i = 0; i < times; i++) {
    const next = server.generations[identity.current() === server.generations[0] ? 1 : 0]
    identity.set(next)
    assert.match(await follower.follow(next, patience()), /^handed over in \d+ ms$/)
  }
}

/** Numbered messages of one publisher at a rate, until told to stop. */
function publishing(nc: NatsConnection, rate: number, subjectOf: (sequence: number) => string) {
  const stop = new AbortController()
  let published = 0
  const work = () => {
    nc.publish(subjectOf(published), encodePayload(0, published))
    published += 1
  }
  const pace = keepPace([{ rate, work }], stop.signal)
  return {
    async stop(): Promise<number> {
      stop.abort()
      await pace
      await nc.flush()
      return published
    },
  }
}

/** All of it, once each, in order. */
async function assertWhole(ledger: Ledger, published: number, timeout: Duration = 20_000): Promise<void> {
  assert.ok(published > 0)
  await eventually(() => ledger.total >= published, { timeout })
  const { lost, duplicated, reordered, corrupt } = readLedgers([ledger.notes()], [published])
  assert.deepEqual(
    { lost, duplicated, reordered, corrupt },
    { lost: 0, duplicated: 0, reordered: 0, corrupt: 0 },
  )
}

describe('handoffs', () => {
  test(`of ${SUBSCRIPTIONS} subscriptions with traffic: all are moved, nothing is lost or doubled`, async () => {
    const identity = new HeldIdentity(server.generations[0])
    await using opened = new AsyncDisposableStack()
    const nc = opened.adopt(await open(identity), (nc) => nc.close())
    const publisher = opened.adopt(await open(new HeldIdentity(server.generations[0])), (nc) => nc.close())
    const ledger = new Ledger(1)
    for (let i = 0; i < SUBSCRIPTIONS; i++)
      nc.subscribe(`many.${i}`, { callback: (_, { data }) => take(ledger, data) })
    await nc.flush()
    // every hundredth of them has traffic
    const traffic = publishing(publisher, 1000, (sequence) => `many.${(sequence * 100) % SUBSCRIPTIONS}`)
    await eventually(() => ledger.total > 0)
    await move(identity, 3)
    await assertWhole(ledger, await traffic.stop())
    const moved = (await server.connections()).find(({ cid }) => cid === nc.info?.client_id)
    assert.equal(moved?.subscriptions, SUBSCRIPTIONS)
    const before = ledger.total
    for (let i = 0; i < SUBSCRIPTIONS; i++) publisher.publish(`many.${i}`, encodePayload(0, before + i))
    await publisher.flush()
    await assertWhole(ledger, before + SUBSCRIPTIONS)
  })

  test('of a service that blocks its event loop, and of one that reads slowly: nothing is lost or out of order', async () => {
    const identity = new HeldIdentity(server.generations[0])
    await using opened = new AsyncDisposableStack()
    const nc = opened.adopt(await open(identity), (nc) => nc.close())
    const publisher = opened.adopt(await open(new HeldIdentity(server.generations[0])), (nc) => nc.close())
    const blocking = new Ledger(1)
    const reading = new Ledger(1)
    nc.subscribe('slow.blocking', {
      callback: (_, { data }) => {
        block(50)
        take(blocking, data)
      },
    })
    const slow = nc.subscribe('slow.reading')
    const read = (async () => {
      for await (const { data } of slow) {
        take(reading, data)
        await sleep(2)
      }
    })()
    await nc.flush()
    const first = publishing(publisher, 10, () => 'slow.blocking')
    const second = publishing(publisher, 300, () => 'slow.reading')
    await eventually(() => blocking.total > 0 && reading.total > 0)
    await move(identity, 5)
    const published = [await first.stop(), await second.stop()] as const
    await assertWhole(blocking, published[0])
    await assertWhole(reading, published[1])
    await slow.drain()
    await read
  })

  test(`${HANDOFFS} in a row leave nothing behind: no listener, timer, socket or memory`, async (t) => {
    const program = fileURLToPath(new URL('../support/handoff-heap-child.ts', import.meta.url))
    const child = fork(program, { execArgv: ['--expose-gc'] })
    t.after(() => child.kill('SIGKILL'))
    const name = 'very often'
    const lookAfter = [WARM_UP, HANDOFFS]
    const options: HeapOptions = { address: server.address, name, generations: server.generations, lookAfter }
    child.send(options)
    const looks: Look[] = []
    let end: Extract<HeapMessage, { end: unknown }>['end'] | null = null
    for await (const [message] of on(child, 'message', { close: ['exit'] })) {
      const said = message as HeapMessage
      if ('look' in said) {
        looks.push(said.look)
        // the server has one connection of it, once the last one is gone there, too
        await eventually(
          async () => (await server.connections()).filter((one) => one.name === name).length === 1,
        )
        child.send('go on')
      } else end = said.end
    }
    assert.ok(end)
    const [early, late] = looks
    assert.ok(early && late)
    assert.deepEqual([early.handoffs, late.handoffs], lookAfter)
    assert.deepEqual(end.warnings, [])
    assert.equal(end.received, end.published)
    assert.deepEqual(late.resources, early.resources)
    assert.deepEqual(late.listeners, early.listeners)
    const growth = late.heapUsed / early.heapUsed - 1
    t.diagnostic(`${Math.round(end.milliseconds)} ms, heap ${(100 * growth).toFixed(1)} %`)
    assert.ok(growth < MOST_GROWTH, `heap: ${early.heapUsed} bytes, then ${late.heapUsed}`)
  })

  test(`of ${CONNECTIONS} connections on one identity: all of them, at most ${AT_ONCE} at once`, async () => {
    const [first, second] = server.generations
    const identity = new HeldIdentity(first)
    await using opened = new AsyncDisposableStack()
    const name = 'one of many'
    for (let i = 0; i < CONNECTIONS; i++)
      opened.adopt(await open(identity, { name, handoff: { spread: 500 } }), (nc) => nc.close())
    // a handoff is under way from the socket of its second connection to its event
    let begun = 0
    let ended = 0
    let most = 0
    const onSocket = () => {
      begun += 1
      most = Math.max(most, begun - ended)
    }
    const onEvent = (event: unknown) => {
      ended += 1
      assert.equal((event as HandoffEvent).ok, true)
    }
    subscribe('net.client.socket', onSocket)
    subscribe('nats-rotor:handoff', onEvent)
    opened.defer(() => {
      unsubscribe('net.client.socket', onSocket)
      unsubscribe('nats-rotor:handoff', onEvent)
    })
    identity.set(second)
    await eventually(() => ended === CONNECTIONS)
    assert.equal(begun, CONNECTIONS)
    assert.ok(most > 1 && most <= AT_ONCE, `${most} at once`)
    assert.deepEqual(new Set(identity.usage().map(({ generation }) => generation)), new Set(['second']))
    const leaves = async () =>
      (await server.connections()).filter((one) => one.name === name).map(({ leaf }) => leaf)
    await eventually(async () => (await leaves()).length === CONNECTIONS)
    assert.deepEqual(new Set(await leaves()), new Set([second.leaf.sha256]))
  })
})

function block(milliseconds: Duration): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}
