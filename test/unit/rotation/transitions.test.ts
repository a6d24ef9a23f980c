import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RotorError } from '../../../src/errors.ts'
import { advance } from '../../../src/rotation/advance.ts'
import type { Phase, RotationState } from '../../../src/rotation/state.ts'
import { rotationState } from '../../../src/rotation/state.ts'
import { healthy, STATES } from '../../support/rotation-world.ts'
import { EVENTS, type EventKind, type Expected, type Scene, TABLE } from '../../support/transition-table.ts'

function outcome(state: RotationState, { now, seen, state: changed = state }: Scene): Expected {
  try {
    const decision = advance(changed, healthy(changed, now, seen), {}, now)
    if (decision.kind === 'wait') return { wait: decision.reason }
    rotationState.parse(decision.to)
    return { move: decision.move, phase: decision.to.phase }
  } catch (error) {
    if (!RotorError.is(error)) throw error
    return { error: error.code }
  }
}

const states: Record<Phase, RotationState> = {
  steady: STATES.steady(),
  distributing: STATES.distributing(),
  converging: STATES.converging(),
  withdrawing: STATES.withdrawing(),
  introducing: STATES.introducing(),
}
const phases = Object.keys(TABLE) as Phase[]
const kinds = Object.keys(EVENTS) as EventKind[]

test('every phase answers every event as the transition table says', async (t) => {
  for (const phase of phases) {
    const state = states[phase]
    for (const kind of kinds) {
      await t.test(`${phase}: ${kind}`, () => {
        assert.deepEqual(outcome(state, EVENTS[kind](state)), TABLE[phase][kind])
      })
    }
  }
})

test('the same inputs give the same decision', () => {
  for (const phase of phases) {
    for (const kind of kinds) {
      const state = states[phase]
      const scene = EVENTS[kind](state)
      if ('error' in TABLE[phase][kind]) continue
      const from = scene.state ?? state
      const once = () => advance(from, healthy(from, scene.now, scene.seen), {}, scene.now)
      assert.deepEqual(once(), once())
    }
  }
})

test('every decision survives a trip through JSON, so a stored state decides as it did before', () => {
  for (const phase of phases) {
    const state = states[phase]
    const stored = rotationState.parse(JSON.parse(JSON.stringify(state)))
    for (const kind of kinds) {
      const scene = EVENTS[kind](state)
      const { state: _, ...same } = scene
      if (scene.state === undefined) assert.deepEqual(outcome(stored, same), outcome(state, same))
    }
  }
})

test('after a commit the next turn asks for the publication again until the stream has it', () => {
  for (const phase of phases) {
    for (const kind of kinds) {
      const state = states[phase]
      const scene = EVENTS[kind](state)
      if (!('move' in TABLE[phase][kind])) continue
      const from = scene.state ?? state
      const decision = advance(from, healthy(from, scene.now, scene.seen), {}, scene.now)
      assert.equal(decision.kind, 'move')
      if (decision.kind !== 'move' || decision.to.version === from.version) continue
      const [publication] = decision.effects
      assert.deepEqual(publication, { kind: 'publish-bundle', version: from.version + 1 })
      const again = advance(
        decision.to,
        healthy(decision.to, scene.now, { published: from.version }),
        {},
        scene.now,
      )
      assert.equal(again.kind === 'wait' && again.reason, 'not-published')
      assert.deepEqual(again.effects, [publication])
    }
  }
})
