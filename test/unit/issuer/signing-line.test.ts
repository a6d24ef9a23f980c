import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SigningLine } from '../../../issuer/signing/line.ts'
import { RotorError } from '../../../src/errors.ts'

/** A line whose time and whose authority are ours: `finish` ends the oldest work after some milliseconds. */
function stage(options: { width?: number; patience?: number } = {}) {
  let now = 1_000_000
  const line = new SigningLine({ clock: { now: () => now }, ...options })
  const working: { agent: string; end: () => void }[] = []
  const refused = new Map<string, number>()
  const served: string[] = []
  const enter = (agent: string): Promise<void> =>
    line
      .enter(agent, () => new Promise<void>((resolve) => working.push({ agent, end: resolve })))
      .then(
        () => void served.push(agent),
        (cause) => {
          assert.ok(RotorError.is(cause))
          assert.equal(cause.code, 'ERR_SIGN_BUSY')
          const { retryAfter } = cause.details
          assert.ok(typeof retryAfter === 'number' && Number.isInteger(retryAfter) && retryAfter >= 100)
          refused.set(agent, retryAfter)
        },
      )
  return {
    line,
    served,
    refused,
    working,
    enter,
    pass: (ms: number) => {
      now += ms
    },
    /** Lets the oldest work end after `ms`. */
    async finish(ms: number): Promise<void> {
      now += ms
      working.shift()?.end()
      await settle()
    },
  }
}

/** Everything that is resolved has been looked at. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const fleet = (count: number): string[] => Array.from({ length: count }, (_, i) => `node-${i}`)

describe('the line of signing requests', () => {
  it('works on as many as its width, in the order of their coming', async () => {
    const { enter, working, served, finish } = stage({ width: 2 })
    for (const agent of ['a', 'b', 'c', 'd']) void enter(agent)
    assert.deepEqual(
      working.map(({ agent }) => agent),
      ['a', 'b'],
    )
    for (let i = 0; i < 4; i++) await finish(5)
    assert.deepEqual(served, ['a', 'b', 'c', 'd'])
  })

  it('keeps at most one request of an agent: a newer one takes the place of the one before', async () => {
    const { enter, working, served, refused, finish } = stage({ width: 1 })
    void enter('first')
    void enter('greedy')
    void enter('modest')
    for (let i = 0; i < 50; i++) void enter('greedy')
    await settle()
    assert.ok(refused.has('greedy'))
    assert.deepEqual(
      working.map(({ agent }) => agent),
      ['first'],
    )
    for (let i = 0; i < 3; i++) await finish(5)
    assert.deepEqual(served, ['first', 'greedy', 'modest'])
    assert.equal(working.length, 0)
  })

  it('lets in by the measured time of an answer, not by a number', async () => {
    const long = async (ms: number): Promise<number> => {
      const { enter, refused, finish, working } = stage({ width: 1, patience: 1000 })
      void enter('warm-0')
      for (let i = 1; i <= 100; i++) {
        void enter(`warm-${i}`)
        await finish(ms)
      }
      await finish(ms)
      assert.equal(working.length, 0)
      for (const agent of fleet(2000)) void enter(agent)
      await settle()
      return 2000 - refused.size
    }
    const [fast, slow] = [await long(1), await long(20)]
    assert.ok(fast > 900 && fast < 1200, `${fast} of 1 ms each`)
    assert.ok(slow > 45 && slow < 60, `${slow} of 20 ms each`)
  })

  it('sends nobody away because of one answer that took long', async () => {
    const { enter, refused, finish } = stage({ width: 1 })
    for (const [i, took] of [...Array(100).fill(1), 5000].entries()) {
      void enter(`${i}`)
      await finish(took)
    }
    for (const agent of fleet(100)) void enter(agent)
    await settle()
    assert.equal(refused.size, 0)
  })

  it('gives each of a refused fleet a moment of its own, as far apart as answers are', async () => {
    const { enter, refused } = stage({ width: 1, patience: 500 })
    for (const agent of fleet(1000)) void enter(agent)
    await settle()
    const moments = [...refused.values()].sort((a, b) => a - b)
    assert.ok(moments.length > 800)
    const inOneTenth = moments.map((start) => moments.filter((m) => m >= start && m < start + 100).length)
    assert.ok(Math.max(...inOneTenth) <= 25, `${Math.max(...inOneTenth)} within 100 ms`)
  })

  it('serves everyone in the end, and newcomers only behind those who were sent away', async () => {
    const { enter, refused, served, finish, working, pass } = stage({ width: 4, patience: 500 })
    const fleetServed = (): string[] => served.filter((agent) => agent.startsWith('node-'))
    /** When each one that was sent away comes again. */
    const away = new Map<string, number>()
    for (const agent of fleet(1000)) void enter(agent)
    await settle()
    for (let step = 1; fleetServed().length < 1000; step++) {
      const now = 5 * step
      for (const [agent, retryAfter] of refused)
        if (agent.startsWith('node-')) away.set(agent, now + retryAfter)
      refused.clear()
      for (const [agent] of [...away].filter(([, at]) => at <= now)) {
        away.delete(agent)
        void enter(agent)
      }
      // at each step somebody new wants to overtake them
      void enter(`late-${step}`)
      if (working.length > 0) await finish(5)
      else pass(5)
      await settle()
      assert.ok(step < 5000, `${fleetServed().length} served`)
    }
    assert.equal(new Set(fleetServed()).size, 1000)
    const overtook = served.slice(0, 700).filter((agent) => agent.startsWith('late-')).length
    assert.ok(overtook < 100, `${overtook} newcomers among the first 700`)
  })

  it('sends nobody away for longer than half a minute, and the same agent always to the same moment', async () => {
    const { enter, refused, finish, line, pass } = stage({ width: 1, patience: 500 })
    for (let i = 0; i < 60; i++) {
      void enter(`slow-${i}`)
      await finish(60_000)
    }
    refused.clear()
    for (const agent of fleet(500)) void enter(agent)
    await settle()
    assert.ok(refused.size > 490)
    assert.ok(Math.max(...refused.values()) <= 30_000)
    assert.ok(Math.max(...refused.values()) - Math.min(...refused.values()) > 10_000, 'spread')
    const [agent = '', retryAfter = 0] = [...refused][10] ?? []
    pass(1000)
    assert.equal(line.sentAway(agent).details.retryAfter, retryAfter - 1000)
  })

  it('goes on after work that failed', async () => {
    const { line, enter, served, finish } = stage({ width: 1 })
    await assert.rejects(
      line.enter('broken', () => Promise.reject(new Error('no'))),
      /no/,
    )
    void enter('next')
    await finish(1)
    assert.deepEqual(served, ['next'])
  })
})
