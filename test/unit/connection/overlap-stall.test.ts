/**
 * A server delivers a message to one connection after the other, and may stop in between while it answers PINGs: on a
 * model of one server with several publishers, each message comes once, and in the order of its publisher.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Overlap } from '../../../src/connection/handoff/overlap.ts'
import { frame, SID, textOf } from '../../support/message-frame.ts'

const PUBLISHERS = 3

type Side = 'first' | 'second'
/** A message, or a PONG by its number. */
type Sent = string | number

interface Delivery {
  readonly to: Side
  readonly payload: string
}

class World {
  readonly overlap = new Overlap({ sameServer: true })
  readonly got: string[] = []
  readonly published: string[] = []
  /** Sent by the server, not read by the client. */
  readonly #wire: Record<Side, Sent[]> = { first: [], second: [] }
  /** What is found and not yet delivered, for each publisher: it takes the next message after that. */
  readonly #due: Delivery[][] = Array.from({ length: PUBLISHERS }, () => [])
  readonly #choices: number[]
  #subscribed = new Set<Side>(['first'])
  #pongs = 0
  #isCutting = false

  constructor(choices: readonly number[]) {
    this.#choices = [...choices]
  }

  /** Something happens, or nothing. */
  gap(): void {
    for (let left = this.#choose(6); left > 0; left -= 1) {
      const publisher = this.#choose(PUBLISHERS)
      const what = this.#choose(6)
      if (what < 2) this.#publish(publisher)
      else if (what < 4) this.#deliver(publisher)
      else this.#read(what === 4 ? 'first' : 'second')
    }
  }

  /** The server takes the command, and the client has read its PONG. */
  ping(side: Side, command: () => void = () => {}): void {
    this.gap()
    command()
    this.#pongs += 1
    const pong = this.#pongs
    this.#wire[side].push(pong)
    this.gap()
    while (this.#wire[side].includes(pong)) this.#read(side)
  }

  subscribe(): void {
    this.#subscribed.add('second')
  }

  unsubscribe(): void {
    this.#subscribed.delete('first')
  }

  /** No publisher is stopped any more. */
  goOn(): void {
    for (let publisher = 0; publisher < PUBLISHERS; publisher += 1) {
      while (this.#due[publisher]?.length) this.#deliver(publisher)
    }
    while (this.#wire.second.length > 0) this.#read('second')
  }

  cut(): void {
    this.#isCutting = true
  }

  takeOver(): void {
    this.got.push(...this.overlap.merge().map(textOf))
    this.#wire.first = []
    for (const left of this.#wire.second.splice(0)) this.#late(left)
    for (const { to, payload } of this.#due.flat()) if (to === 'second') this.#late(payload)
  }

  #late(sent: Sent): void {
    if (typeof sent === 'string' && !this.overlap.isCopy(frame(sent))) this.got.push(sent)
  }

  #choose(below: number): number {
    return (this.#choices.pop() ?? 0) % below
  }

  #publish(publisher: number): void {
    const due = this.#due[publisher]
    if (due === undefined || due.length > 0) return
    const payload = `${publisher}:${this.published.length}`
    this.published.push(payload)
    const sides = [...this.#subscribed]
    if (this.#choose(2) === 1) sides.reverse()
    due.push(...sides.map((to) => ({ to, payload })))
  }

  #deliver(publisher: number): void {
    const next = this.#due[publisher]?.shift()
    // it looks again whether the subscription is there
    if (next !== undefined && this.#subscribed.has(next.to)) this.#wire[next.to].push(next.payload)
  }

  #read(side: Side): void {
    const next = this.#wire[side].shift()
    if (typeof next !== 'string') return
    if (side === 'second') this.overlap.arrived(frame(next))
    else if (this.#isCutting) this.overlap.deliveredLate(frame(next))
    else {
      this.overlap.delivered(frame(next))
      this.got.push(next)
    }
  }
}

/** The steps of `join.ts` and `handoff.ts`. */
function move(world: World): void {
  const { overlap } = world
  world.gap()
  overlap.open([SID])
  world.ping('second', () => world.subscribe())
  world.ping('first')
  world.ping('first')
  overlap.note([SID])
  // the dwell: no longer than that is a publisher stopped
  world.goOn()
  world.ping('second')
  overlap.hold([SID])
  const compared = overlap.compare()
  world.ping('first')
  world.ping('first')
  compared()
  world.cut()
  const done = overlap.compare()
  world.ping('first', () => world.unsubscribe())
  world.ping('first')
  done()
  world.ping('second')
  world.takeOver()
}

test('each message comes once and in order, wherever the server stops between its two deliveries', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(719), { maxLength: 400, size: 'max' }), (choices) => {
      const world = new World(choices)
      move(world)
      const of = (list: readonly string[], publisher: number) =>
        list.filter((payload) => payload.startsWith(`${publisher}:`))
      for (let publisher = 0; publisher < PUBLISHERS; publisher += 1)
        assert.deepEqual(of(world.got, publisher), of(world.published, publisher))
      assert.equal(world.overlap.bytes >= 0, true)
    }),
    { numRuns: 3000 },
  )
})
