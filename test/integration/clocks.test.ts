/** Clocks that are wrong, and that are set while everything runs: measured, shown, and nothing moves on by them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderOverview } from '../../cli/commands/status.ts'
import type { Clock, Duration } from '../../src/time.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const HOUR = 3_600_000
const POLICY = { retireAfter: '0s' }
const patient = { timeout: PATIENCE, interval: 50 }

/** A clock that can be set. */
class SetClock implements Clock {
  offset: Duration = 0
  now(): number {
    return Date.now() + this.offset
  }
}

const start = () => RunningDomain.start({ services: [{ name: 'orders' }], policy: POLICY })

test('a node whose clock is set is measured anew, holds the rotation by name, and lets it go when it is right', {
  timeout: 300_000,
}, async () => {
  await using domain = await start()
  const clock = new SetClock()
  await domain.startIssuer()
  await domain.startAgent('nats-1')
  await domain.startAgent('orders', [], clock)
  const of = async (name: string) => {
    const status = (await domain.overview()).agents.find((agent) => agent.name === name)?.status
    return status?.clockOffsetMs === null ? null : status
  }
  for (const name of ['issuer', 'nats-1', 'orders']) {
    const status = await eventually(() => of(name), patient)
    assert.ok(status.clockOffsetMs !== null)
    assert.ok(Math.abs(status.clockOffsetMs) <= status.clockBoundMs, 'one clock, so it is 0 within the bound')
  }
  await domain.settled()

  clock.offset = 60_000
  const measured = await eventually(async () => {
    const status = await of('orders')
    return Number(status?.clockOffsetMs) > 30_000 && status
  }, patient)
  assert.ok(Math.abs((measured.clockOffsetMs ?? 0) - 60_000) <= measured.clockBoundMs + 20)
  assert.match(renderOverview(await domain.overview()), /orders .*\+(59|1m)/)
  await domain.order()
  const held = await eventually(async () => {
    const overview = await domain.overview()
    return overview.waitingFor.some(({ missing }) => missing.includes('ERR_CLOCK_SKEW')) && overview
  }, patient)
  assert.deepEqual([held.phase, held.waitingFor.map(({ name }) => name)], ['distributing', ['orders']])

  clock.offset = 0
  await domain.settled(undefined, ({ active }) => active > held.active)
})

test('an issuer whose clock jumps by hours moves nothing, says why, and goes on when it is right again', {
  timeout: 300_000,
}, async () => {
  await using domain = await start()
  const clock = new SetClock()
  await domain.startIssuer({}, { clock, lease: 2_000 })
  for (const name of ['nats-1', 'orders']) await domain.startAgent(name)
  const before = await domain.settled()

  for (const offset of [5 * HOUR, -5 * HOUR]) {
    // every authority looks ended by it, or not begun
    clock.offset = offset
    const { problem, version } = await eventually(async () => {
      const overview = await domain.overview()
      return overview.problem !== null && overview
    }, patient)
    assert.equal(problem?.code, 'ERR_CLOCK_SKEW')
    assert.match(problem?.message ?? '', offset > 0 ? /differ by \+/ : /differ by -/)
    assert.equal(version, before.version)
    clock.offset = 0
    await eventually(async () => (await domain.overview()).problem === null, patient)
  }
  const { version } = await domain.overview()
  assert.equal(version, before.version, 'nothing was published meanwhile')
  await domain.rotate()
})
