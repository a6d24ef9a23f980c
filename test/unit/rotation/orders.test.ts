import assert from 'node:assert/strict'
import { test } from 'node:test'
import { applyOrder } from '../../../src/rotation/orders.ts'
import {
  at,
  distributingState,
  introducingState,
  MINUTE,
  order,
  STATES,
  steadyState,
} from '../../support/rotation-world.ts'

const now = at(104, 30)

test('an order enters the state and moves nothing by itself', () => {
  const state = steadyState()
  const wanted = order(false, now)
  assert.deepEqual(applyOrder(state, wanted, now), { ...state, order: wanted })
})

test('refuses an order while a rotation is under way', () => {
  for (const phase of ['distributing', 'converging', 'withdrawing'] as const) {
    assert.throws(() => applyOrder(STATES[phase](), order(false, now), now), {
      code: 'ERR_ORDER_REFUSED',
      message: new RegExp(
        `a rotation is under way \\(${phase}, epoch 10[45] signs\\); only force can be added`,
      ),
    })
  }
  const ordered = { ...steadyState(), order: order(false, now) }
  assert.throws(() => applyOrder(ordered, order(false, now), now), { code: 'ERR_ORDER_REFUSED' })
})

test('force can be added to a rotation that is under way, once', () => {
  const forced = applyOrder(distributingState(), order(true, now), now)
  assert.equal(forced.order?.force, true)
  assert.throws(() => applyOrder(forced, order(true, now), now), {
    code: 'ERR_ORDER_REFUSED',
    message: /ordered by alice, forced/,
  })
  const ordered = { ...steadyState(), order: order(false, now) }
  assert.equal(applyOrder(ordered, order(true, now), now).order?.force, true)
})

test('refuses an order that comes minutes late: it may be a duplicate of one that was carried out', () => {
  assert.doesNotThrow(() => applyOrder(steadyState(), order(false, now - 5 * MINUTE), now))
  assert.throws(() => applyOrder(steadyState(), order(false, now - 6 * MINUTE), now), {
    code: 'ERR_ORDER_REFUSED',
    message: /expected one made within 5m, found 1970-01-05T08:24:00.000Z/,
  })
  assert.throws(() => applyOrder(steadyState(), order(false, now + 6 * MINUTE), now), {
    code: 'ERR_ORDER_REFUSED',
  })
})

const rootOrder = { ...order(false, now, 'root-rotate'), reason: 'a new root' }

test('a new root may be ordered in any phase, and waits for the end of the rotation', () => {
  for (const phase of ['steady', 'distributing', 'converging', 'withdrawing'] as const) {
    assert.deepEqual(applyOrder(STATES[phase](), rootOrder, now).order, rootOrder)
  }
})

test('refuses a new root while another order or the root before is under way', () => {
  const again = applyOrder(steadyState(), rootOrder, now)
  for (const [state, message] of [
    [again, /another order is under way \(steady, epoch 104 signs, a new root is ordered by alice\)/],
    [{ ...distributingState(), order: order(false, now) }, /another order is under way/],
    [introducingState(), /2 roots are trusted: the change before is not finished/],
    [{ ...introducingState(), order: null }, /2 roots are trusted/],
  ] as const) {
    assert.throws(() => applyOrder(state, rootOrder, now), { code: 'ERR_ORDER_REFUSED', message })
  }
  assert.throws(() => applyOrder(again, order(false, now), now), { code: 'ERR_ORDER_REFUSED' })
})

test('force joins an ordered root without becoming a rotation in its place', () => {
  const forced = applyOrder(applyOrder(steadyState(), rootOrder, now), order(true, now), now)
  assert.deepEqual([forced.order?.kind, forced.order?.force], ['root-rotate', true])
})
