import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Facts } from '../../../src/preflight/facts.ts'
import { judge } from '../../../src/preflight/judge.ts'
import { type Plan, type PlanStep, planFor } from '../../../src/preflight/plan.ts'
import type { AgentStatus } from '../../../src/wire/status.ts'
import { facts, NOW, told } from '../../support/preflight-world.ts'
import {
  convergingState,
  distributingState,
  epochsIn,
  healthy,
  held,
  order,
  STATES,
} from '../../support/rotation-world.ts'

const WELL = facts()

function plan(given: Facts, force = false): Plan {
  const made = planFor(given, judge(given, NOW), order(force, NOW), NOW)
  assert.ok(made !== null)
  return made
}

const short = (step: PlanStep): string => {
  if (step.kind === 'make') return `make ${step.name}`
  return step.kind === 'move' ? `${step.move} ${step.epoch}` : `wait ${step.reason}`
}

const withAgent = (name: string, change: Partial<AgentStatus> | null, given = WELL): Facts => ({
  ...given,
  seen: { ...given.seen, agents: told(given.state, { [name]: change }) },
})

test('a healthy domain goes through: prepare, activate, converge, and everybody has something to do in between', () => {
  const made = plan(WELL)
  assert.equal(made.outcome, 'done')
  assert.equal(made.goesOnAt, null)
  assert.deepEqual(made.steps.map(short), [
    'prepare 105',
    'wait agents-do-not-trust',
    'activate 105',
    'wait agents-not-reissued',
    'converge 105',
  ])
  const [wait] = made.steps.filter((step) => step.kind === 'wait')
  assert.deepEqual(wait?.for, ['issuer', 'n1', 'n2', 'orders'])
  assert.deepEqual(made.order, { servers: ['n1', 'n2'], others: ['issuer', 'orders'] })
})

test('an authority that is not there yet is made first, under the root that signs', () => {
  const without = { ...WELL.seen, held: epochsIn(WELL.state).map(held) }
  const [first] = plan({ ...WELL, seen: without }).steps
  assert.deepEqual(first, {
    kind: 'make',
    what: 'authority',
    name: 'epoch 105',
    under: WELL.seen.roots[0]?.sha256,
  })
})

test('who never reported is named in the step that would hold for it, with when it would go on', () => {
  const made = plan(withAgent('orders', null))
  assert.equal(made.outcome, 'holds')
  const last = made.steps.at(-1)
  assert.ok(last?.kind === 'wait')
  assert.equal(last.reason, 'agents-do-not-trust')
  assert.deepEqual(last.holds, [{ name: 'orders', kind: 'agent', missing: 'never reported' }])
  assert.ok(made.goesOnAt !== null && Date.parse(made.goesOnAt) > NOW)
})

test('a clock that is off holds the step by the rule of the rotation itself', () => {
  const last = plan(withAgent('orders', { clockOffsetMs: 600_000 })).steps.at(-1)
  assert.match((last?.kind === 'wait' && last.holds[0]?.missing) || '', /ERR_CLOCK_SKEW/)
})

test('a listener that can not be proven holds, and so does a server without an agent', () => {
  const listeners = WELL.listeners.map((one, i) => (i === 3 ? { ...one, unreachable: 'ECONNREFUSED' } : one))
  const unproven = plan({ ...WELL, listeners }).steps.at(-1)
  assert.ok(unproven?.kind === 'wait')
  assert.deepEqual(
    unproven.holds.map(({ kind, name }) => [kind, name]),
    [['server', 'n2']],
  )
  const stranger = { name: 'n3', agent: null, listeners: [] }
  const more = { ...WELL.seen, servers: [...WELL.seen.servers, stranger] }
  const last = plan({ ...WELL, seen: more }).steps.at(-1)
  assert.match((last?.kind === 'wait' && last.holds[0]?.missing) || '', /no agent beside it/)
})

test('with force it goes through without them, and the step says so', () => {
  const made = plan(withAgent('orders', null), true)
  assert.equal(made.outcome, 'done')
  const activate = made.steps.find((step) => step.kind === 'move' && step.move === 'activate')
  assert.match(
    (activate?.kind === 'move' && activate.reason) || '',
    /went on without orders: forced by alice/,
  )
})

test('an order that would be refused has no steps, and the reason of the issuer', () => {
  const paused = facts({ state: { ...WELL.state, paused: { by: 'alice', reason: 'a fair', at: NOW } } })
  const made = plan(paused)
  assert.equal(made.outcome, 'refused')
  assert.match(made.refused ?? '', /paused by alice: a fair/)
  for (const state of [distributingState(), convergingState()]) {
    const moving = facts({ state, seen: healthy(state, NOW, { agents: told(state) }) })
    assert.match(plan(moving).refused ?? '', /under way/)
  }
})

test('from every phase there is an answer, and force added to a rotation under way walks it to its end', () => {
  for (const [phase, make] of Object.entries(STATES)) {
    const state = make()
    const seen = healthy(state, state.since, { agents: told(state, { orders: null }) })
    const given = facts({ state, seen })
    const at = Math.max(NOW, state.since)
    const made = planFor(given, judge(given, at), order(true, at), at)
    assert.equal(made?.outcome, 'done', phase)
    assert.notEqual(planFor(given, [], order(false, at), at)?.outcome, 'done', phase)
  }
})

test('without the key store there is no plan', () => {
  const locked = facts({ keys: { ...WELL.keys, problem: 'ERR_AUTHORITY_LOCKED' } })
  assert.equal(planFor(locked, [], order(false, NOW), NOW), null)
})

test('planning changes none of the values it was given', () => {
  const before = JSON.stringify(WELL)
  plan(WELL, true)
  assert.equal(JSON.stringify(WELL), before)
})
