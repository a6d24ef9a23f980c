import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Ledger } from '../../../demo/ledger.ts'

const counts = (numbers: readonly number[]) => {
  const ledger = new Ledger()
  for (const number of numbers) ledger.take(number)
  return ledger.counts
}

test('numbers in order are received once, in order', () => {
  assert.deepEqual(counts([1, 2, 3]), { received: 3, duplicated: 0, reordered: 0 })
})

test('a missing one is not received, a repeated one is duplicated, a late one is reordered', () => {
  assert.deepEqual(counts([1, 3, 3, 2, 6]), { received: 4, duplicated: 1, reordered: 1 })
})

test('the ledger counts what a list of everything would count', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 60 }), (numbers) => {
      const seen = new Set<number>()
      const expected = { received: 0, duplicated: 0, reordered: 0 }
      for (const number of numbers) {
        if (seen.has(number)) expected.duplicated += 1
        else if (number < Math.max(0, ...seen)) expected.reordered += 1
        seen.add(number)
      }
      assert.deepEqual(counts(numbers), { ...expected, received: seen.size })
    }),
  )
})
