import assert from 'node:assert/strict'
import { test } from 'node:test'
import { applyOrder } from '../../../src/rotation/orders.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import type { BundleRecord } from '../../../src/wire/bundle.ts'
import {
  agentsOf,
  at,
  bundleIn,
  convergingState,
  decide,
  distributingState,
  expectMove,
  healthy,
  MINUTE,
  order,
  steadyState,
} from '../../support/rotation-world.ts'

const now = at(104, 30)
const facts = { held: [], agents: [] }

function recordIn(state: RotationState): BundleRecord {
  const { record } = bundleIn(state)
  assert.ok(record)
  return record
}

test('a bundle tells the orders since the one before, also those that moved nothing', () => {
  const paused = applyOrder(steadyState(), order(false, now, 'pause'), now, facts)
  const resumed = applyOrder(paused, order(false, now, 'resume'), now, facts)
  const state = applyOrder(resumed, order(false, now), now, facts)
  const { to } = expectMove(decide(state, now), 'prepare')
  const record = recordIn(to)
  assert.equal(record.move, 'prepare')
  assert.deepEqual(
    record.orders.map(({ kind, by, reason }) => [kind, by, reason]),
    [
      ['pause', 'alice', 'drill'],
      ['resume', 'alice', 'drill'],
      ['rotate', 'alice', 'drill'],
    ],
  )
  assert.deepEqual(to.pending, { orders: [], moves: [], left: 0 }, 'each is told once')
})

test('a move without a bundle, and whom it passed over, is told by the next bundle', () => {
  const state = convergingState()
  const late = { orders: { version: state.version - 1 } }
  const end = at(107, 30)
  const { to } = expectMove(decide(state, end, { agents: agentsOf(state, late) }), 'converge')
  const next = expectMove(decide(to, end), 'retire').to
  const [told] = recordIn(next).moves
  assert.deepEqual([told?.move, told?.waived], ['converge', ['orders']])
  assert.match(told?.reason ?? '', /converged on epoch 105; went on without orders/)
})

test('a bundle tells whom it went on without, and the version of every agent when it was decided', () => {
  const state = { ...distributingState(), order: order(true, at(104, 55)) }
  const agents = agentsOf(state, { orders: { version: state.version - 1 }, n2: null })
  const { to } = expectMove(decide(state, at(104, 55) + 5 * MINUTE, { agents }), 'activate')
  const record = recordIn(to)
  assert.deepEqual([record.move, record.waived], ['activate', ['n2', 'orders']])
  assert.deepEqual(record.acks, [
    { version: 0, count: 1, agents: ['n2'] },
    { version: state.version - 1, count: 1, agents: ['orders'] },
    { version: state.version, count: 2, agents: ['issuer', 'n1'] },
  ])
})

test('what a bundle tells is bounded: the newest orders, those who lag by name, the others by number', () => {
  let state: RotationState = steadyState()
  for (let i = 0; i < 40; i++) {
    const kind = i % 2 === 0 ? 'pause' : 'resume'
    state = applyOrder(state, { ...order(false, now, kind), reason: `${i}` }, now, facts)
  }
  const many = Array.from({ length: 2_000 }, (_, i) => `service-${i}`)
  const [, , , last] = agentsOf(state)
  const agents = many.map((name, i) => ({
    name,
    status:
      last?.status == null ? null : { ...last.status, agent: name, version: i === 1_999 ? 1 : state.version },
  }))
  const ordered = applyOrder(state, order(false, now), now, facts)
  const { to } = expectMove(decide(ordered, now, { ...healthy(ordered, now), agents }), 'prepare')
  const { orders, left, acks } = recordIn(to)
  assert.equal(orders.length, 16)
  assert.equal(orders.length + left, 41)
  assert.deepEqual(acks[0], { version: 1, count: 1, agents: ['service-1999'] })
  assert.deepEqual([acks[1]?.count, acks[1]?.agents.length], [1_999, 255])
})
