import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rebuild } from '../../../src/rotation/rebuild.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import { epochStart } from '../../../src/schedule.ts'
import {
  at,
  bundleIn,
  convergingState,
  decide,
  distributingState,
  epochsIn,
  expectMove,
  genesis,
  introducingState,
  root,
  rootsIn,
  SCHEDULE,
  settle,
  signedBy,
  since,
  steadyState,
  withdrawingState,
  withPayload,
} from '../../support/rotation-world.ts'

const now = at(105, 10)

/** What is kept when these states were the last ones, oldest first. */
const kept = (...states: RotationState[]) => ({
  domain: 'prod',
  payloads: states.map(({ payload }) => payload),
  fence: 7,
  roots: rootsIn(states.at(-1) ?? genesis(1)),
  signedBy: signedBy(states.flatMap((state) => bundleIn(state).authorities)),
})

test('a lost state goes on with the newest kept bundle, its version and its text', () => {
  const states = [steadyState(), distributingState(), convergingState()]
  const state = rebuild(kept(...states.toReversed()), now)
  const [, , newest] = states
  assert.deepEqual(
    [state.version, state.payload, state.digest],
    [newest?.version, newest?.payload, newest?.digest],
  )
  assert.deepEqual([state.phaseVersion, state.since, state.fence], [newest?.version, now, 7])
  assert.deepEqual([state.order, state.waivers], [null, []])
})

test('the phase is the one the bundle shows, or the one that asks for more evidence', () => {
  const distributing = rebuild(kept(distributingState()), now)
  assert.deepEqual(
    [distributing.phase, distributing.phase === 'distributing' && distributing.next],
    ['distributing', 105],
  )
  for (const state of [convergingState(), steadyState(), withdrawingState()]) {
    const rebuilt = rebuild(kept(state), now)
    assert.equal(rebuilt.phase, 'converging')
    assert.equal(rebuilt.active, state.active)
    assert.equal(rebuilt.phase === 'converging' && rebuilt.previous, state.active - 1)
  }
  assert.equal(rebuild(kept(since(steadyState(), 104)), now).phase, 'steady')
  assert.equal(rebuild(kept(introducingState()), now).phase, 'introducing')
  assert.equal(rebuild(kept(genesis(100)), now).phase, 'steady')
})

test('a root that is in use is not being introduced', () => {
  const state = introducingState()
  const under = { ...kept(state), signedBy: signedBy(bundleIn(state).authorities, { 104: root(2) }) }
  assert.equal(rebuild(under, now).phase, 'converging')
  assert.equal(rebuild(under, now).newestRoot, 2)
})

test('an epoch of any kept bundle is never used again', () => {
  const withdrawn = withdrawingState()
  assert.ok(!epochsIn(withdrawn).includes(105))
  assert.equal(rebuild(kept(distributingState(), withdrawn), now).newest, 105)
})

test('when an authority stopped signing is read from the bundles, or taken as late as it can be', () => {
  const states = [distributingState(), convergingState()] as const
  const { version } = states[1]
  const known = rebuild(kept(...states), now)
  assert.deepEqual(known.replaced[104], { at: at(105), version })
  assert.deepEqual(known.replaced[103], { at: at(105), version }, 'the bundle of its change is not kept')
  assert.deepEqual(Object.keys(known.replaced), ['102', '103', '104'])
})

test('a rebuilt domain that is well comes to rest and rotates on', () => {
  for (const state of [distributingState(), convergingState(), withdrawingState()]) {
    const rebuilt = rebuild(kept(state), state.since)
    const rested = settle(settle(rebuilt, at(105)), at(105, 30))
    assert.equal(rested.phase, 'steady')
    assert.ok(rested.version >= state.version)
    const due = epochStart(SCHEDULE, rested.newest + 1) - SCHEDULE.lead
    const { to } = expectMove(decide(rested, due), 'prepare')
    assert.equal(to.version, rested.version + 1)
    assert.equal(bundleIn(to).previous, rested.digest)
  }
})

test('refuses to rebuild from nothing, and from what agents would refuse', () => {
  assert.throws(() => rebuild({ ...kept(), payloads: [] }, now), {
    code: 'ERR_RECORD_INVALID',
    message: /expected one, found none/,
  })
  assert.throws(() => rebuild({ ...kept(), payloads: ['{}'] }, now), { code: 'ERR_RECORD_INVALID' })
  assert.throws(() => rebuild({ ...kept(steadyState()), domain: 'other' }, now), {
    code: 'ERR_RECORD_INVALID',
  })
  const broken = withPayload(steadyState(), { epoch: 99 })
  assert.throws(() => rebuild(kept(broken), now), { code: 'ERR_RECORD_INVALID', message: /epoch 99/ })
})
