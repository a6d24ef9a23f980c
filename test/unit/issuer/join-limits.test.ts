import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Limits, sourceOf } from '../../../issuer/join/limits.ts'

const limits = { perAddress: { burst: 2, perSecond: 1 }, overall: { burst: 4, perSecond: 2 } }

test('an address has its burst, then waits for the next request, and does not hold up another one', () => {
  const gate = new Limits(limits, 0)
  assert.deepEqual(
    [gate.take('10.0.0.1', 0), gate.take('10.0.0.1', 0), gate.take('10.0.0.1', 0), gate.take('10.0.0.2', 0)],
    [null, null, 1000, null],
  )
  assert.equal(gate.take('10.0.0.1', 400), 600)
  assert.equal(gate.take('10.0.0.1', 1000), null)
})

test('many addresses together have the burst of all', () => {
  const gate = new Limits(limits, 0)
  const taken = Array.from({ length: 6 }, (_, i) => gate.take(`10.0.0.${i}`, 0))
  assert.deepEqual(taken, [null, null, null, null, 500, 500])
})

test('a refused request costs nothing, and a clock that goes back gives nothing', () => {
  const gate = new Limits(limits, 10_000)
  for (let i = 0; i < 50; i++) gate.take('10.0.0.1', 10_000)
  assert.equal(gate.take('10.0.0.1', 5_000), 1000)
  assert.equal(gate.take('10.0.0.1', 6_000), null)
})

test('what is remembered stays bounded', () => {
  const gate = new Limits(
    { perAddress: { burst: 1, perSecond: 1 }, overall: { burst: 1e9, perSecond: 1e9 } },
    0,
  )
  for (let i = 0; i < 30_000; i++) gate.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 0)
  // the first was forgotten, the last is still known
  assert.equal(gate.take('10.0.0.0', 0), null)
  assert.equal(gate.take(`10.0.${(29_999 >> 8) & 255}.${29_999 & 255}`, 0), 1000)
})

test('an IPv6 network counts as one address, an IPv4 address in IPv6 form as itself', () => {
  assert.equal(sourceOf('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2')
  assert.equal(sourceOf('2001:0db8:1:2::9'), '2001:db8:1:2')
  assert.equal(sourceOf('2001:db8::1'), '2001:db8:0:0')
  assert.equal(sourceOf('::1'), '0:0:0:0')
  assert.equal(sourceOf('fe80::1%eth0'), 'fe80:0:0:0')
  assert.equal(sourceOf('::ffff:10.0.0.1'), '10.0.0.1')
  assert.equal(sourceOf('10.0.0.1'), '10.0.0.1')
})
