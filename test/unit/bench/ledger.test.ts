/** The counts of a benchmark are believed only because these find what was put in. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Ledger, Requests, readLedgers } from '../../../bench/load/ledger.ts'

/** One publisher's messages in the order they arrive, one a millisecond. */
function ledgerOf(sequences: readonly number[], publishers = 1): Ledger {
  const ledger = new Ledger(publishers)
  for (const [i, sequence] of sequences.entries()) ledger.take(0, sequence, i)
  return ledger
}

const counts = (sequences: readonly number[], published: number) =>
  readLedgers([ledgerOf(sequences).notes()], [published])

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

const CLEAN = { lost: 0, duplicated: 0, reordered: 0, corrupt: 0 }

describe('the ledger of a flow', () => {
  test('finds nothing when every message came once and in order', () => {
    const { longestGapMs, ...found } = counts(upTo(5000), 5000)
    assert.deepEqual(found, { published: 5000, received: 5000, ...CLEAN })
    assert.equal(longestGapMs, 1)
  })

  test('finds a lost message in the middle, and the last one', () => {
    assert.equal(counts([0, 1, 3, 4], 5).lost, 1)
    assert.equal(counts([0, 1, 2, 3], 5).lost, 1)
    assert.equal(counts([], 5).lost, 5)
  })

  test('finds a duplicated message, which is no reordered one and hides no lost one', () => {
    const found = counts([0, 1, 2, 1, 3], 5)
    assert.deepEqual([found.received, found.lost, found.duplicated, found.reordered], [4, 1, 1, 0])
  })

  test('finds every message that arrived after a later one of its publisher', () => {
    assert.equal(counts([0, 2, 1, 3], 4).reordered, 1)
    assert.equal(counts([3, 0, 1, 2], 4).reordered, 3)
  })

  test('compares the order within a publisher only', () => {
    const ledger = new Ledger(2)
    for (const [publisher, sequence] of [
      [0, 5],
      [1, 0],
      [0, 6],
      [1, 1],
    ] as const)
      ledger.take(publisher, sequence, 0)
    assert.equal(ledger.notes().reordered, 0)
  })

  test('counts what nobody sent as corrupt, and not as received', () => {
    const ledger = ledgerOf([0, 1, 7])
    ledger.take(4, 0, 3)
    ledger.takeCorrupt()
    const found = readLedgers([ledger.notes()], [2])
    assert.deepEqual([found.received, found.lost, found.corrupt], [2, 0, 3])
    assert.equal(ledger.total, 5)
  })

  test('knows the longest time between two messages since it was told to begin', () => {
    const ledger = new Ledger(2)
    ledger.take(0, 0, 100)
    ledger.take(1, 0, 900)
    assert.equal(ledger.notes().longestGapMs, 800)
    ledger.restartGap(1000)
    ledger.take(0, 1, 1040)
    ledger.take(1, 1, 1055)
    assert.equal(ledger.notes().longestGapMs, 40)
  })

  test('reads the members of a queue group as one receiver: a message of both is a duplicate', () => {
    const [one, other] = [ledgerOf([0, 2, 5]), ledgerOf([1, 2, 4])]
    const found = readLedgers([one.notes(), other.notes()], [6])
    assert.deepEqual([found.received, found.lost, found.duplicated, found.reordered], [5, 1, 1, 0])
  })

  test('agrees with counting by hand whatever arrives', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(40)), (arrived) => {
        const found = counts(arrived, 30)
        const known = arrived.filter((sequence) => sequence < 30)
        assert.equal(found.received, new Set(known).size)
        assert.equal(found.received + found.lost, 30)
        assert.equal(found.received + found.duplicated + found.corrupt, arrived.length)
        const late = arrived.filter(
          (sequence, i) =>
            arrived.indexOf(sequence) === i && arrived.slice(0, i).some((earlier) => earlier > sequence),
        )
        assert.equal(found.reordered, late.length)
      }),
    )
  })
})

describe('the requests of one side', () => {
  test('count one that is refused, one with the wrong answer, and each reason', async () => {
    const requests = new Requests()
    requests.start(async () => true)
    requests.start(async () => false)
    for (let i = 0; i < 2; i++) {
      requests.start(async () => {
        throw new Error('no responders')
      })
    }
    await requests.settled()
    const { sent, failed, reasons } = requests.counts()
    assert.deepEqual([sent, failed], [4, 3])
    assert.deepEqual(reasons, { 'wrong answer': 1, 'no responders': 2 })
  })

  test('are settled only when the last one under way has its answer', async () => {
    const requests = new Requests()
    const { promise, resolve } = Promise.withResolvers<boolean>()
    requests.start(() => promise)
    let settled = false
    const done = requests.settled().then(() => {
      settled = true
    })
    await new Promise((next) => setImmediate(next))
    assert.equal(settled, false)
    resolve(true)
    await done
    assert.equal(requests.counts().failed, 0)
  })
})
