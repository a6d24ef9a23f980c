import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { clockReading, formatReading, surelyOff } from '../../src/clock-reading.ts'

const ms = (max: number) => fc.integer({ min: 0, max })

test('the true offset is within the bound, however the time of an answer is spent on its way', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1e9, max: 1e9 }),
      ms(100_000),
      ms(100_000),
      fc.integer({ min: 0, max: 999 }),
      (offset, out, back, fraction) => {
        const now = 1_000_000_000_000 + fraction / 1000
        const wall = (t: number) => Math.floor(t + offset)
        const asked = { mono: 5, wall: wall(now) }
        const heard = { mono: 5 + out + back, wall: wall(now + out + back) }
        const reading = clockReading(asked, heard, Math.floor(now + out))
        assert.ok(Math.abs(reading.offsetMs - offset) <= reading.boundMs)
        assert.ok(surelyOff(reading) <= Math.abs(offset))
      },
    ),
  )
})

test('our clock may be set while we wait: the way is measured by the one that nobody sets', () => {
  const reading = clockReading({ mono: 0, wall: 1_000 }, { mono: 10, wall: 61_010 }, 1_005)
  assert.deepEqual(reading, { offsetMs: 60_000, boundMs: 6 })
})

test('a reading is told with its sign and its bound', () => {
  assert.equal(formatReading({ offsetMs: 90_000, boundMs: 2 }), '+1m30s ±2ms')
  assert.equal(formatReading({ offsetMs: -5, boundMs: 0 }), '-5ms')
})
