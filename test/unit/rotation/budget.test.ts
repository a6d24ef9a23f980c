import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RotorErrorCode } from '../../../src/errors.ts'
import { toleratesFailure } from '../../../src/rotation/budget.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import {
  agentsOf,
  at,
  convergingState,
  decide,
  distributingState,
  epochsIn,
  expectMove,
  expectWait,
  healthy,
  held,
  MINUTE,
  order,
  refused,
  serversOf,
  statusesIn,
  steadyState,
} from '../../support/rotation-world.ts'

const failing = (state: RotationState, name: string, code: RotorErrorCode = 'ERR_RELOAD_REFUSED') => ({
  agents: agentsOf(state, { [name]: refused(state, code) }),
})

test('withdraws the next authority when one server has put it back, naming it and the code', () => {
  const state = distributingState()
  const { to, reason } = expectMove(decide(state, at(104, 56), failing(state, 'n1')), 'withdraw')
  assert.match(reason, /withdraw epoch 105: 1 of 2 servers refused it \(n1: ERR_RELOAD_REFUSED\), 0 may/)
  assert.equal(to.phase, 'withdrawing')
  assert.equal(to.version, state.version + 1)
})

test('goes back to the authority before when a node refuses the new one in use', () => {
  const state = convergingState()
  for (const [name, words] of [
    ['n2', /1 of 2 servers refused it \(n2: ERR_PROOF_FAILED\), 0 may/],
    ['orders', /1 of 2 clients refused it \(orders: ERR_PROOF_FAILED\), 0 may/],
  ] as const) {
    const { to, reason } = expectMove(
      decide(state, at(105, 1), failing(state, name, 'ERR_PROOF_FAILED')),
      'rollback',
    )
    assert.match(reason, /^roll back from epoch 105 to 104: /)
    assert.match(reason, words)
    assert.deepEqual([to.phase, to.active, to.version], ['converging', 104, state.version + 1])
  }
})

test('within the budget it holds as before', () => {
  const state = distributingState()
  const policy = { maxFailures: { servers: 1, clients: 0.5 } }
  for (const name of ['n1', 'orders']) {
    expectWait(decide(state, at(104, 56), failing(state, name), policy), 'agents-do-not-trust')
  }
  const both = agentsOf(state, {
    n1: refused(state, 'ERR_RELOAD_REFUSED'),
    n2: refused(state, 'ERR_RELOAD_REFUSED'),
  })
  expectMove(decide(state, at(104, 56), { agents: both }, policy), 'withdraw')
})

test('that nobody answered is no verdict, and neither is a failure of a version before', () => {
  const state = distributingState()
  for (const code of [
    'ERR_NATS_UNAVAILABLE',
    'ERR_TARGET_UNREACHABLE',
    'ERR_PROBE_UNREACHABLE',
    'ERR_TURN_REFUSED',
    'ERR_IDENTITY_WRITE',
    'ERR_BUNDLE_SIGNATURE',
  ] as const) {
    expectWait(decide(state, at(104, 56), failing(state, 'n1', code)), 'agents-do-not-trust')
  }
  const { lastError } = refused(state, 'ERR_RELOAD_REFUSED')
  assert.ok(lastError)
  const before = { ...lastError, version: state.phaseVersion - 1 }
  const agents = agentsOf(state, { n1: { state: 'rolled-back', lastError: before } })
  expectWait(decide(state, at(104, 56), { agents }), 'agents-do-not-trust')
})

test('a listener that goes on refusing the next authority counts, one refusal does not', () => {
  const state = distributingState()
  const since = at(104, 56)
  const look = (ms: number) => {
    const proof = { at: since + ms, accepts: [], serves: 104, refuses: { epoch: 105, since }, error: 'no' }
    const listeners = [{ kind: 'leafnode' as const, address: '[::1]:7422', proof }]
    return decide(state, since + ms, { servers: serversOf(state, since, { listeners }) })
  }
  expectWait(look(0), 'servers-not-proven')
  expectWait(look(499), 'servers-not-proven')
  assert.match(expectMove(look(500), 'withdraw').reason, /n1: leafnode listener refuses it/)
})

test('never turns back by itself when the operator forces it, or nothing else can sign', () => {
  const state = distributingState()
  const forced = { ...state, order: order(true, at(104, 56)) }
  expectWait(decide(forced, at(104, 56), failing(state, 'n1')), 'agents-do-not-trust')
  const keys = epochsIn(state).filter((epoch) => epoch !== 104)
  const lost = { ...failing(state, 'n1'), held: keys.map(held) }
  expectWait(decide(state, at(104, 56), lost), 'agents-do-not-trust')
  // the signer is about to end: then a node that does not follow is passed over
  expectMove(decide(state, at(107, 59), failing(state, 'n1')), 'activate')
})

test('an epoch that was taken back is tried once: the next one comes with the clock, or with an order', () => {
  const state = distributingState()
  const gone = expectMove(decide(state, at(104, 56), failing(state, 'n1')), 'withdraw').to
  const rest = expectMove(decide(gone, at(104, 57)), 'converge').to
  expectWait(decide(rest, at(105, 30)), 'not-due')
  const { to } = expectMove(decide(rest, at(105, 55)), 'prepare')
  assert.equal(statusesIn(to)[106], 'prepared')
  const ordered = { ...rest, order: order(false, at(105, 1)) }
  assert.equal(statusesIn(expectMove(decide(ordered, at(105, 1)), 'prepare').to)[106], 'prepared')
})

test('many names are counted', () => {
  const state = distributingState()
  const agents = Array.from({ length: 9 }, (_, i) => ({
    name: `s${i}`,
    status: agentsOf(state, { orders: refused(state, 'ERR_NOTIFY_FAILED') }).at(-1)?.status ?? null,
  }))
  const { reason } = expectMove(decide(state, at(104, 56), { agents }), 'withdraw')
  assert.match(reason, /9 of 9 clients refused it \(s0: ERR_NOTIFY_FAILED, .*s4: .*, 4 more\), 0 may/)
})

test('the other servers go on after one that failed only when the budget has room for it', () => {
  const state = distributingState()
  const now = at(104, 56)
  const seen = healthy(state, now)
  const policy = { maxFailures: { servers: 1, clients: 0 } }
  assert.equal(toleratesFailure(state, seen, {}, now, 'n1'), false)
  assert.equal(toleratesFailure(state, seen, policy, now, 'n1'), true)
  const other = healthy(state, now, failing(state, 'n2'))
  assert.equal(toleratesFailure(state, other, policy, now, 'n1'), false)
  assert.equal(toleratesFailure(state, other, policy, now, 'n2'), true, 'it is the same one')
  assert.equal(toleratesFailure(state, seen, {}, at(107, 59), 'n1'), true, 'the signer is about to end')
})

test('a failure outside of a rotation changes nothing', () => {
  const state = steadyState()
  expectWait(decide(state, at(104, 30) + MINUTE, failing(state, 'n1')), 'not-due')
})
