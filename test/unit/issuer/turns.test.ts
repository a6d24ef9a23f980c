import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { NO_TURN, type TurnFacts, type TurnRecord, takeTurn, turnTime } from '../../../issuer/turns.ts'
import type { TurnRequest } from '../../../src/wire/requests.ts'

const acquire = (agent: string, version = 5): TurnRequest => ({ v: 1, agent, version, op: 'acquire' })
const release = (agent: string, outcome: 'applied' | 'rolled-back', version = 5): TurnRequest => ({
  v: 1,
  agent,
  version,
  op: 'release',
  outcome,
})

const facts = (now: number, ended = false, change: Partial<TurnFacts> = {}): TurnFacts => ({
  now,
  turnTime: 20_000,
  hasEnded: () => ended,
  tolerates: () => false,
  confirms: () => true,
  appliedBy: () => null,
  refusedBy: () => [],
  canaryUntil: () => 0,
  newest: 0,
  ...change,
})

function after(record: TurnRecord, request: TurnRequest, now = 0): TurnRecord {
  const outcome = takeTurn(record, request, facts(now))
  assert.ok('next' in outcome, JSON.stringify(outcome))
  return outcome.next
}

test('one holds the turn, the others wait until it is given back', () => {
  const held = after(NO_TURN, acquire('nats-1'))
  assert.deepEqual(takeTurn(held, acquire('nats-2'), facts(1)), {
    refused: 'it is the turn of nats-1',
    final: false,
  })
  assert.equal(after(after(held, release('nats-1', 'applied')), acquire('nats-2')).holder?.agent, 'nats-2')
})

test('a holder that asks again, after a crash, has it still', () => {
  assert.equal(after(after(NO_TURN, acquire('nats-1')), acquire('nats-1'), 1).holder?.agent, 'nats-1')
})

test('a holder that does not come back loses it', () => {
  const held = after(NO_TURN, acquire('nats-1'))
  assert.equal(after(held, acquire('nats-2'), held.until + 1).holder?.agent, 'nats-2')
})

test('a release that got lost does not block the others: the status of the holder shows that it is done', () => {
  const held = after(NO_TURN, acquire('nats-1'))
  assert.deepEqual(takeTurn(held, acquire('nats-2'), facts(1, true)), {
    next: { ...NO_TURN, holder: { agent: 'nats-2', version: 5 }, until: 20_001 },
  })
})

test('a first server that ended before it could give the turn back is known by its status, and looked at', () => {
  const held = after(NO_TURN, acquire('nats-1'))
  const follow: TurnRequest = { v: 1, agent: 'orders', version: 5, op: 'follow' }
  const told = { canaryUntil: () => 10_000, appliedBy: () => ({ agent: 'nats-1', version: 5, at: 1 }) }
  assert.deepEqual(takeTurn(held, follow, facts(2, true, { ...told, appliedBy: () => null })), {
    refused: 'no server has proven version 5 yet',
    final: false,
  })
  assert.deepEqual(takeTurn(held, follow, facts(2, true, { ...told, confirms: () => false })), {
    refused: 'nats-1, the first server, is looked at',
    final: false,
  })
  assert.deepEqual(takeTurn(held, follow, facts(2, true, told)), { next: held })
  // nobody waits for that look for ever, however new the report is
  const late = {
    ...told,
    confirms: () => false,
    appliedBy: () => ({ agent: 'nats-1', version: 5, at: 10_000 }),
  }
  assert.deepEqual(takeTurn(held, follow, facts(10_000, true, late)), { next: held })
  // what it had to put back stays put back
  const failed = after(held, release('nats-1', 'rolled-back'))
  assert.match(JSON.stringify(takeTurn(failed, follow, facts(2, true, told))), /had to put version 5 back/)
})

test('a turn lasts at most half an epoch where epochs are short', () => {
  assert.deepEqual([turnTime(8_000), turnTime(1_000), turnTime(6 * 3_600_000)], [4_000, 2_000, 20_000])
})

test('nobody starts a version that the canary had to put back, except the canary', () => {
  const failed = after(after(NO_TURN, acquire('nats-1')), release('nats-1', 'rolled-back'))
  assert.deepEqual(takeTurn(failed, acquire('nats-2'), facts(1)), {
    refused: 'nats-1 had to put version 5 back',
    final: true,
  })
  const again = after(failed, acquire('nats-1'))
  assert.equal(after(after(again, release('nats-1', 'applied')), acquire('nats-2')).holder?.agent, 'nats-2')
})

test('a server that is down gives the turn back without a verdict, and the next one is the canary', () => {
  const { outcome: _, ...down } = release('nats-1', 'rolled-back')
  const given = after(after(NO_TURN, acquire('nats-1')), down)
  assert.deepEqual([given.holder, given.failed, given.proven], [null, null, null])
  assert.equal(after(given, acquire('nats-2')).holder?.agent, 'nats-2')
})

const follow = (agent: string, version = 5): TurnRequest => ({ v: 1, agent, version, op: 'follow' })

test('nobody follows before the first server has proven a version, and everybody when none is expected', () => {
  const waits = facts(1, false, { canaryUntil: () => 10 })
  const refused = { refused: 'no server has proven version 5 yet', final: false }
  assert.deepEqual(takeTurn(NO_TURN, follow('orders'), waits), refused)
  const held = after(NO_TURN, acquire('nats-1'))
  assert.deepEqual(takeTurn(held, follow('orders'), waits), refused)
  const proven = after(held, release('nats-1', 'applied'))
  assert.deepEqual(takeTurn(proven, follow('orders'), waits), { next: proven })
  assert.deepEqual(takeTurn(NO_TURN, follow('orders'), { ...waits, now: 10 }), { next: NO_TURN })
})

test('what a server reports as put back is refused to all others, although its release is not here yet', () => {
  const held = after(NO_TURN, acquire('nats-1'))
  const told = facts(1, true, { refusedBy: () => ['nats-1'] })
  const refused = { refused: 'nats-1 had to put version 5 back', final: true }
  for (const request of [acquire('nats-2'), follow('orders')]) {
    assert.deepEqual(takeTurn(held, request, told), refused)
  }
  assert.ok('next' in takeTurn(held, acquire('nats-1'), told), 'it may try again')
  assert.ok('next' in takeTurn(held, acquire('nats-2'), { ...told, tolerates: () => true }))
})

test('nobody follows a server that had to put the version back, and another server only within the budget', () => {
  const failed = after(after(NO_TURN, acquire('nats-1')), release('nats-1', 'rolled-back'))
  const refused = { refused: 'nats-1 had to put version 5 back', final: true }
  assert.deepEqual(takeTurn(failed, follow('orders'), facts(1)), refused)
  const tolerant = facts(1, false, { tolerates: (agent) => agent === 'nats-1' })
  assert.ok('next' in takeTurn(failed, acquire('nats-2'), tolerant))
})

test('the others wait until the issuer has seen by itself that the first server takes it, for one turn at most', () => {
  const proven = after(after(NO_TURN, acquire('nats-1')), release('nats-1', 'applied'))
  const looks = facts(1, false, { confirms: () => false })
  const refused = { refused: 'nats-1, the first server, is looked at', final: false }
  for (const request of [acquire('nats-2'), follow('orders')]) {
    assert.deepEqual(takeTurn(proven, request, looks), refused)
    assert.ok('next' in takeTurn(proven, request, { ...looks, now: 20_000 }))
  }
  assert.ok('next' in takeTurn(proven, acquire('nats-1'), looks), 'it asks again after a crash')
})

test('who still waits with a version that was replaced, or taken back, gets no turn with it', () => {
  const proven = after(after(NO_TURN, acquire('nats-1')), release('nats-1', 'applied'))
  for (const request of [acquire('nats-2'), follow('orders')]) {
    assert.deepEqual(takeTurn(proven, request, facts(1, false, { newest: 6 })), {
      refused: 'version 6 has replaced version 5',
      final: true,
    })
  }
})

test('a newer version is a new chance', () => {
  const failed = after(after(NO_TURN, acquire('nats-1')), release('nats-1', 'rolled-back'))
  assert.equal(after(failed, acquire('nats-2', 6)).holder?.agent, 'nats-2')
})

test('somebody who does not hold it can not give it back', () => {
  const held = after(NO_TURN, acquire('nats-1'))
  assert.equal(after(held, release('nats-2', 'applied')).holder?.agent, 'nats-1')
})

test('never do two agents hold it within its time', () => {
  const requests = fc.record({
    agent: fc.constantFrom('a', 'b', 'c'),
    version: fc.integer({ min: 1, max: 3 }),
    op: fc.constantFrom('acquire', 'release'),
    outcome: fc.constantFrom('applied', 'rolled-back'),
  })
  fc.assert(
    fc.property(fc.array(fc.tuple(requests, fc.integer({ min: 0, max: 15_000 }))), (steps) => {
      let record = NO_TURN
      let now = 0
      for (const [request, gap] of steps) {
        now += gap
        const before = record
        const outcome = takeTurn(before, { v: 1, ...request } as TurnRequest, facts(now))
        if (!('next' in outcome)) continue
        record = outcome.next
        const changed =
          before.holder !== null && record.holder !== null && before.holder.agent !== record.holder.agent
        assert.ok(!changed || before.until <= now, `${before.holder?.agent} was robbed`)
      }
    }),
  )
})
