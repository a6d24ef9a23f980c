import assert from 'node:assert/strict'
import { test } from 'node:test'
import { untilRenewal } from '../../../agent/renewal.ts'

const MINUTE = 60_000
const LIFE = 120 * MINUTE
/** True time. */
const NOW = Date.UTC(2026, 10, 22)
const leaf = { notBefore: NOW, notAfter: NOW + LIFE }
/** `at` after the leaf was issued, on a machine whose clock is ahead by `ahead`. */
const tick = (at: number, ahead = 0) => ({ mono: 1_000 + at, wall: NOW + at + ahead })

test('a leaf is renewed after two thirds of its life', () => {
  for (const taken of [null, tick(0)]) {
    assert.equal(untilRenewal(leaf, taken, tick(0)), 80 * MINUTE)
    assert.equal(untilRenewal(leaf, taken, tick(80 * MINUTE)), 0)
  }
})

test('by a clock that is ahead, a leaf that was just taken is not due again at once', () => {
  const ahead = 100 * MINUTE
  assert.ok(untilRenewal(leaf, null, tick(0, ahead)) < 0, 'since when it is here is not known: once')
  assert.equal(untilRenewal(leaf, tick(0, ahead), tick(0, ahead)), 40 * MINUTE)
  assert.equal(untilRenewal(leaf, tick(0, ahead), tick(40 * MINUTE, ahead)), 0)
})

test('a leaf that was cut short by the end of its authority is not renewed again at once', () => {
  const issued = tick(119 * MINUTE)
  assert.ok(untilRenewal(leaf, issued, issued) > 0)
})

test('a machine that slept renews when it wakes, although one of its clocks stood still', () => {
  const woke = { mono: tick(MINUTE).mono, wall: tick(90 * MINUTE).wall }
  assert.ok(untilRenewal(leaf, tick(0), woke) <= 0)
})

test('a clock that is set back does not forget how long a leaf is here', () => {
  const ahead = 100 * MINUTE
  const back = { mono: tick(90 * MINUTE).mono, wall: tick(90 * MINUTE).wall }
  assert.ok(untilRenewal(leaf, tick(0, ahead), back) <= 0)
})
