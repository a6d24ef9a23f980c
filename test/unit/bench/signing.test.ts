import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { renderSigning, type SigningRound, summariseSigning } from '../../../bench/signing-summary.ts'

const round = (embedded: number, change: Partial<SigningRound> = {}): SigningRound => ({
  raw: 4000,
  raw2: 8000,
  embedded,
  embeddedCpuMs: 1,
  overNats: embedded / 2,
  engineThroughUs: 95,
  engineDirectly: 100,
  ...change,
})

describe('the summary of the signing benchmark', () => {
  test('has medians of the rounds, and ratios within each round', () => {
    const { rates, ratios, target } = summariseSigning([round(1000), round(3000), round(2000, { raw: 500 })])
    assert.deepEqual(rates.embedded, { median: 2000, min: 1000, max: 3000 })
    assert.deepEqual(ratios['embedded by raw'], { median: 0.75, min: 0.25, max: 4 })
    assert.deepEqual(ratios['over NATS by embedded'], { median: 0.5, min: 0.5, max: 0.5 })
    assert.deepEqual(target.missed, [])
  })

  test('names what is below the target', () => {
    const { target } = summariseSigning([round(900, { engineThroughUs: 80 })])
    assert.deepEqual([target.met, target.missed], [false, ['embedded', 'throughUsByDirectly']])
  })

  test('does without OpenBao', () => {
    const summary = summariseSigning([round(1200, { engineThroughUs: null, engineDirectly: null })])
    assert.equal(summary.target.met, true)
    assert.deepEqual(summary.rates.engineDirectly, { median: null, min: null, max: null })
    assert.match(renderSigning(summary), /OpenBao directly +- +- +-\n/)
  })
})
