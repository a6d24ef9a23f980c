import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { RotationPolicy } from '../../src/rotation/state.ts'
import { epochAt } from '../../src/schedule.ts'
import { type Action, Simulation } from '../support/rotation-simulation.ts'
import { HOUR, MINUTE, SCHEDULE } from '../support/rotation-world.ts'

/** Raise it for a soak: `ROTOR_MODEL_RUNS=20000 node --test test/model/rotation.test.ts`. */
const RUNS = Number(process.env.ROTOR_MODEL_RUNS ?? 400)

const who = fc.nat(5)
const minutes = (min: number, max: number) => fc.integer({ min, max })
const plain = (kind: 'turn' | 'all work') => fc.constant<Action>({ kind })

/** Weights: mostly a domain that works, so that rotations get somewhere, with every trouble often enough. */
const ACTION: fc.Arbitrary<Action> = fc.oneof(
  { weight: 30, arbitrary: plain('turn') },
  { weight: 8, arbitrary: plain('all work') },
  { weight: 14, arbitrary: fc.record({ kind: fc.constant('follow' as const), who }) },
  { weight: 14, arbitrary: fc.record({ kind: fc.constant('report' as const), who }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('tick' as const), minutes: minutes(1, 20) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'follow one' as const,
        'renew',
        'linger',
        'let go',
        'repeat',
        'roll back',
        'freeze',
        'thaw',
        'thaw',
        'refuse',
        'take again',
        'take again',
        'leave',
      ),
      who,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'die after commit' as const,
        'die between effects',
        'turn with an old look',
        'remember',
        'former issuer',
        'former issuer looks again',
      ),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom('dial' as const, 'hang up'), who }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('count' as const, 'count', 'count not') }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('join' as const, 'order', 'force', 'order root') }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('withdraw' as const, 'rollback', 'pause', 'resume') }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('taint' as const), which: fc.nat(5) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('order signer' as const, 'order signer', 'force signer', 'withdraw signer'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('cut server' as const, 'mend server', 'mend server'), who }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('back' as const), minutes: minutes(1, 2) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('lose next key' as const, 'lose signing key', 'lose newest root'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leap' as const), minutes: minutes(40, 360) }) },
)

const ACTIONS = fc.array(ACTION, { minLength: 20, maxLength: 300, size: 'max' })

const POLICY: fc.Arbitrary<RotationPolicy> = fc.record(
  {
    goOnBelow: fc.constantFrom(0, HOUR / 2, 2 * HOUR),
    retireAfter: fc.constantFrom(0, 20 * MINUTE, HOUR),
    patience: fc.constantFrom(0, MINUTE, HOUR),
    census: fc.constantFrom('required' as const, 'optional'),
    taintPatience: fc.constantFrom(0, MINUTE, HOUR),
    maxFailures: fc.constantFrom({ servers: 0, clients: 0 }, { servers: 1, clients: 0.5 }),
  },
  { requiredKeys: [] },
)

test('every promise holds after every step, whatever fails, is late, repeated, frozen or out of date', () => {
  fc.assert(
    fc.property(POLICY, ACTIONS, (policy, actions) => {
      const domain = new Simulation(policy)
      for (const action of actions) domain.run(action)
    }),
    { numRuns: RUNS },
  )
})

test('a domain that is well again finishes what was under way and follows the clock, whatever went before', () => {
  fc.assert(
    fc.property(POLICY, ACTIONS, (policy, actions) => {
      const domain = new Simulation(policy)
      for (const action of actions) domain.run(action)
      domain.heal()
      // at most one hold of an old phase, then one rotation for each epoch
      for (let round = 0; round < 5 * 12; round++) domain.round(5)
      domain.round(0)
      assert.ok(
        domain.converged,
        `epoch ${domain.state.active} signs in ${domain.state.phase}, not all follow`,
      )
      assert.ok(
        domain.caughtUp,
        `epoch ${domain.state.active} signs in epoch ${epochAt(SCHEDULE, domain.now)}`,
      )
    }),
    { numRuns: Math.ceil(RUNS / 10) },
  )
})

test('a healthy domain rotates once in each epoch, with two bundles, and passes nobody over', () => {
  const domain = new Simulation()
  for (let epoch = 101; epoch <= 130; epoch++) {
    while (domain.now < SCHEDULE.epochZero + epoch * HOUR) domain.round(5)
    domain.round(1)
    assert.equal(domain.state.active, epoch)
    assert.equal(domain.state.phase, 'steady')
    assert.ok(domain.converged)
    assert.equal(domain.state.version, 1 + 2 * (epoch - 100))
  }
  assert.deepEqual([...domain.seen.keys()].sort(), [
    'activate',
    'authority-not-created',
    'converge',
    'epoch-not-started',
    'not-due',
    'prepare',
    'servers-not-proven',
    'servers-not-reissued',
  ])
})

test('a healthy domain moves to a new root without passing anybody over, and forgets the old one with its key', () => {
  const domain = new Simulation()
  domain.round(5)
  for (const number of [2, 3]) {
    domain.run({ kind: 'order root' })
    for (let round = 0; round < 5 * 12; round++) domain.round(5)
    assert.deepEqual(domain.roots, [number], `root ${number} is the only one left`)
    assert.deepEqual([domain.state.newestRoot, domain.state.order], [number, null])
    assert.ok(domain.converged && domain.caughtUp)
  }
})

test('the simulation reaches every move and every reason to wait', () => {
  const seen = new Map<string, number>()
  const runs = fc.sample(fc.tuple(POLICY, ACTIONS), { seed: 1, numRuns: 400 })
  for (const [policy, actions] of runs) {
    const domain = new Simulation(policy)
    for (const action of actions) domain.run(action)
    for (const [what, count] of domain.seen) seen.set(what, (seen.get(what) ?? 0) + count)
  }
  assert.deepEqual([...seen.keys()].sort(), [
    'activate',
    'agents-do-not-know-root',
    'agents-do-not-know-signer',
    'agents-do-not-trust',
    'agents-not-reissued',
    'agents-still-trust',
    'authority-not-created',
    'authority-still-needed',
    'converge',
    'distrust',
    'epoch-not-started',
    'introduce',
    'introduce-signer',
    'not-due',
    'not-published',
    'paused',
    'prepare',
    'refresh',
    'restart',
    'retire',
    'retire-signer',
    'rollback',
    'root-not-created',
    'servers-not-proven',
    'servers-not-reissued',
    'signer-not-created',
    'taint',
    'tainted-still-trusted',
    'withdraw',
  ])
})
