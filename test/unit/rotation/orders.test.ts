import assert from 'node:assert/strict'
import { test } from 'node:test'
import { applyOrder, type OrderFacts } from '../../../src/rotation/orders.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import type { Order } from '../../../src/wire/requests.ts'
import {
  agentsOf,
  at,
  distributingState,
  epochsIn,
  held,
  introducingState,
  leaf,
  MINUTE,
  order,
  STATES,
  steadyState,
} from '../../support/rotation-world.ts'

const now = at(104, 30)
const seenIn = { held: [], agents: [] }

test('an order enters the state and moves nothing by itself', () => {
  const state = steadyState()
  const wanted = order(false, now)
  const { pending, ...after } = applyOrder(state, wanted, now, seenIn)
  assert.deepEqual({ ...after, pending: state.pending }, { ...state, order: wanted })
  assert.equal(pending.orders.length, 1)
})

test('refuses an order while a rotation is under way', () => {
  for (const phase of ['distributing', 'converging', 'withdrawing'] as const) {
    assert.throws(() => applyOrder(STATES[phase](), order(false, now), now, seenIn), {
      code: 'ERR_ORDER_REFUSED',
      message: new RegExp(
        `a rotation is under way \\(${phase}, epoch 10[45] signs\\); only force can be added`,
      ),
    })
  }
  const ordered = { ...steadyState(), order: order(false, now) }
  assert.throws(() => applyOrder(ordered, order(false, now), now, seenIn), { code: 'ERR_ORDER_REFUSED' })
})

test('force can be added to a rotation that is under way, once', () => {
  const forced = applyOrder(distributingState(), order(true, now), now, seenIn)
  assert.equal(forced.order?.force, true)
  assert.throws(() => applyOrder(forced, order(true, now), now, seenIn), {
    code: 'ERR_ORDER_REFUSED',
    message: /ordered by alice, forced/,
  })
  const ordered = { ...steadyState(), order: order(false, now) }
  assert.equal(applyOrder(ordered, order(true, now), now, seenIn).order?.force, true)
})

test('refuses an order that comes minutes late: it may be a duplicate of one that was carried out', () => {
  assert.doesNotThrow(() => applyOrder(steadyState(), order(false, now - 5 * MINUTE), now, seenIn))
  assert.throws(() => applyOrder(steadyState(), order(false, now - 6 * MINUTE), now, seenIn), {
    code: 'ERR_ORDER_REFUSED',
    message: /expected one made within 5m, found 1970-01-05T08:24:00.000Z/,
  })
  assert.throws(() => applyOrder(steadyState(), order(false, now + 6 * MINUTE), now, seenIn), {
    code: 'ERR_ORDER_REFUSED',
  })
})

const rootOrder = { ...order(false, now, 'root-rotate'), reason: 'a new root' }

test('a new root may be ordered in any phase, and waits for the end of the rotation', () => {
  for (const phase of ['steady', 'distributing', 'converging', 'withdrawing'] as const) {
    assert.deepEqual(applyOrder(STATES[phase](), rootOrder, now, seenIn).order, rootOrder)
  }
})

test('refuses a new root while another order or the root before is under way', () => {
  const again = applyOrder(steadyState(), rootOrder, now, seenIn)
  for (const [state, message] of [
    [again, /another order is under way \(steady, epoch 104 signs, a new root is ordered by alice\)/],
    [{ ...distributingState(), order: order(false, now) }, /another order is under way/],
    [introducingState(), /2 roots are trusted: the change before is not finished/],
    [{ ...introducingState(), order: null }, /2 roots are trusted/],
  ] as const) {
    assert.throws(() => applyOrder(state, rootOrder, now, seenIn), { code: 'ERR_ORDER_REFUSED', message })
  }
  assert.throws(() => applyOrder(again, order(false, now), now, seenIn), { code: 'ERR_ORDER_REFUSED' })
})

test('force joins an ordered root without becoming a rotation in its place', () => {
  const forced = applyOrder(applyOrder(steadyState(), rootOrder, now, seenIn), order(true, now), now, seenIn)
  assert.deepEqual([forced.order?.kind, forced.order?.force], ['root-rotate', true])
})

const given = (kind: Order['kind'], change: Partial<Order> = {}): Order => ({
  ...order(false, now, kind),
  ...change,
})
const refuses = (state: RotationState, wanted: Order, message: RegExp, facts: OrderFacts = seenIn) =>
  assert.throws(() => applyOrder(state, wanted, now, facts), { code: 'ERR_ORDER_REFUSED', message })

test('a withdrawal fits while an authority is distributed, in the place of the order before', () => {
  const ordered = { ...distributingState(), order: order(false, now) }
  assert.equal(applyOrder(ordered, given('withdraw'), now, seenIn).order?.kind, 'withdraw')
  refuses(
    steadyState(),
    given('withdraw'),
    /no authority waits for its first use \(steady, epoch 104 signs\)$/,
  )
  refuses(STATES.converging(), given('withdraw'), /`rotor rollback` goes back from an epoch that signs/)
})

test('a rollback fits when there is an authority to go back to', () => {
  const state = steadyState()
  const facts = { ...seenIn, held: epochsIn(state).map(held) }
  assert.equal(applyOrder(state, given('rollback'), now, facts).order?.kind, 'rollback')
  refuses(state, given('rollback'), /expected an earlier authority that is trusted.*found none/)
  refuses(distributingState(), given('rollback'), /`rotor withdraw` takes the next one back/, facts)
  refuses(introducingState(), given('rollback'), /nothing was replaced in this phase/, facts)
})

test('a taint fits in every phase, for a trusted authority, once; it knows which leaves nodes hold', () => {
  for (const phase of ['steady', 'distributing', 'converging', 'withdrawing', 'introducing'] as const) {
    const state = STATES[phase]()
    const agents = agentsOf(state, { n1: { leaf: leaf(103) }, n2: null })
    const after = applyOrder(state, given('taint', { epoch: state.active }), now, { held: [], agents })
    assert.deepEqual(after, {
      ...state,
      pending: after.pending,
      tainted: {
        [state.active]: {
          by: 'alice',
          sha256: held(state.active).sha256,
          reason: 'drill',
          at: now,
          leaves: [leaf(state.active).fingerprint, leaf(state.active).fingerprint],
          removed: null,
        },
      },
    })
    refuses(after, given('taint', { epoch: state.active }), /is tainted already/)
    refuses(state, given('taint', { epoch: 7 }), /expected the epoch of a trusted authority \(1.*\), found 7/)
    refuses(state, given('taint'), /found undefined/)
  }
})

test('a pause begins and ends once, and no rotation is ordered meanwhile', () => {
  const state = applyOrder(steadyState(), given('pause'), now, seenIn)
  assert.deepEqual(state.paused, { by: 'alice', reason: 'drill', at: now })
  refuses(state, given('pause'), /paused already by alice: drill/)
  refuses(state, given('rotate'), /the rotation is paused by alice: drill; `rotor resume` first/)
  refuses(state, given('root-rotate'), /paused by alice/)
  const { pending, ...resumed } = applyOrder(state, given('resume'), now, seenIn)
  assert.deepEqual({ ...resumed, pending: steadyState().pending }, steadyState())
  assert.deepEqual(
    pending.orders.map(({ kind }) => kind),
    ['pause', 'resume'],
  )
  refuses(steadyState(), given('resume'), /the rotation is not paused/)
})
