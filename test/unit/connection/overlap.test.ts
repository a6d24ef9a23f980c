/**
 * The matching of two connections, on a model of one server: it takes messages in an order, the first connection gets
 * those before its UNSUB, the second those after its SUB, and the client reads both streams at its own pace.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type MessageFrame, Overlap } from '../../../src/connection/handoff/overlap.ts'
import { frame, SID, textOf } from '../../support/message-frame.ts'

interface Story {
  /** What the server took, in its order. */
  readonly sent: readonly string[]
  /** Positions in `sent`, in this order: SUB of the second, PONG of the first read, PONG of the second read, UNSUB of the first, the cut. */
  readonly moments: readonly [sub: number, note: number, hold: number, unsub: number, cut: number]
}

/** What the service gets. */
function play({ sent, moments: [sub, note, hold, unsub, cut] }: Story): string[] {
  const overlap = new Overlap()
  const got: string[] = []
  const first = (from: number, to: number) => {
    for (const payload of sent.slice(from, to)) {
      overlap.delivered(frame(payload))
      got.push(payload)
    }
  }
  const second = (from: number, to: number) => {
    for (const payload of sent.slice(from, to)) overlap.arrived(frame(payload))
  }
  first(0, note)
  overlap.note([SID])
  second(sub, hold)
  overlap.hold([SID])
  second(hold, cut)
  first(note, unsub)
  got.push(...overlap.merge().map(textOf), ...sent.slice(cut))
  return got
}

const storyOf = (payload: fc.Arbitrary<string>, unique: boolean): fc.Arbitrary<Story> =>
  fc
    .array(payload, { maxLength: 60 })
    .map((list) => (unique ? list.map((text, i) => `${text}${i}`) : list))
    .chain((sent) =>
      fc
        .array(fc.nat(sent.length), { minLength: 5, maxLength: 5 })
        .map((list) => [...list].sort((a, b) => a - b))
        .map(([sub = 0, note = 0, hold = 0, unsub = 0, cut = 0]) => ({
          sent,
          moments: [sub, note, hold, unsub, cut] as const,
        })),
    )

interface Elsewhere {
  readonly sent: readonly string[]
  /** On the first: PONG read, the frame from which on they wait, UNSUB. */
  readonly first: readonly [note: number, wait: number, unsub: number]
  /** On the second, which is another way from the publisher: SUB, PONG read, how far it has got when it takes over. */
  readonly second: readonly [sub: number, hold: number, reached: number]
}

/** What the service gets when what comes on the first in the cut waits, and what is late on the second is looked at. */
function playElsewhere({
  sent,
  first: [note, wait, unsub],
  second: [sub, hold, reached],
}: Elsewhere): string[] {
  const overlap = new Overlap()
  overlap.note([SID])
  for (const payload of sent.slice(sub, hold)) overlap.arrived(frame(payload))
  overlap.hold([SID])
  for (const payload of sent.slice(note, wait)) overlap.delivered(frame(payload))
  for (const payload of sent.slice(wait, unsub)) overlap.deliveredLate(frame(payload))
  for (const payload of sent.slice(hold, reached)) overlap.arrived(frame(payload))
  const held = overlap.merge().map(textOf)
  const rest = sent.slice(reached).filter((payload) => !overlap.isCopy(frame(payload)))
  return [...sent.slice(0, wait), ...held, ...rest]
}

const elsewhereOf = (payload: fc.Arbitrary<string>): fc.Arbitrary<Elsewhere> =>
  fc
    .array(payload, { maxLength: 60 })
    .map((list) => list.map((text, i) => `${text}${i}`))
    .chain((sent) =>
      fc
        .array(fc.nat(sent.length), { minLength: 6, maxLength: 6 })
        .map(([one = 0, two = 0, three = 0, four = 0, holding = 0, reaching = 0]) => {
          const [sub = 0, note = 0, wait = 0, unsub = 0] = [one, two, three, four].sort((a, b) => a - b)
          // the dwell sees to it that the second is not so far behind that it holds what was not noted, nor so far ahead
          // that it drops what the first is not going to deliver; how far it gets has no bound
          const hold = Math.max(note, Math.min(holding, unsub))
          const reached = Math.max(hold, reaching)
          return { sent, first: [note, wait, unsub], second: [sub, hold, reached] } as const
        }),
    )

const countOf = (list: readonly string[]) => {
  const counts = new Map<string, number>()
  for (const one of list) counts.set(one, (counts.get(one) ?? 0) + 1)
  return counts
}

describe('two connections with the same subscriptions', () => {
  test('give every message once and in order, wherever the moments fall', () => {
    fc.assert(
      fc.property(storyOf(fc.constantFrom('a', 'bb', ''), true), (story) => {
        assert.deepEqual(play(story), [...story.sent])
      }),
      { numRuns: 2000 },
    )
  })

  test('give them in order also when the second is on another server, where copies are behind or ahead', () => {
    fc.assert(
      fc.property(elsewhereOf(fc.constantFrom('a', 'bb', '')), (story) => {
        assert.deepEqual(playElsewhere(story), [...story.sent])
      }),
      { numRuns: 2000 },
    )
  })

  test('lose none of the messages that are alike byte by byte', () => {
    fc.assert(
      fc.property(storyOf(fc.constantFrom('x', 'y'), false), (story) => {
        const got = countOf(play(story))
        for (const [payload, sent] of countOf(story.sent)) {
          assert.ok((got.get(payload) ?? 0) >= sent, `${payload}: ${got.get(payload)} of ${sent}`)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('keep the order over all subscriptions, which the server ends one by one', () => {
    const story = fc
      .record({
        sids: fc.array(fc.nat(3), { maxLength: 60 }),
        at: fc.array(fc.nat(60), { minLength: 9, maxLength: 9 }),
      })
      .map(({ sids, at }) => {
        const all = at.map((one) => Math.min(one, sids.length)).sort((a, b) => a - b)
        return { sids, sub: all[0] ?? 0, note: all[1] ?? 0, all }
      })
    fc.assert(
      fc.property(story, fc.boolean(), ({ sids, sub, note, all }, behind) => {
        // how far each stream was read when the UNSUBs were sent: the first may be ahead or behind
        const [hold = 0, read = 0] = behind ? [all[3], all[2]] : [all[2], all[3]]
        const unsub = all.slice(4, 8)
        const cut = all[8] ?? 0
        const overlap = new Overlap()
        const got: string[] = []
        const each = (from: number, to: number, work: (one: MessageFrame, i: number) => void) => {
          for (let i = from; i < to; i++) work(frame(`m${i}`, { sid: sids[i] ?? 0 }), i)
        }
        const isFirsts = (i: number) => i < (unsub[sids[i] ?? 0] ?? 0)
        each(0, read, (one, i) => {
          if (i === note) overlap.note([0, 1, 2, 3])
          overlap.delivered(one)
          got.push(textOf(one))
        })
        overlap.note([0, 1, 2, 3])
        each(sub, hold, (one) => overlap.arrived(one))
        overlap.hold([0, 1, 2, 3])
        each(hold, cut, (one) => overlap.arrived(one))
        each(read, sids.length, (one, i) => {
          if (isFirsts(i)) overlap.deliveredLate(one)
        })
        got.push(...overlap.merge().map(textOf))
        each(cut, sids.length, (one) => got.push(textOf(one)))
        assert.deepEqual(
          got,
          sids.map((_, i) => `m${i}`),
        )
      }),
      { numRuns: 3000 },
    )
  })

  test('tell messages apart by sid, subject, reply, length of headers and payload', () => {
    const others = [
      frame('p', { sid: 8 }),
      frame('p', { subject: 'b' }),
      frame('p', { reply: 'r' }),
      frame('p', { hdr: 0 }),
      frame('q'),
      frame('', { subject: 'ap' }),
      frame('', { reply: 'p' }),
    ]
    for (const other of others) {
      const overlap = new Overlap()
      overlap.note([SID, 8])
      overlap.hold([SID, 8])
      overlap.delivered(frame('p'))
      overlap.arrived(other)
      assert.deepEqual(overlap.merge(), [other])
      assert.equal(overlap.matched, 0)
    }
  })

  test('remember no more than what has not been paired yet', () => {
    const overlap = new Overlap()
    overlap.note([SID])
    for (let i = 0; i < 1000; i++) {
      overlap.delivered(frame(`message ${i}`))
      overlap.arrived(frame(`message ${i}`))
    }
    assert.equal(overlap.bytes, 0)
    overlap.hold([SID])
    overlap.arrived(frame('x'.repeat(500)))
    assert.ok(overlap.bytes >= 500)
    overlap.merge()
    assert.equal(overlap.bytes, 0)
  })

  test('know a copy that comes after the cut, once for each delivery', () => {
    const overlap = new Overlap()
    overlap.note([SID])
    overlap.hold([SID])
    overlap.delivered(frame('late'))
    overlap.delivered(frame('both'))
    overlap.arrived(frame('both'))
    assert.deepEqual(overlap.merge(), [])
    assert.equal(overlap.owed, true)
    assert.equal(overlap.isCopy(frame('late')), true)
    assert.equal(overlap.owed, false)
    assert.equal(overlap.isCopy(frame('late')), false)
  })
})

describe('two members of a queue group that are one service', () => {
  /** What was sent, and six positions in it, in order. */
  const story = fc
    .record({
      sent: fc.array(fc.constantFrom('a', 'bb', ''), { maxLength: 60 }),
      toFirst: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }),
      others: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }),
    })
    .chain((one) =>
      fc.tuple(
        fc.constant(one),
        fc
          .array(fc.nat(one.sent.length), { minLength: 6, maxLength: 6 })
          .map((list) => [...list].sort((a, b) => a - b)),
      ),
    )

  test('give every message of the group once and in order, and none that was for another member', () => {
    fc.assert(
      fc.property(story, ([{ sent, toFirst, others }, moments]) => {
        // from `kept` on the first waits; SUB of the reference, its PING on the first; SUB of the second, UNSUB of the first, the cut
        const [kept = 0, reference = 0, referred = 0, member = 0, unsub = 0, cut = 0] = moments
        const overlap = new Overlap()
        const got: string[] = []
        const ours: string[] = []
        sent.forEach((text, i) => {
          const payload = `${text}${i}`
          if (i === referred) overlap.refer()
          if (i >= reference && i < cut) overlap.seen(frame(payload))
          if (others[i]) return
          ours.push(payload)
          const first = i < member || (i < unsub && toFirst[i] === true)
          if (!first && i < cut) overlap.arrivedForGroup(frame(payload))
          if (first && i < kept) got.push(payload)
          if (first && i >= kept) overlap.keep(frame(payload))
        })
        got.push(...overlap.merge().map(textOf))
        got.push(...sent.map((text, i) => `${text}${i}`).filter((_, i) => i >= cut && !others[i]))
        assert.deepEqual(got, ours)
        assert.equal(overlap.bytes, 0)
      }),
      { numRuns: 2000 },
    )
  })

  test('give what waited also when the first connection goes on, and nothing of the plain subscriptions', () => {
    const overlap = new Overlap()
    overlap.note([8])
    overlap.hold([8])
    overlap.arrived(frame('plain', { sid: 8 }))
    overlap.seen(frame('1'))
    overlap.arrivedForGroup(frame('1'))
    overlap.seen(frame('2'))
    overlap.seen(frame('3'))
    overlap.arrivedForGroup(frame('3'))
    overlap.keep(frame('0'))
    overlap.keep(frame('2'))
    assert.deepEqual(overlap.mergeGroups().map(textOf), ['0', '1', '2', '3'])
    assert.deepEqual(overlap.merge(), [])
  })

  test('keep their order when the second connection, and the reference with it, ends before the first', () => {
    const overlap = new Overlap()
    for (const payload of ['0', '2', '4', '5']) overlap.keep(frame(payload))
    for (const payload of ['1', '2', '3', '4']) {
      overlap.seen(frame(payload))
      if (payload === '1' || payload === '3') overlap.arrivedForGroup(frame(payload))
    }
    assert.deepEqual(overlap.mergeGroups().map(textOf), ['0', '1', '2', '3', '4', '5'])
  })

  test('keep their order when the first goes on, far behind the second, which has given back what it had', () => {
    fc.assert(
      fc.property(story, ([{ sent, toFirst, others }, moments]) => {
        // the first answers a PING that was sent when the reference was there; the second answers its UNSUB
        const [reference = 0, member = 0, referred = 0, unsub = 0, answer = 0] = moments
        const overlap = new Overlap()
        const ours = sent.map((text, i) => ({ i, payload: `${text}${i}` })).filter(({ i }) => !others[i])
        const isSecond = (i: number) => i >= member && i < unsub && toFirst[i] === false
        sent.slice(0, answer).forEach((text, i) => {
          if (i >= reference) overlap.seen(frame(`${text}${i}`))
          if (isSecond(i) && !others[i]) overlap.arrivedForGroup(frame(`${text}${i}`))
        })
        let isReferred = false
        for (const { i, payload } of ours) {
          if (i >= referred && !isReferred) {
            overlap.refer()
            isReferred = true
          }
          if (!isSecond(i)) overlap.keep(frame(payload))
        }
        assert.deepEqual(
          overlap.mergeGroups().map(textOf),
          ours.map(({ payload }) => payload),
        )
      }),
      { numRuns: 2000 },
    )
  })

  test('lose nothing without a reference', () => {
    const overlap = new Overlap()
    overlap.arrivedForGroup(frame('1'))
    overlap.keep(frame('2'))
    assert.deepEqual(overlap.merge().map(textOf), ['2', '1'])
  })
})
