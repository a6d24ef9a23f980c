import assert from 'node:assert/strict'
import { test } from 'node:test'
import { relative, table } from '../../../cli/output.ts'

test('columns line up by what is seen, not by the bytes of colours', () => {
  const red = `${String.fromCharCode(27)}[31mno${String.fromCharCode(27)}[39m`
  assert.equal(
    table([
      ['NODE', 'OK', 'X'],
      ['a', red, 'y'],
    ]),
    `NODE  OK  X\na     ${red}  y`,
  )
})

test('a short row ends where it ends', () => {
  assert.equal(table([['a', 'bb'], ['ccc']]), 'a    bb\nccc')
})

test('relative times are rounded to what a person wants to know', () => {
  assert.equal(relative(3_725_000, 0), 'in 1h2m')
  assert.equal(relative(0, 65_432), '1m5s ago')
  assert.equal(relative(1_234, 0), 'in 1s200ms')
})
