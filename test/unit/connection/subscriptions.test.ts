/** SUB and UNSUB lines of the second connection. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ClientSubscription } from '../../../src/connection/handoff/internals.ts'
import { changes, subscribe, unsubscribe, wanted } from '../../../src/connection/handoff/subscriptions.ts'

const sub = (sid: number, more: Partial<ClientSubscription> = {}): ClientSubscription => ({
  sid,
  subject: `s.${sid}`,
  received: 0,
  draining: false,
  ...more,
})

describe('the subscriptions of the second connection', () => {
  test('are those that are alive, plain ones and those of queue groups apart', () => {
    const all = [
      sub(1),
      sub(2, { queue: 'g' }),
      sub(3, { draining: true }),
      sub(4, { max: 5, received: 5 }),
      sub(5, { max: 5, received: 4 }),
      sub(6, { queue: '' }),
    ]
    const { plain, queue } = wanted(all)
    assert.deepEqual(
      plain.map(({ sid }) => sid),
      [1, 5, 6],
    )
    assert.deepEqual(
      queue.map(({ sid }) => sid),
      [2],
    )
  })

  test('keep their sids, groups, and what is left of an auto-unsubscribe', () => {
    assert.equal(
      subscribe([sub(1), sub(2, { queue: 'g' }), sub(3, { max: 10, received: 4 })]),
      'SUB s.1 1\r\nSUB s.2 g 2\r\nSUB s.3 3\r\nUNSUB 3 6\r\n',
    )
    assert.equal(unsubscribe([3, 1]), 'UNSUB 3\r\nUNSUB 1\r\n')
    assert.equal(subscribe([]), '')
  })

  test('are compared with what there is now', () => {
    const { added, removed } = changes(new Set([1, 2, 3]), [sub(2), sub(4)])
    assert.deepEqual(
      added.map(({ sid }) => sid),
      [4],
    )
    assert.deepEqual(removed, [1, 3])
  })
})
