import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LeaseCore, type LeaseWrite } from '../../../issuer/lease/core.ts'
import type { LeaseRecord } from '../../../src/wire/lease.ts'

const DURATION = 10_000
const at = (ms: number, wall = ms) => ({ mono: ms, wall })
const core = (name: string, instance = name) => new LeaseCore({ name, instance, duration: DURATION })
const record = (more: Partial<LeaseRecord> = {}): LeaseRecord => ({
  v: 1,
  holder: 'a',
  instance: 'a',
  fence: 4,
  duration: DURATION,
  since: '2026-01-01T00:00:00.000Z',
  at: '2026-01-01T00:00:00.000Z',
  ...more,
})

function wantsToWrite(lease: LeaseCore, ms: number): LeaseWrite {
  const wish = lease.wish(at(ms))
  assert.equal(wish.kind, 'write')
  return wish as LeaseWrite
}

/** Reads this record and leads with it. */
function leading(ms = 0): LeaseCore {
  const lease = core('a')
  lease.read(null, 0, at(ms))
  lease.written(wantsToWrite(lease, ms), 7)
  return lease
}

test('nobody holds the lease: it is taken at once, with the next number', () => {
  for (const [found, revision, fence] of [
    [null, 0, 1],
    [record({ holder: null }), 9, 5],
  ] as const) {
    const lease = core('b')
    assert.equal(lease.wish(at(0)).kind, 'read')
    lease.read(found, revision, at(0))
    const write = wantsToWrite(lease, 0)
    assert.deepEqual([write.record.fence, write.record.holder, write.revision], [fence, 'b', revision])
    assert.equal(lease.fence(at(0)), null, 'not before the server took it')
    lease.written(write, revision + 1)
    assert.equal(lease.fence(at(0)), fence)
  }
})

test('who stands by takes over when it saw no renewal for a whole lease by its own clock', () => {
  const lease = core('b')
  lease.read(record(), 7, at(1_000))
  assert.deepEqual(lease.wish(at(1_000)), { kind: 'wait', ms: DURATION })
  lease.read(record(), 8, at(9_000))
  assert.deepEqual(lease.wish(at(9_000)), { kind: 'wait', ms: DURATION })
  lease.read(record(), 8, at(18_999))
  assert.deepEqual(lease.wish(at(18_999)), { kind: 'wait', ms: 1 })
  lease.read(record(), 8, at(19_000))
  assert.equal(wantsToWrite(lease, 19_000).record.fence, 5)
})

test('the longer of two leases counts: the leader may be told another one than we', () => {
  const lease = core('b')
  lease.read(record({ duration: 3 * DURATION }), 7, at(0))
  assert.deepEqual(lease.wish(at(0)), { kind: 'wait', ms: 3 * DURATION })
})

test('an issuer that was started again goes on at once, with a new number', () => {
  const lease = core('a', 'another process')
  lease.read(record(), 7, at(0))
  assert.equal(wantsToWrite(lease, 0).record.fence, 5)
})

test('of two processes with one name the one that lost waits as anybody does', () => {
  const lease = leading()
  lease.failed()
  lease.read(record({ instance: 'a copy', fence: 9 }), 8, at(100))
  assert.equal(lease.fence(at(100)), null)
  assert.equal(lease.wish(at(100)).kind, 'read')
  lease.read(record({ instance: 'a copy', fence: 9 }), 8, at(100))
  assert.deepEqual(lease.wish(at(100)), { kind: 'wait', ms: DURATION })
})

test('a leader that was not confirmed for three quarters of the lease does nothing more', () => {
  const lease = leading(1_000)
  assert.equal(lease.fence(at(8_499)), 1)
  assert.equal(lease.fence(at(8_500)), null)
})

test('time that a machine slept counts for the leader, although its monotonic clock stood still', () => {
  const lease = leading(1_000)
  assert.equal(lease.fence(at(1_500, 60_000)), null)
})

test('a clock that is set back gives nobody a longer lease', () => {
  const lease = leading(1_000)
  assert.equal(lease.fence(at(8_500, -60_000)), null)
})

test('it is renewed four times in a lease, and leads on from when it asked', () => {
  const lease = leading()
  assert.deepEqual(lease.wish(at(1_000)), { kind: 'wait', ms: 1_500 })
  const write = wantsToWrite(lease, 2_500)
  assert.equal(write.revision, 7)
  lease.written(write, 8)
  assert.equal(lease.fence(at(9_999)), 1)
  assert.equal(lease.fence(at(10_000)), null)
})

test('a renewal whose answer got lost is found, and renewed once more', () => {
  const lease = leading()
  const lost = wantsToWrite(lease, 2_500)
  lease.failed()
  assert.equal(lease.wish(at(3_000)).kind, 'read')
  lease.read(lost.record, 8, at(3_000))
  assert.equal(lease.fence(at(7_499)), 1, 'it does not lead longer by that')
  assert.equal(lease.fence(at(7_500)), null)
  assert.equal(wantsToWrite(lease, 3_000).revision, 8)
})

test('a state with a higher number ends the tenure, and the next number is above it', () => {
  const lease = leading()
  lease.outrun(41)
  assert.equal(lease.fence(at(0)), null)
  lease.read(record({ instance: 'a', fence: 1 }), 7, at(100))
  assert.equal(wantsToWrite(lease, 100).record.fence, 42)
})
