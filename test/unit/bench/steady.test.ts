import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { MEASURES, type Measured } from '../../../bench/steady-measure.ts'
import { type SteadyRound, summariseSteady } from '../../../bench/steady-summary.ts'

const all = (microseconds: number): Measured =>
  Object.fromEntries(MEASURES.map((measure) => [measure, microseconds])) as Measured

const round = (plain: number, ours: number): SteadyRound => ({
  plain: all(plain),
  fresh: all(ours),
  moved: all(plain),
  plainAgain: all(plain),
})

describe('the summary of the steady benchmark', () => {
  test('compares within a round, so that a machine that slows down changes no ratio', () => {
    const summary = summariseSteady([all(10)], [round(10, 10.1), round(40, 40.4), round(20, 20.2)])
    assert.deepEqual(summary.ratios.fresh.publish, { median: 1.01, min: 1.01, max: 1.01 })
    assert.equal(summary.target.met, true)
    assert.equal(summary.besideOurs.publish, 2)
  })

  test('names what is above the target, and shows the spread', () => {
    const summary = summariseSteady([all(10)], [round(10, 10.3), round(10, 9), round(10, 12)])
    assert.deepEqual(summary.ratios.fresh.request, { median: 1.03, min: 0.9, max: 1.2 })
    assert.equal(summary.target.met, false)
    assert.ok(summary.target.missed.includes('fresh request'))
    assert.ok(!summary.target.missed.some((name) => name.startsWith('plainAgain')))
  })
})
