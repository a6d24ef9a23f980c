import assert from 'node:assert/strict'
import { test } from 'node:test'
import { advance } from '../../../src/rotation/advance.ts'
import {
  agentsOf,
  at,
  bundleIn,
  decide,
  epochsIn,
  expectMove,
  expectWait,
  genesis,
  HOUR,
  healthy,
  held,
  leaf,
  MINUTE,
  order,
  root,
  since,
  statusesIn,
  steadyState,
  withPayload,
} from '../../support/rotation-world.ts'

test('waits until the lead before the next epoch, and says until when', () => {
  const decision = expectWait(decide(steadyState(), at(104, 54)), 'not-due')
  assert.equal(decision.until, at(104, 55))
  assert.deepEqual(decision.waitingFor, [])
  assert.deepEqual(decision.effects, [])
})

test('prepares the coming epoch, not the one that is running', () => {
  const state = steadyState()
  const { to, reason } = expectMove(decide(state, at(104, 55)), 'prepare')
  assert.equal(to.phase === 'distributing' && to.next, 105)
  assert.equal(statusesIn(to)[105], 'prepared')
  assert.equal(statusesIn(to)[104], 'active')
  assert.match(reason, /prepare epoch 105, which starts at 1970-01-05T09:00:00\.000Z/)
  assert.equal(bundleIn(to).reason, reason)
})

test('a new bundle is the next version, names the digest of the one before and lasts one validity', () => {
  const state = steadyState()
  const { to } = expectMove(decide(state, at(104, 55)), 'prepare')
  const bundle = bundleIn(to)
  assert.equal(bundle.version, state.version + 1)
  assert.equal(to.version, bundle.version)
  assert.equal(bundle.previous, state.digest)
  assert.equal(Date.parse(bundle.issuedAt), at(104, 55))
  assert.equal(Date.parse(bundle.expiresAt), at(108, 55))
  assert.equal(to.phaseVersion, to.version)
  assert.equal(to.since, at(104, 55))
  assert.equal(to.fence, state.fence)
})

test('asks for the authority of the coming epoch, dated back by the lead', () => {
  const state = steadyState()
  const keys = epochsIn(state).map(held)
  const decision = expectWait(decide(state, at(104, 55), { held: keys }), 'authority-not-created')
  assert.deepEqual(decision.effects, [
    {
      kind: 'create-authority',
      epoch: 105,
      notBefore: at(104, 50),
      notAfter: at(109),
      root: root(1).sha256,
    },
  ])
  const late = expectWait(decide(since(state, 103), at(105, 20), { held: keys }), 'authority-not-created')
  assert.deepEqual(late.effects[0], {
    kind: 'create-authority',
    epoch: 105,
    notBefore: at(104, 55),
    notAfter: at(109),
    root: root(1).sha256,
  })
})

test('does not put an authority into a bundle before its certificate is valid', () => {
  const early = { ...held(105), notBefore: at(104, 58) }
  const state = steadyState()
  const keys = [...epochsIn(state).map(held), early]
  const decision = expectWait(decide(state, at(104, 56), { held: keys }), 'authority-not-created')
  assert.equal(decision.until, at(104, 58))
  assert.deepEqual(decision.effects, [])
  expectMove(decide(state, at(104, 58), { held: keys }), 'prepare')
})

test('refuses a held authority that ends before its epoch is of use', () => {
  const short = { ...held(105), notAfter: at(104, 59) }
  const state = steadyState()
  assert.throws(() => decide(state, at(104, 56), { held: [...epochsIn(state).map(held), short] }), {
    code: 'ERR_AUTHORITY_MISSING',
    message: /authority of epoch 105 to last until 1970-01-05T13.*found one that ends at 1970-01-05T08:59/,
  })
})

test('skips the epochs it slept through and never goes back', () => {
  const state = steadyState()
  const keys = [...epochsIn(state), 107].map(held)
  const { to } = expectMove(decide(state, at(107, 30), { held: keys }), 'prepare')
  assert.equal(to.phase === 'distributing' && to.next, 107)
  expectWait(decide(state, at(103, 56)), 'not-due')
})

test('an order prepares the coming epoch at once', () => {
  const now = at(104, 30)
  const { to, reason } = expectMove(decide({ ...steadyState(), order: order(false, now) }, now), 'prepare')
  assert.equal(to.phase === 'distributing' && to.next, 105)
  assert.match(reason, /ordered by alice: drill/)
  assert.equal(to.order?.by, 'alice')
})

test('an order after an early rotation takes the epoch after that, back-dated from now', () => {
  const state = { ...genesis(104), order: order(false, at(104, 1)) }
  const first = expectWait(decide(state, at(104, 1), { held: [held(104)] }), 'authority-not-created')
  assert.deepEqual(first.effects, [
    {
      kind: 'create-authority',
      epoch: 105,
      notBefore: at(103, 56),
      notAfter: at(109),
      root: root(1).sha256,
    },
  ])
})

test('prepares at once when the key that signs is lost', () => {
  const state = steadyState()
  const keys = [101, 102, 103, 105].map(held)
  const { reason } = expectMove(decide(state, at(104, 10), { held: keys }), 'prepare')
  assert.match(reason, /the key of epoch 104, which signs, is lost/)
})

test('restarts with a fresh authority when the signer has ended, and lists everyone as passed over', () => {
  const state = steadyState()
  const now = at(120)
  expectMove(decide(since(state, 104), at(108) - 1, { held: [held(104), held(108)] }), 'prepare')
  const asked = expectWait(decide(state, now, { held: [held(104)] }), 'authority-not-created')
  assert.equal(asked.effects[0]?.kind === 'create-authority' && asked.effects[0].epoch, 120)
  const { to, reason } = expectMove(decide(state, now, { held: [held(104), held(120)] }), 'restart')
  assert.equal(to.phase === 'converging' && to.active, 120)
  assert.deepEqual(statusesIn(to), { 120: 'active' })
  assert.deepEqual(to.waivers[0]?.names, ['issuer', 'n1', 'n2', 'orders'])
  assert.match(reason, /restart with epoch 120: epoch 104 signed and ended at/)
})

test('refreshes the bundle one epoch before agents would refuse it as expired', () => {
  const state = withPayload(steadyState(), { expiresAt: '1970-01-05T09:30:00.000Z' }) // 105:30
  const before = expectWait(decide(state, at(104, 30)), 'not-due')
  assert.equal(before.until, at(104, 30) + 1)
  const { to } = expectMove(decide(state, at(104, 30) + 1), 'refresh')
  assert.deepEqual(statusesIn(to), statusesIn(state))
  assert.equal(to.version, state.version + 1)
  assert.equal(to.since, state.since)
  assert.equal(to.phaseVersion, state.phaseVersion)
})

test('does not build on a bundle that is not on the stream', () => {
  const state = steadyState()
  const decision = expectWait(decide(state, at(104, 55), { published: state.version - 1 }), 'not-published')
  assert.deepEqual(decision.effects, [{ kind: 'publish-bundle', version: state.version }])
})

test('a bundle on the stream that the state does not know is a conflict', () => {
  const state = steadyState()
  assert.throws(() => decide(state, at(104, 55), { published: state.version + 1 }), {
    code: 'ERR_STATE_CONFLICT',
    details: { domain: 'prod', expected: state.version, found: state.version + 1 },
  })
})

test('refuses a state that contradicts its own payload', () => {
  const state = steadyState()
  const cases = [
    [{ ...state, digest: 'a'.repeat(64) }, /digest: expected [0-9a-f]{64}, found a{64}/],
    [{ ...state, version: 99 }, /version: expected \d+, found 99/],
    [{ ...state, active: 103 }, /active: expected 104, found 103/],
    [{ ...state, domain: 'test' }, /domain: expected prod, found test/],
    [{ ...state, newest: 103 }, /newest: expected 104 or more, found 103/],
    [{ ...state, phase: 'distributing', next: 105 } as const, /next: expected an epoch of the bundle/],
  ] as const
  for (const [wrong, message] of cases) {
    assert.throws(() => decide(wrong, at(104)), { code: 'ERR_RECORD_INVALID', message })
  }
  const seen = healthy(state, at(104), { published: 0 })
  assert.throws(() => advance({ ...state, payload: '{' }, seen, {}, at(104)), {
    code: 'ERR_RECORD_INVALID',
    message: /payload: expected JSON/,
  })
})

test('a policy or a time that is no number is a mistake of the caller', () => {
  assert.throws(() => decide(steadyState(), at(104), {}, { goOnBelow: -1 }), TypeError)
  assert.throws(() => decide(steadyState(), at(104), {}, { patience: Number.NaN }), TypeError)
  assert.throws(
    () =>
      advance(
        steadyState(),
        { held: [], roots: [], signedBy: {}, published: 0, agents: [], servers: [] },
        {},
        Number.NaN,
      ),
    TypeError,
  )
})

test('deletes the key of an authority that left the bundle, and no key that is still to come', () => {
  const state = steadyState()
  const keys = [100, ...epochsIn(state), 105].map(held)
  const decision = expectWait(decide(state, at(104, 30), { held: keys }), 'not-due')
  assert.deepEqual(decision.effects, [{ kind: 'delete-authority', epoch: 100 }])
})

test('an authority leaves with the bundle that prepares the next one, together with its key', () => {
  const { to, effects, reason } = expectMove(decide(steadyState(), at(104, 55)), 'prepare')
  assert.deepEqual(epochsIn(to), [102, 103, 104, 105])
  assert.deepEqual(effects, [
    { kind: 'publish-bundle', version: to.version },
    { kind: 'delete-authority', epoch: 101 },
  ])
  assert.match(reason, /; retire epoch 101, on which nobody depends$/)
})

test('what can not wait is published although the next authority can not be created', () => {
  const state = steadyState()
  const keys = epochsIn(state).map(held)
  const lagging = agentsOf(state, { orders: { leaf: leaf(101, at(105)) } })
  expectWait(decide(state, at(104, 59), { held: keys, agents: lagging }), 'authority-not-created')
  expectMove(decide(state, at(105), { held: keys, agents: lagging }), 'retire')
  const old = withPayload(since(state, 102), { expiresAt: '1970-01-05T09:50:00.000Z' })
  expectMove(decide(old, at(104, 56), { held: keys }), 'refresh')
})

test('one hour of rotation is one preparation: the domain comes to rest again', () => {
  const state = steadyState()
  assert.deepEqual(epochsIn(state), [101, 102, 103, 104])
  assert.deepEqual(statusesIn(state), { 101: 'retiring', 102: 'retiring', 103: 'retiring', 104: 'active' })
  // version 1 is the first bundle; each of the four epochs since took a preparation and an activation
  assert.equal(state.version, 9)
  assert.equal(state.waivers.length, 0)
  assert.ok(state.since >= at(104) && state.since < at(104) + HOUR + MINUTE)
})
