/**
 * A server delivers a message to one connection after the other. When it gets no processor before or in between, what it
 * delivers comes after PONGs that it should have come before: nothing is lost by that, and nothing comes twice.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NatsConnection } from '@nats-io/transport-node'
import { eventually } from '../support/eventually.ts'
import { type MovingServer, startMovingServer, startService } from '../support/moving.ts'
import type { Link } from '../support/proxy.ts'
import { at, type Step } from '../support/steps.ts'
import { RELEASES } from '../support/test-cluster.ts'

const isMessage = (chunk: Buffer): boolean => chunk.toString('latin1').startsWith('MSG')
const pings = ({ said }: Link): number => said.filter((command) => command === 'PING').length

interface Scene extends Omit<MovingServer, 'peer'> {
  readonly peer: NatsConnection
  readonly seen: readonly string[]
  /** A handoff; returns when it has ended, and it was well. */
  move(): Promise<void>
  /** The same; at this step the connection that is asked gets no answer before `play` has ended. */
  moved(step: Step, play: (first: Link, second: Link) => Promise<void>): Promise<void>
}

async function scene(
  release: (typeof RELEASES)[number],
  play: (scene: Scene) => Promise<void>,
  dwell = 250,
): Promise<void> {
  await using moving = await startMovingServer(release)
  await using service = await startService(moving.proxy, moving.first, { handoff: { dwell } })
  const peer = await moving.peer()
  const seen: string[] = []
  service.nc.subscribe('orders', { callback: (_, message) => void seen.push(message.string()) })
  await service.nc.flush()
  let next = moving.second
  const move = async () => {
    const to = next
    next = to === moving.second ? moving.first : moving.second
    const { ok, sameServer } = await service.move(to)
    assert.deepEqual([ok, sameServer], [true, true])
  }
  await play({
    ...moving,
    peer,
    seen,
    move,
    async moved(name, meanwhile) {
      const stopped = Promise.withResolvers<{ first: Link; second: Link; asked: Link }>()
      const step = at(moving.proxy, name, (first, second, asked) => {
        asked.up.stall()
        stopped.resolve({ first, second, asked })
      })
      const end = move()
      await step.reached(end)
      const { first, second, asked } = await stopped.promise
      await meanwhile(first, second)
      asked.up.resume()
      await end
    },
  })
}

for (const release of RELEASES) {
  test(`a copy that comes after the cut is no second message (${release})`, () =>
    scene(release, async ({ peer, seen, moved, proxy }) => {
      await moved('the second is asked what it got', async (_, second) => {
        second.down.keepBack(isMessage)
        peer.publish('orders', 'one')
        await eventually(() => seen.length === 1)
      })
      assert.deepEqual(seen, ['one'])
      proxy.calm()
      peer.publish('orders', 'two')
      await eventually(() => seen.at(-1) === 'two')
      assert.deepEqual(seen, ['one', 'two'])
      // from the publisher a second time, also when it says the same
      peer.publish('orders', 'one')
      await eventually(() => seen.length === 3)
    }))

  test(`the next handoff does not begin while a copy may be late (${release})`, () =>
    scene(
      release,
      async ({ peer, seen, moved, move, proxy }) => {
        await moved('the second is asked what it got', async (_, second) => {
          second.down.keepBack(isMessage)
          peer.publish('orders', 'one')
          await eventually(() => seen.length === 1)
        })
        const again = move()
        const hasBegun = () => proxy.links.length > 2
        await assert.rejects(eventually(hasBegun, { timeout: 100 }))
        proxy.calm()
        await again
        assert.deepEqual([hasBegun(), seen], [true, ['one']])
      },
      1_000,
    ))

  test(`a copy of what came as the second subscribed is no second message (${release})`, () =>
    scene(release, async ({ peer, seen, moved }) => {
      let released: Promise<void> | undefined
      await moved('the first is asked what it delivered', async (first, second) => {
        second.down.keepBack(isMessage)
        peer.publish('orders', 'one')
        await eventually(() => seen.length === 1)
        const asked = pings(first)
        released = eventually(() => pings(first) > asked).then(() => second.down.resume())
      })
      await released
      peer.publish('orders', 'two')
      await eventually(() => seen.at(-1) === 'two')
      assert.deepEqual(seen, ['one', 'two'])
    }))

  test(`what was found for the first alone, and comes late, is delivered (${release})`, () =>
    scene(release, async ({ peer, seen, moved }) => {
      let released: Promise<void> | undefined
      await moved('the second subscribes', async (first) => {
        first.down.keepBack(isMessage)
        peer.publish('orders', 'one')
        await peer.flush()
        const asked = pings(first)
        released = eventually(() => pings(first) >= asked + 2).then(() => first.down.resume())
      })
      await released
      peer.publish('orders', 'two')
      await eventually(() => seen.at(-1) === 'two')
      assert.deepEqual(seen, ['one', 'two'])
    }))

  test(`what the second has got, and the first never gets, is delivered (${release})`, () =>
    scene(release, async ({ peer, seen, moved }) => {
      await moved('the second is asked what it got', async (first) => {
        first.down.keepBack(isMessage)
        peer.publish('orders', 'one')
        await peer.flush()
      })
      peer.publish('orders', 'two')
      await eventually(() => seen.at(-1) === 'two')
      assert.deepEqual(seen, ['one', 'two'])
    }))
}
