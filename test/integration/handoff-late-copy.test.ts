/**
 * A server delivers a message to one connection after the other. When it gets no processor in between, the copy for the
 * second may come after all the PONGs of a handoff: it is dropped all the same, and what comes after it is not.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import { startMovingServer, startService } from '../support/moving.ts'
import { at } from '../support/steps.ts'
import { RELEASES } from '../support/test-cluster.ts'

const isMessage = (chunk: Buffer): boolean => chunk.toString('latin1').startsWith('MSG')

for (const release of RELEASES) {
  test(`a copy that comes after the cut is no second message (${release})`, async () => {
    await using moving = await startMovingServer(release)
    const { proxy, first, second } = moving
    const peer = await moving.peer()
    await using service = await startService(proxy, first)
    const { nc } = service
    const seen: string[] = []
    nc.subscribe('orders', { callback: (_, message) => void seen.push(message.string()) })
    await nc.flush()

    const step = at(proxy, 'the second is asked what it got', (_, link) => {
      link.up.stall()
      link.down.keepBack(isMessage)
      peer.publish('orders', 'one')
    })
    const moved = service.move(second)
    await step.reached
    const link = proxy.open[1] ?? assert.fail('expected a second connection')
    await eventually(() => seen.length === 1)
    link.up.resume()
    const event = await moved
    assert.deepEqual([event.ok, event.sameServer, seen], [true, true, ['one']])
    link.down.resume()
    peer.publish('orders', 'two')
    await eventually(() => seen.at(-1) === 'two')
    assert.deepEqual(seen, ['one', 'two'])
    // from the publisher a second time, also when it says the same
    peer.publish('orders', 'one')
    await eventually(() => seen.length === 3)
  })
}
