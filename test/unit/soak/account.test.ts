/** The account of the soak finds every kind of loss, and explains only what a fault explains. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Account, type Hit, type Told } from '../../soak/account.ts'

const NAMES = ['a', 'b', 'c']
const SERVER: Record<string, string> = { a: 'nats-1', b: 'nats-2', c: 'nats-3' }
const killed = (name: string): Hit => ({ name, what: 'killed', at: 100 })

/** Three services, each with its own server; a counts what b publishes, b what c does, c what a does. */
class World {
  readonly account = new Account(NAMES.map((to, i) => ({ from: NAMES[(i + 1) % NAMES.length] ?? '', to })))
  readonly #told = new Map<string, Told>()
  #core = 0
  #stored = 0

  /** Everybody publishes `count` of each; what is in `lost` does not arrive: `a 3` is the fourth core message of a. */
  flow(count: number, lost: readonly string[] = []): void {
    for (const { from, to } of this.account.flows) {
      const numbers = Array.from({ length: count }, (_, i) => this.#core + i)
      for (const number of numbers) {
        if (!lost.includes(`${from} ${number}`)) this.account.received(to, 0, number, 0)
        if (!lost.includes(`stored ${from} ${number}`)) this.account.stored(to, 0, number, this.#stored++)
      }
      this.account.acknowledged(from, 0, numbers)
      this.tell(from, this.#core + count)
    }
    this.#core += count
  }

  tell(name: string, core: number, failed = 0): void {
    const told = { core, requests: { sent: core, failed } }
    this.#told.set(name, told)
    this.account.tells(name, 0, SERVER[name], told, 400)
  }

  get marks(): ReadonlyMap<string, Told> {
    return new Map(this.#told)
  }

  close() {
    this.account.mark()
    return this.account.close(this.marks)
  }
}

describe('the account of the soak', () => {
  test('is closed without a word when everything arrived once', () => {
    const world = new World()
    for (let rotation = 0; rotation < 3; rotation++) {
      world.flow(5)
      assert.deepEqual(world.account.outstanding(world.marks, { explained: false }), [])
      const { counts, explained, problems } = world.close()
      assert.deepEqual([explained, problems], [[], []])
      assert.deepEqual(counts.core, { published: 15, lost: 0, duplicated: 0, reordered: 0 })
      assert.equal(counts.jetstream.acknowledged, 15)
    }
    assert.deepEqual(world.account.atTheEnd(), { untold: 0, problems: [] })
  })

  test('a lost core message is a problem, told once', () => {
    const world = new World()
    world.flow(5, ['b 2'])
    assert.deepEqual(world.account.outstanding(world.marks, { explained: false }), [
      'core b (life 0) -> a: 1',
    ])
    assert.deepEqual(world.close().problems, ['core b -> a: 1 lost, the first is 2'])
    world.flow(5)
    assert.deepEqual(world.close().problems, [])
  })

  test('a lost core message is explained by the server of either end, not by another one', () => {
    for (const [server, problems] of [
      ['nats-1', 0],
      ['nats-2', 0],
      ['nats-3', 1],
    ] as const) {
      const world = new World()
      world.account.hit(killed(server))
      world.flow(5, ['b 4'])
      for (const [explained, count] of [
        [true, 1],
        [false, problems],
      ] as const)
        assert.equal(world.account.outstanding(world.marks, { explained }).length, count)
      const closing = world.close()
      assert.deepEqual([closing.problems.length, closing.explained.length], [problems, 1 - problems])
      assert.match(
        String([...closing.problems, ...closing.explained]),
        /^core b -> a: 1 lost, the first is 4, published 300 ms after it/,
      )
      // and of the next rotation it explains nothing
      world.flow(5, ['b 7'])
      assert.equal(world.close().problems.length, 1)
    }
  })

  test('one that comes after its account was closed hides no other loss', () => {
    const world = new World()
    world.account.hit(killed('nats-1'))
    world.flow(5, ['b 2'])
    assert.equal(world.close().explained.length, 1)
    world.account.received('a', 0, 2, 0)
    world.flow(5, ['b 7'])
    assert.deepEqual(world.close().problems, [
      'core b -> a: 1 lost, the first is 7',
      'core b -> a: 1 reordered',
    ])
  })

  test('a server that is hit before its services tell again is theirs', () => {
    const world = new World()
    world.flow(5)
    world.close()
    world.account.hit(killed('nats-2'))
    // b was moved by it
    world.account.tells('b', 0, 'nats-3', { core: 5, requests: { sent: 5, failed: 0 } }, 200)
    world.flow(5, ['b 6'])
    assert.equal(world.close().explained.length, 1)
  })

  test('a core message that came twice or late is a problem', () => {
    const world = new World()
    world.flow(3, ['b 1'])
    world.account.received('a', 0, 1, 0)
    world.account.received('a', 0, 2, 0)
    assert.deepEqual(world.close().problems, ['core b -> a: 1 duplicated', 'core b -> a: 1 reordered'])
  })

  test('a message that JetStream acknowledged and lost is a problem, whatever was hit', () => {
    const world = new World()
    for (const name of ['nats-1', 'nats-2', 'nats-3', 'a', 'b']) world.account.hit(killed(name))
    world.flow(5, ['stored b 2'])
    world.account.mark()
    assert.deepEqual(world.account.outstanding(world.marks, { explained: false }), [
      'jetstream b (life 0) -> a: 1',
    ])
    assert.deepEqual(world.close().problems, ['jetstream b -> a: 1 lost, the first is 2'])
  })

  test('a message that is on the stream twice is a problem, whatever was hit', () => {
    const world = new World()
    world.account.hit(killed('nats-1'))
    world.flow(3)
    world.account.stored('a', 0, 1, 900)
    assert.deepEqual(world.close().problems, [
      'jetstream: message 1 of b (life 0) is on the stream as 1 and as 900',
    ])
  })

  test('a redelivery is allowed when a server or its consumer was hit since it came first, and not otherwise', () => {
    for (const [hit, problems] of [
      [killed('nats-3'), 0],
      [killed('a'), 0],
      [killed('c'), 1],
      [null, 1],
    ] as const) {
      const world = new World()
      world.flow(3)
      if (hit !== null) world.account.hit(hit)
      world.close()
      // the wait for an acknowledgement may end in a later rotation
      world.flow(3)
      world.account.stored('a', 0, 0, 0)
      const closing = world.close()
      assert.deepEqual([closing.problems.length, closing.counts.jetstream.redelivered], [problems, 1])
    }
  })

  test('of a killed service counts what it had told, and what else of it arrived is counted apart', () => {
    const world = new World()
    world.flow(5)
    // it published two more, and did not live to tell
    world.account.received('a', 0, 5, 0)
    world.account.received('a', 0, 6, 0)
    world.account.hit(killed('b'))
    world.account.over('b', 0)
    world.account.received('a', 1, 0, 0)
    world.account.stored('a', 1, 0, 800)
    world.account.acknowledged('b', 1, [0])
    world.account.tells('b', 1, 'nats-2', { core: 1, requests: { sent: 1, failed: 0 } }, 500)
    const marks = new Map(world.marks).set('b', { core: 1, requests: { sent: 1, failed: 0 } })
    world.account.mark()
    assert.deepEqual(world.account.close(marks).problems, [])
    assert.deepEqual(world.account.atTheEnd(), { untold: 2, problems: [] })
  })

  test('what a living service never published is a problem', () => {
    const world = new World()
    world.flow(3)
    world.account.received('a', 0, 77, 0)
    assert.deepEqual(world.account.atTheEnd().problems, [
      'core b (life 0) -> a: 1 beyond the 3 that it published',
    ])
  })

  test('a failed request is a problem unless the one who asks, or is asked, was hit', () => {
    for (const [hit, problems] of [
      ['nats-2', 0],
      ['c', 0],
      ['nats-1', 1],
    ] as const) {
      const world = new World()
      world.account.hit(killed(hit))
      world.flow(3)
      // b asks c
      world.tell('b', 3, 1)
      const closing = world.close()
      assert.deepEqual([closing.problems.length, closing.counts.requests.failed], [problems, 1])
    }
  })

  test('a service that said nothing in a whole rotation is a problem', () => {
    const world = new World()
    world.flow(3)
    world.close()
    assert.equal(world.close().problems.length, NAMES.length)
  })
})
