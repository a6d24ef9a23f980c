import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  agentsOf,
  at,
  convergingState,
  decide,
  distributingState,
  epochsIn,
  expectMove,
  expectWait,
  held,
  leaf,
  order,
  serversOf,
  since,
  unmoved,
  withdrawingState,
} from '../../support/rotation-world.ts'

test('converges when every agent holds a leaf of the new authority and every listener serves one', () => {
  const waived = {
    ...convergingState(),
    order: order(false, at(105)),
    waivers: [{ names: ['x'], reason: 'y', at: 0 }],
  }
  const { to, reason, effects } = expectMove(decide(waived, at(105, 1)), 'converge')
  assert.equal(to.phase, 'steady')
  assert.equal(to.version, waived.version)
  assert.equal(to.payload, waived.payload)
  assert.equal(to.order, null)
  assert.deepEqual(to.waivers, [])
  assert.equal(to.since, at(105, 1))
  assert.deepEqual(effects, [])
  assert.equal(reason, 'converged on epoch 105')
})

test('holds for an agent that applied the bundle and kept its old leaf', () => {
  const state = convergingState()
  const agents = agentsOf(state, { orders: { leaf: leaf(104) } })
  const decision = expectWait(decide(state, at(105, 1), { agents }), 'agents-not-reissued')
  assert.deepEqual(decision.waitingFor, [
    { name: 'orders', kind: 'agent', missing: 'holds a leaf of epoch 104, 105 signs' },
  ])
})

test('holds for a listener that still serves the old leaf, and dials it again', () => {
  const state = convergingState()
  const proof = { at: at(105, 1), accepts: [104, 105], serves: 104, error: null }
  const servers = serversOf(state, at(105, 1), {
    listeners: [{ kind: 'cluster', address: 'n1:6222', proof }],
  })
  const decision = expectWait(decide(state, at(105, 1), { servers }), 'servers-not-reissued')
  assert.deepEqual(decision.effects, [{ kind: 'probe-servers', epoch: 105, servers: ['n1'] }])
  assert.equal(
    decision.waitingFor[0]?.missing,
    'cluster listener n1:6222: serves a leaf of epoch 104, not 105',
  )
})

test('measures the limit on the new signer, so that the next rotation is not blocked for ever', () => {
  const state = convergingState()
  const agents = agentsOf(state, { orders: { leaf: leaf(104) } })
  const keys = epochsIn(state).map(held)
  const hold = decide(state, at(105, 1), { agents, held: keys })
  assert.equal(expectWait(hold, 'agents-not-reissued').until, at(105, 55)) // then 102 is due to leave
  const { to, reason } = expectMove(decide(state, at(107, 30), { agents, held: keys }), 'converge')
  assert.equal(to.phase, 'steady')
  assert.match(reason, /converged on epoch 105; went on without orders: epoch 105 signs and ends in 1h30m/)
})

test('goes on at once when the key of the new signer is lost: nobody can be issued a leaf by it', () => {
  const state = convergingState()
  const { to, reason } = expectMove(
    decide(state, at(105, 1), { agents: unmoved(state), held: [held(104)] }),
    'converge',
  )
  assert.match(reason, /went on without issuer, n1, n2, orders: the key of epoch 105, which signs, is lost/)
  const { reason: next } = expectMove(decide(to, at(105, 2), { held: [held(104), held(106)] }), 'prepare')
  assert.match(next, /prepare epoch 106: the key of epoch 105, which signs, is lost/)
})

test('keeps the previous authority while nodes move off it, even when policy would retire it', () => {
  const state = convergingState()
  const servers = serversOf(state, at(105, 1)).map((server) => ({
    ...server,
    listeners: server.listeners.map((listener) => ({ ...listener, proof: null })),
  }))
  const policy = { retireAfter: 0 }
  const { to } = expectMove(decide(state, at(105, 1), { servers }, policy), 'retire')
  assert.deepEqual(epochsIn(to), [104, 105])
  expectWait(decide(to, at(105, 1), { servers }, policy), 'servers-not-reissued')
})

test('a withdrawn authority is forgotten when every agent applied the bundle without it', () => {
  const state = withdrawingState()
  const agents = agentsOf(state, { orders: { version: state.version - 1 } })
  const keys = [102, 103, 104, 105].map(held)
  const decision = expectWait(decide(state, at(104, 58), { agents, held: keys }), 'agents-still-trust')
  assert.equal(decision.waitingFor[0]?.name, 'orders')
  assert.deepEqual(decision.effects, [{ kind: 'delete-authority', epoch: 105 }])
  const { to, reason } = expectMove(decide(state, at(104, 58)), 'converge')
  assert.equal(to.phase, 'steady')
  assert.equal(reason, 'epoch 105 is withdrawn, epoch 104 signs')
})

test('a withdrawal goes on without stragglers at the same limit', () => {
  const state = since(withdrawingState(), 103)
  const agents = agentsOf(state, { orders: null })
  const keys = [103, 104].map(held)
  expectWait(decide(state, at(106, 30) - 1, { agents, held: keys }), 'agents-still-trust')
  expectMove(decide(state, at(106, 30), { agents, held: keys }), 'converge')
})

test('an epoch that was withdrawn is never used for another authority', () => {
  const { to } = expectMove(decide(withdrawingState(), at(104, 58)), 'converge')
  const keys = [102, 103, 104, 106].map(held)
  expectWait(decide(to, at(105, 30), { held: keys }), 'not-due')
  const ordered = { ...to, order: order(false, at(105, 1)) }
  const { to: early } = expectMove(decide(ordered, at(105, 1), { held: keys }), 'prepare')
  assert.ok(early.phase === 'distributing' && early.next === 106)
  const { to: next } = expectMove(decide(to, at(105, 55), { held: keys }), 'prepare')
  assert.ok(next.phase === 'distributing' && next.next === 106)
})

test('the whole way of one authority skips no phase', () => {
  const seen = []
  let state = expectMove(decide(distributingState(), at(105)), 'activate').to
  seen.push(state.phase)
  state = expectMove(decide(state, at(105, 1)), 'converge').to
  seen.push(state.phase)
  state = expectMove(decide(state, at(105, 55)), 'prepare').to
  seen.push(state.phase)
  assert.deepEqual(seen, ['converging', 'steady', 'distributing'])
})
