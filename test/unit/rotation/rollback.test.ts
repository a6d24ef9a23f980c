import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RotationState } from '../../../src/rotation/state.ts'
import {
  agentsOf,
  at,
  bundleIn,
  convergingState,
  decide,
  epochsIn,
  expectMove,
  expectWait,
  held,
  leaf,
  order,
  refused,
  settle,
  since,
  statusesIn,
  steadyState,
  tainted,
  unmoved,
  withPayload,
} from '../../support/rotation-world.ts'

const ordered = <S extends RotationState>(state: S, now: number): S => ({
  ...state,
  order: order(false, now, 'rollback'),
})

/** Rolled back from 105 to 104 at 105:10. */
const rolledBack = () =>
  expectMove(decide(ordered(convergingState(), at(105, 10)), at(105, 10)), 'rollback').to

test('a rollback is a newer bundle in which the authority before signs again', () => {
  const state = convergingState()
  const to = rolledBack()
  assert.equal(to.version, state.version + 1)
  assert.equal(bundleIn(to).previous, state.digest)
  assert.equal(bundleIn(to).epoch, 104)
  assert.deepEqual([statusesIn(to)[104], statusesIn(to)[105]], ['active', 'retiring'])
  assert.deepEqual([to.order, to.newest], [null, 105])
  assert.deepEqual(Object.keys(to.replaced).includes('104'), false)
  assert.equal(to.replaced[105]?.version, to.version)
})

test('it holds until nobody has a leaf of the one that was rolled back, and that one stays in trust so long', () => {
  const state = rolledBack()
  const agents = agentsOf(state, { orders: { leaf: leaf(105) } })
  const held = expectWait(decide(state, at(105, 11), { agents }), 'agents-not-reissued')
  assert.equal(held.waitingFor[0]?.missing, 'holds a leaf of epoch 105, 104 signs')
  const steady = expectMove(decide(state, at(105, 11)), 'converge').to
  expectWait(decide(steady, at(105, 11), { agents }), 'authority-still-needed')
})

test('the one that was rolled back leaves when nobody depends on it, and its key is deleted', () => {
  const steady = expectMove(decide(rolledBack(), at(105, 11)), 'converge').to
  const { to, effects } = expectMove(
    decide(steady, at(105, 11), { held: epochsIn(steady).map(held) }),
    'retire',
  )
  assert.ok(!epochsIn(to).includes(105))
  assert.ok(effects.some((effect) => effect.kind === 'delete-authority' && effect.epoch === 105))
})

test('from steady an order leads to the newest authority before the signer', () => {
  const state = ordered(steadyState(), at(104, 30))
  const { to, reason } = expectMove(decide(state, at(104, 30)), 'rollback')
  assert.deepEqual([to.phase, to.active], ['converging', 103])
  assert.match(reason, /roll back from epoch 104 to 103: ordered by alice: drill/)
})

test('a policy that retires at once does not take out the authority that signs again', () => {
  const state = ordered(steadyState(), at(104, 30))
  const { to } = expectMove(decide(state, at(104, 30), {}, { retireAfter: 0 }), 'rollback')
  assert.equal(statusesIn(to)[to.active], 'active')
})

test('never goes back to one that is tainted, whose key is lost, or that ends soon', () => {
  const state = convergingState()
  const agents = agentsOf(state, { n1: refused(state, 'ERR_PROOF_FAILED') })
  const now = at(105, 1)
  expectMove(decide(state, now, { agents }), 'rollback')
  const lost = epochsIn(state).filter((epoch) => epoch !== 104)
  expectWait(decide(state, now, { agents, held: lost.map(held) }), 'agents-not-reissued')
  const marked = withPayload(tainted(state, 104, now), {
    authorities: bundleIn(state).authorities.map((authority) =>
      authority.epoch === 104 ? { ...authority, status: 'tainted' } : authority,
    ),
  })
  expectWait(decide(marked, now, { agents }), 'agents-not-reissued')
  // 104 ends at 108:00, and half an epoch is the least
  const two = since(state, 104)
  expectMove(decide(two, at(107, 29), { agents }, { goOnBelow: 0 }), 'rollback')
  expectWait(decide(two, at(107, 31), { agents }, { goOnBelow: 0 }), 'agents-not-reissued')
})

test('by itself it goes back to where the rotation came from, and no further', () => {
  const state = rolledBack()
  const agents = agentsOf(state, { n1: refused(state, 'ERR_PROOF_FAILED') })
  expectWait(decide(state, at(105, 11), { agents }), 'agents-not-reissued')
})

test('a signer that came back is replaced before it ends, however far ahead the epochs were', () => {
  const steady = { ...expectMove(decide(rolledBack(), at(105, 11)), 'converge').to, newest: 120 }
  const state = settle(steady, at(106, 29))
  expectWait(decide(state, at(106, 29)), 'not-due')
  const keys = [...epochsIn(state).map(held), { ...held(121), notBefore: at(106) }]
  assert.match(
    expectMove(decide(state, at(106, 30), { held: keys }), 'prepare').reason,
    /prepare epoch 121: epoch 104 signs again and ends soon/,
  )
})

test('a restart keeps what is still valid: leaves of a newer authority may be left from a rollback', () => {
  const steady = expectMove(decide(rolledBack(), at(105, 11)), 'converge').to
  const agents = unmoved(steady).map((agent) => ({
    ...agent,
    status: agent.status && { ...agent.status, leaf: leaf(105) },
  }))
  const keys = [...epochsIn(steady), 108].map(held)
  const { to } = expectMove(decide(steady, at(108), { agents, held: keys }), 'restart')
  assert.deepEqual(statusesIn(to), { 105: 'retiring', 108: 'active' })
})
