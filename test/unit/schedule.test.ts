import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RotorError } from '../../src/errors.ts'
import {
  comingEpoch,
  epochAt,
  epochEnd,
  epochStart,
  makeSchedule,
  renewAt,
  spread,
  validEpochs,
} from '../../src/schedule.ts'

const HOUR = 3_600_000

const schedules = fc
  .record({
    epochZero: fc.integer({ min: -1e12, max: 1e12 }),
    epochDuration: fc.integer({ min: 1000, max: 1e9 }),
    epochs: fc.integer({ min: 2, max: 9 }),
  })
  .map(({ epochZero, epochDuration, epochs }) =>
    makeSchedule({ epochZero, epochDuration, validity: epochs * epochDuration }),
  )
const instants = fc.integer({ min: -4e12, max: 4e12 })

test('the defaults are 6 h epochs, trusted for four of them, prepared 5 min ahead', () => {
  assert.deepEqual(makeSchedule(), {
    epochZero: 0,
    epochDuration: 6 * HOUR,
    validity: 24 * HOUR,
    lead: 300_000,
  })
  assert.equal(makeSchedule({ epochDuration: 8000 }).lead, 2000)
})

test('four epochs are valid at any moment with the defaults', () => {
  fc.assert(fc.property(instants, (now) => assert.equal(validEpochs(makeSchedule(), now).length, 4)))
})

test('every instant lies in its epoch, and in the window of every valid epoch and of no other', () => {
  fc.assert(
    fc.property(schedules, instants, (s, now) => {
      const epoch = epochAt(s, now)
      assert.ok(epochStart(s, epoch) <= now && now < epochStart(s, epoch + 1))
      const valid = validEpochs(s, now)
      for (let e = epoch - 12; e <= epoch + 2; e++) {
        assert.equal(valid.includes(e), epochStart(s, e) <= now && now < epochEnd(s, e))
      }
    }),
  )
})

test('the coming epoch is the next one from lead before it starts, never the old one', () => {
  fc.assert(
    fc.property(schedules, fc.integer({ min: -1000, max: 1000 }), (s, epoch) => {
      assert.equal(comingEpoch(s, epochStart(s, epoch) - s.lead), epoch)
      assert.equal(comingEpoch(s, epochStart(s, epoch) - s.lead - 1), epoch - 1)
    }),
  )
})

test('a schedule without overlap is refused with every problem', () => {
  assert.throws(
    () => makeSchedule({ epochDuration: 500, validity: 600, lead: 700, epochZero: 0.5 }),
    (error: RotorError) => {
      assert.equal(error.code, 'ERR_CONFIG_INVALID')
      for (const key of ['epochZero', 'epochDuration', 'validity', 'lead'])
        assert.match(error.message, new RegExp(key))
      return RotorError.is(error)
    },
  )
})

test('a leaf is renewed after two thirds of its life', () => {
  assert.equal(renewAt(0, 300), 200)
})

test('a name always gets the same place in the window, and many names are spread evenly', () => {
  const places = Array.from({ length: 2000 }, (_, i) => spread(`service-${i}`, 1000))
  assert.deepEqual(
    places.slice(0, 10),
    Array.from({ length: 10 }, (_, i) => spread(`service-${i}`, 1000)),
  )
  assert.ok(places.every((place) => place >= 0 && place < 1000))
  const quarters = [0, 1, 2, 3].map((q) => places.filter((place) => Math.floor(place / 250) === q).length)
  assert.ok(Math.min(...quarters) > 350, `quarters: ${quarters}`)
})
