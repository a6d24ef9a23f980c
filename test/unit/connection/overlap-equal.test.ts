/** Messages that are equal byte by byte, on two connections of one server: how many of them came twice? */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Overlap } from '../../../src/connection/handoff/overlap.ts'
import { frame, SID, textOf } from '../../support/message-frame.ts'

const countOf = (list: readonly string[], payload: string): number =>
  list.filter((one) => one === payload).length

/** A model of one server: it sends to the first until its UNSUB, to the second from its SUB on; both are read later. */
class Model {
  readonly overlap = new Overlap()
  readonly got: string[] = []
  readonly #sent: readonly string[]
  #first = 0
  #second: number

  constructor(sent: readonly string[], sub: number) {
    this.#sent = sent
    this.#second = sub
  }

  readFirst(to: number): void {
    for (; this.#first < to; this.#first += 1) {
      const payload = this.#sent[this.#first] ?? ''
      this.overlap.delivered(frame(payload))
      this.got.push(payload)
    }
  }

  readSecond(to: number): void {
    for (; this.#second < to; this.#second += 1) this.overlap.arrived(frame(this.#sent[this.#second] ?? ''))
  }

  merge(): string[] {
    return [...this.got, ...this.overlap.merge().map(textOf)]
  }
}

const story = fc
  .array(fc.constantFrom('x', 'y'), { minLength: 1, maxLength: 60 })
  .chain((sent) =>
    fc
      .array(fc.nat(sent.length), { minLength: 8, maxLength: 8 })
      .map((moments) => ({ sent, moments: moments.sort((a, b) => a - b) })),
  )

test('none is lost, wherever the comparisons fall', () => {
  fc.assert(
    fc.property(story, ({ sent, moments }) => {
      const [begin = 0, sub = 0, note = 0, ping = 0, hold = 0, pong = 0, unsub = 0, cut = 0] = moments
      const model = new Model(sent, sub)
      model.readFirst(begin)
      model.overlap.open([SID])
      model.readFirst(note)
      model.overlap.note([SID])
      model.readSecond(ping)
      const compared = model.overlap.compare()
      model.readFirst(hold)
      model.readSecond(hold)
      model.overlap.hold([SID])
      model.readFirst(pong)
      compared()
      const last = model.overlap.compare()
      model.readSecond(cut)
      model.readFirst(unsub)
      last()
      const got = [...model.merge(), ...sent.slice(cut)]
      for (const payload of ['x', 'y'])
        assert.ok(countOf(got, payload) >= countOf(sent, payload), `${payload}: ${got} of ${sent}`)
    }),
    { numRuns: 3000 },
  )
})

test('each comes once when there was a moment without one', () => {
  fc.assert(
    fc.property(story, ({ sent, moments }) => {
      const [begin = 0, sub = 0, note = 0, hold = 0, calm = 0, held = 0, unsub = 0, cut = 0] = moments
      const model = new Model(sent, sub)
      model.readFirst(begin)
      model.overlap.open([SID])
      model.readFirst(note)
      model.overlap.note([SID])
      model.readSecond(hold)
      model.overlap.hold([SID])
      model.readFirst(hold)
      // PING and PONG of the first, and nothing comes between
      model.readSecond(calm)
      model.readFirst(calm)
      model.overlap.compare()()
      assert.equal(model.overlap.unsure && sub === begin, false)
      model.readFirst(held)
      model.readSecond(cut)
      model.readFirst(unsub)
      assert.deepEqual([...model.merge(), ...sent.slice(cut)].sort(), [...sent].sort())
      assert.equal(model.overlap.bytes >= 0, true)
    }),
    { numRuns: 3000 },
  )
})
