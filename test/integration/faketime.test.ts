/**
 * The true programs with a wrong clock: `rotor agent` and `rotor issuer`, each on a libfaketime of its own, so that what
 * OpenSSL thinks of a certificate is wrong as well. 1. The agent's clock is set back while the machine is stopped, then
 * ahead while it runs: measured, shown, the rotation is held by name, what is in use stays in use, and it goes on when the
 * clock is right. 2. The issuer's clock is far off: nothing moves, it says why, and right again it rotates.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Child, ChildEvent } from '../../demo/child.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { FakeClock, findFaketime } from '../support/faketime.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { without } from '../support/without.ts'

const HOUR = 3_600_000
const MINUTE = 60_000
const NODES = ['issuer', 'nats-1', 'orders']
const patient = { timeout: PATIENCE, interval: 100 }
const library = findFaketime()

/** Issuer and one agent as processes with a clock of their own. */
class Story {
  readonly domain: RunningDomain
  readonly issuer: FakeClock
  readonly orders: { readonly clock: FakeClock; readonly child: Child }
  readonly #events: ChildEvent[]

  private constructor(
    domain: RunningDomain,
    events: ChildEvent[],
    issuer: FakeClock,
    orders: Story['orders'],
  ) {
    this.domain = domain
    this.#events = events
    this.issuer = issuer
    this.orders = orders
  }

  static async begin(faketime: string): Promise<Story> {
    const events: ChildEvent[] = []
    const domain = await RunningDomain.start({
      services: [{ name: 'orders' }],
      policy: { retireAfter: '0s' },
      onEvent: (event) => events.push(event),
    })
    try {
      const clockOf = (name: string) => FakeClock.make(faketime, join(domain.local.dir, `${name}.clock`))
      const [issuer, clock] = [await clockOf('issuer'), await clockOf('orders')]
      await domain.startAgent('nats-1')
      await domain.local.startIssuer([], { env: issuer.env })
      const child = await domain.local.startAgent('orders', [], { env: clock.env })
      await domain.settled(NODES)
      return new Story(domain, events, issuer, { clock, child })
    } catch (cause) {
      await domain.stop()
      throw cause
    }
  }

  /** What an operator sees. */
  status() {
    return rotor('status', '--config', this.domain.local.founded.issuerConfig)
  }

  /** The agent's status has about this offset. */
  measured(offset: number): Promise<boolean> {
    return eventually(async () => {
      const { agents } = await this.domain.overview()
      const found = agents.find(({ name }) => name === 'orders')?.status?.clockOffsetMs ?? 0
      return Math.abs(found - offset) < 5_000
    }, patient)
  }

  get renewals(): number {
    return this.#events.filter(({ node, step }) => node === 'orders' && step === 'renew').length
  }
}

const SETS = [
  {
    how: 'back by an hour while the machine is stopped',
    offset: -HOUR,
    shown: /orders .* -(1h|59m)/,
    // a bundle of the true time is from the future
    lacks: /ERR_CLOCK_SKEW at version \d+: bundle \d+: issued at/,
    stopped: true,
  },
  {
    how: 'ahead by 100 minutes while it runs',
    offset: 100 * MINUTE,
    shown: /orders .* \+1h(40m|39m)/,
    lacks: /ERR_CLOCK_SKEW: its clock is off by \+1h/,
    stopped: false,
  },
]

describe('a process whose clock is wrong', { timeout: 240_000 }, () => {
  let story: Story
  before(async () => {
    if (library !== null) story = await Story.begin(library)
  })
  after(() => story?.domain.stop())

  for (const { how, offset, shown, lacks, stopped } of SETS) {
    test(`the clock of an agent is set ${how}: shown, held by name, nothing breaks, and right again it goes on`, async (t) => {
      if (library === null) return without(t, 'no libfaketime here; scripts/setup.mjs says why')
      const { domain, orders } = story
      const before = await domain.overview()
      const renewed = story.renewals
      if (stopped) orders.child.kill('SIGSTOP')
      await orders.clock.set(offset)
      if (stopped) orders.child.kill('SIGCONT')
      await story.measured(offset)

      await domain.order()
      const held = await eventually(async () => {
        const now = await domain.overview()
        const [first, ...others] = now.waitingFor
        return first?.name === 'orders' && lacks.test(first.missing) && others.length === 0 && now
      }, patient)
      assert.deepEqual([held.phase, held.active], ['distributing', before.active])
      const { code, stdout } = await story.status()
      assert.equal(code, 1)
      assert.match(stdout, shown)
      assert.match(stdout, /agent orders: .*ERR_CLOCK_SKEW/)
      // by its clock each new leaf may be as due as the one before it
      assert.ok(story.renewals - renewed <= 2, `renewed ${story.renewals - renewed} times`)
      await domain.identity('orders')
      assert.equal(orders.child.ended, false)

      await orders.clock.set(0)
      await domain.settled(NODES, ({ active }) => active > before.active)
    })
  }

  test("the issuer's clock is hours off: nothing moves, it says why, and right again it rotates", async (t) => {
    if (library === null) return without(t, 'no libfaketime here; scripts/setup.mjs says why')
    const { domain, issuer } = story
    // nothing is left to be published
    const before = await domain.settled(NODES, ({ authorities }) => authorities.length === 1)
    await issuer.set(5 * HOUR)
    await eventually(async () => (await domain.overview()).problem?.code === 'ERR_CLOCK_SKEW', patient)
    const { code, stdout } = await story.status()
    assert.equal(code, 1)
    assert.match(stdout, /ERR_CLOCK_SKEW .* differ by \+/)
    await issuer.set(0)
    await eventually(async () => (await domain.overview()).problem === null, patient)
    assert.equal((await domain.overview()).version, before.version, 'nothing was published meanwhile')
    await domain.order()
    await domain.settled(NODES, ({ active }) => active > before.active)
    assert.deepEqual(chainProblems(await domain.history()), [])
  })
})
