import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RotationState } from '../../../src/rotation/state.ts'
import { formatInstant } from '../../../src/time.ts'
import {
  agentsOf,
  at,
  convergingState,
  decide,
  distributingState,
  epochsIn,
  expectMove,
  expectWait,
  HOUR,
  held,
  order,
  refused,
  root,
  since,
  steadyState,
  withPayload,
} from '../../support/rotation-world.ts'

const paused = <S extends RotationState>(state: S): S => ({
  ...state,
  paused: { by: 'alice', reason: 'a freeze', at: state.since },
})

/** 104 signs, and nothing else is trusted. */
const alone = () => since(steadyState(), 104)

test('while paused nothing is prepared, activated or introduced, and it says until when that counts', () => {
  const prepare = expectWait(decide(paused(alone()), at(104, 56)), 'paused')
  assert.equal(prepare.until, at(106, 30)) // 104 ends at 108:00, less 1.5 epochs
  expectWait(decide(paused(distributingState()), at(105)), 'paused')
  const state = { ...paused(steadyState()), order: order(false, at(104, 31), 'root-rotate') }
  expectWait(decide(state, at(104, 31), { roots: [root(1), root(2)] }), 'paused')
})

test('while paused no authority leaves trust before its end', () => {
  const policy = { retireAfter: 0 }
  const now = at(104, 31)
  expectMove(decide(steadyState(), now, {}, policy), 'retire')
  expectWait(decide(paused(steadyState()), now, {}, policy), 'not-due')
  expectMove(decide(paused(steadyState()), at(105), { held: epochsIn(steadyState()).map(held) }), 'retire')
})

test('while paused what was begun converges, and what fails is taken back', () => {
  expectMove(decide(paused(convergingState()), at(105, 1)), 'converge')
  const state = paused(distributingState())
  const agents = agentsOf(state, { n1: refused(state, 'ERR_RELOAD_REFUSED') })
  expectMove(decide(state, at(104, 56), { agents }), 'withdraw')
})

test('while paused a bundle that grows old is refreshed', () => {
  const now = at(104, 31)
  const state = withPayload(paused(steadyState()), { expiresAt: formatInstant(now + HOUR - 1) })
  expectMove(decide(state, now), 'refresh')
})

test('a pause that was forgotten ends no domain: it counts no more when the signer nears its end, or is lost', () => {
  expectMove(decide(paused(alone()), at(106, 30), { held: [104, 106].map(held) }), 'prepare')
  const keys = [...epochsIn(steadyState()).filter((epoch) => epoch !== 104), 105].map(held)
  expectMove(decide(paused(steadyState()), at(104, 31), { held: keys }), 'prepare')
})
