/** The plan of faults is one of its seed, and leaves none out. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { faultKinds, planFaults } from '../../soak/faults.ts'
import { Random } from '../../support/random.ts'

const plan = (seed: number, count: number) => {
  const faults = planFaults(new Random(seed), faultKinds('openbao'))
  return Array.from({ length: count }, () => faults.next().value)
}

test('the same seed gives the same faults, another seed others', () => {
  assert.deepEqual(plan(7, 50), plan(7, 50))
  assert.notDeepEqual(plan(7, 50), plan(8, 50))
})

test('each kind comes once before any comes again', () => {
  const kinds = faultKinds('openbao')
  const seen = plan(3, 3 * kinds.length).map(({ kind }) => kind)
  for (let turn = 0; turn < 3; turn++) {
    const one = seen.slice(turn * kinds.length, (turn + 1) * kinds.length)
    assert.deepEqual(one.toSorted(), kinds.toSorted())
  }
})

test('faults of the engine come with OpenBao only', () => {
  assert.ok(!faultKinds('embedded').some((kind) => kind.startsWith('engine') || kind.startsWith('tokens')))
  assert.ok(faultKinds('openbao').includes('engine sealed'))
})
