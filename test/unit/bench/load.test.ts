import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { flowRates, loadNames } from '../../../bench/load/flows.ts'
import { isClean } from '../../../bench/load/load.ts'
import { Pace } from '../../../bench/load/pace.ts'
import { decodePayload, encodePayload, PAYLOAD_BYTES } from '../../../bench/load/payload.ts'

describe('the pace of the load', () => {
  test('follows the clock however late it is looked at', () => {
    const pace = new Pace(1000, 0)
    const taken = [1, 2.5, 90, 91, 250.4].map((now) => pace.take(now))
    assert.deepEqual(taken, [1, 1, 88, 1, 159])
  })

  test('keeps the rate below one message for each look', () => {
    const pace = new Pace(50, 0)
    let sum = 0
    for (let now = 2; now <= 1000; now += 2) sum += pace.take(now)
    assert.ok(Math.abs(sum - 50) <= 1, String(sum))
  })

  test('does not make up for a process that stood still', () => {
    assert.equal(new Pace(1000, 0).take(60_000), 500)
  })
})

describe('the messages of the load', () => {
  test('carry publisher and sequence, and no two are equal', () => {
    assert.deepEqual(decodePayload(encodePayload(2, 70_000)), { publisher: 2, sequence: 70_000 })
    assert.notDeepEqual(encodePayload(1, 5), encodePayload(5, 1))
  })

  test('are refused when they were cut, joined or overwritten', () => {
    const body = encodePayload(1, 2)
    assert.equal(decodePayload(body.subarray(0, PAYLOAD_BYTES - 1)), null)
    assert.equal(decodePayload(Buffer.concat([body, body])), null)
    body.set(encodePayload(1, 3).subarray(0, 60))
    assert.equal(decodePayload(body), null)
    assert.equal(decodePayload(new Uint8Array()), null)
  })
})

test('every run of the load has names of its own', () => {
  const [a, b] = [loadNames('a'), loadNames('b')]
  assert.equal(new Set([a.sole, b.sole, a.stream, b.stream, a.bucket, b.bucket]).size, 6)
})

test('a small load still has enough of every flow to see a gap', () => {
  assert.ok(Object.values(flowRates(100)).every((rate) => rate >= 50))
})

test('a flow is clean only without any finding', () => {
  const nothing = { lost: 0, duplicated: 0, reordered: 0, corrupt: 0, failed: 0, redelivered: 0 }
  const flow = { published: 5, received: 5, longestGapMs: 1, reasons: {}, ...nothing }
  assert.equal(isClean(flow), true)
  for (const finding of Object.keys(nothing)) assert.equal(isClean({ ...flow, [finding]: 1 }), false, finding)
})
