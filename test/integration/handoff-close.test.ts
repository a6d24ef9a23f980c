/** `close()` and `drain()` in the middle of a handoff: it ends with the connection, and what was published arrives. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { NatsConnection } from '@nats-io/transport-node'
import { eventually } from '../support/eventually.ts'
import { type MovingServer, startMovingServer, startService } from '../support/moving.ts'
import { at, CUT, OVERLAP } from '../support/steps.ts'

/** Milliseconds for an answer; one that is waited for so long fails the test. */
const NEVER = 60_000

describe('a connection that is ended in a handoff', () => {
  let moving: MovingServer
  let peer: NatsConnection
  let arrived: string[] = []
  before(async () => {
    moving = await startMovingServer()
    peer = await moving.peer()
    peer.subscribe('last.words', { callback: (_, message) => void arrived.push(message.string()) })
    await peer.flush()
  })
  after(async () => await moving[Symbol.asyncDispose]())

  const words = Array.from({ length: 20 }, (_, i) => `${i}`)

  for (const way of ['close', 'drain'] as const) {
    for (const step of [...OVERLAP, ...CUT]) {
      test(`${way}() when ${step}`, async () => {
        const { proxy, first, second } = moving
        arrived = []
        await using service = await startService(proxy, first, { handoff: { timeout: NEVER } })
        const { nc, identity, follower } = service
        const received: string[] = []
        nc.subscribe('plain', { callback: (_, message) => void received.push(message.string()) })
        nc.subscribe('group', { queue: 'q', callback: (_, message) => void received.push(message.string()) })
        await nc.flush()
        // its answer comes later
        const { reached } = at(proxy, step, (_first, _second, asked) => asked.down.stall())
        identity.set(second)
        const moved = follower.follow(second, AbortSignal.timeout(30_000)).catch((error: Error) => error)
        await reached(moved)
        for (const word of words) nc.publish('last.words', word)
        const began = performance.now()
        const ended = nc[way]()
        if (way === 'drain') setImmediate(() => proxy.calm())
        await ended
        assert.equal(await nc.closed(), undefined)
        await eventually(() => proxy.open.length === 0)
        await moved
        assert.ok(performance.now() - began < NEVER / 2, 'an answer was waited for')
        await eventually(() => arrived.length === words.length)
        assert.deepEqual(arrived, words)
        assert.deepEqual([identity.followers(), follower.usage()], [[], []])
      })
    }
  }

  test('close() when the server does not answer the dial', async () => {
    const { wire, first, second } = moving
    await using service = await startService(wire, first, { handoff: { timeout: 20_000 } })
    const { nc, identity, follower } = service
    wire.onLink = (link) => link.stall()
    identity.set(second)
    const moved = follower.follow(second, AbortSignal.timeout(30_000)).catch((error: Error) => error)
    await eventually(() => wire.open.length === 2)
    await nc.close()
    assert.equal(await nc.closed(), undefined)
    assert.match(`${await moved}`, /the connection (was (closed|lost)|is not connected)/)
    await eventually(() => wire.open.length === 0)
    assert.deepEqual(identity.followers(), [])
  })
})
