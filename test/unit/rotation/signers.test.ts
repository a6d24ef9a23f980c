import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateSigner } from '../../../src/bundle/envelope.ts'
import { vouch } from '../../../src/bundle/succession.ts'
import { advance } from '../../../src/rotation/advance.ts'
import { applyOrder } from '../../../src/rotation/orders.ts'
import { rebuild } from '../../../src/rotation/rebuild.ts'
import type { HeldSigner, Observations, RotationState } from '../../../src/rotation/state.ts'
import type { Instant } from '../../../src/time.ts'
import type { SignerKey } from '../../../src/wire/bundle.ts'
import type { Order } from '../../../src/wire/requests.ts'
import {
  AGENTS,
  agentsOf,
  at,
  bundleIn,
  convergingState,
  decide,
  distributingState,
  expectMove,
  expectWait,
  healthy,
  introducingState,
  MINUTE,
  order,
  rootsIn,
  steadyState,
  unmoved,
  withdrawingState,
  withPayload,
} from '../../support/rotation-world.ts'

const keyOf = (letter: string): SignerKey => ({
  kty: 'OKP',
  crv: 'Ed25519',
  x: letter.repeat(43),
  kid: letter.repeat(43),
})
/** The one of the founding, and the next. */
const [FIRST, SECOND] = [bundleIn(steadyState()).signers[0] ?? keyOf('x'), keyOf('B')]
const held = (number: number, key: SignerKey, vouched: string | null = null): HeldSigner => ({
  number,
  kind: 'ed25519',
  key,
  vouched,
})
const [ONE, TWO] = [held(1, FIRST), held(2, SECOND, 'link')]

const ordered = <S extends RotationState>(state: S, now: Instant, change: Partial<Order> = {}): S => {
  const facts = { held: [], agents: [] }
  return applyOrder(state, { ...order(false, now, 'signer-rotate'), ...change }, now, facts) as S
}
const kids = (state: RotationState) => bundleIn(state).signers.map(({ kid }) => kid[0])
const seen = (signers: readonly HeldSigner[], more: Partial<Observations> = {}) => ({ signers, ...more })
const quiet = at(104, 30)
/** Since 104:30 bundles name both. */
const overlap = (state: RotationState = steadyState(), now = quiet) =>
  expectMove(decide(ordered(state, now), now, seen([ONE, TWO])), 'introduce-signer').to

const behind = (state: RotationState, names: readonly string[]) =>
  agentsOf(state, Object.fromEntries(names.map((name) => [name, { version: state.version - 1 }])))

test('the key that was ordered is made under a number that never was used, and nothing moves before it is there', () => {
  const state = ordered(steadyState(), quiet)
  const { effects } = expectWait(decide(state, quiet, seen([ONE])), 'signer-not-created')
  assert.deepEqual(effects, [{ kind: 'create-signer', number: 2, signer: 'ed25519' }])
  // made for an order that got lost, and of another kind
  const other = seen([ONE, { ...TWO, kind: 'ml-dsa-65' }])
  assert.deepEqual(expectWait(decide(state, quiet, other), 'signer-not-created').effects, [
    { kind: 'create-signer', number: 3, signer: 'ed25519' },
  ])
  // nobody of the bundle can vouch for it
  expectWait(decide(state, quiet, seen([held(2, SECOND)])), 'signer-not-created')
})

test('in every phase the new signer is named first beside the old one, and its introduction goes with the bundle', () => {
  const lagging = [
    [steadyState(), quiet],
    [distributingState(), at(104, 56)],
    [convergingState(), at(105, 1)],
    [withdrawingState(), at(104, 58)],
    [introducingState(), at(104, 31)],
  ] as const
  for (const [before, now] of lagging) {
    const state = ordered(before, now)
    const world = healthy(state, now, {
      agents: unmoved(state),
      ...seen([ONE, TWO], { roots: rootsIn(state) }),
    })
    const { to, effects } = expectMove(advance(state, world, {}, now), 'introduce-signer')
    assert.equal(to.phase, before.phase)
    assert.equal(to.phaseVersion, before.phaseVersion)
    assert.deepEqual(kids(to), ['B', 'k'])
    assert.deepEqual(bundleIn(to).succession, ['link'])
    assert.deepEqual([to.newestSigner, to.signer?.introduced?.version], [2, to.version])
    assert.ok(!effects.some(({ kind }) => kind === 'delete-signer'))
    assert.match(bundleIn(to).reason, /introduce signer B{8}: ordered by alice: drill/)
  }
})

test('the old signer leaves when every agent has applied a bundle that names the new one, never by time', () => {
  const state = overlap()
  const late = at(104, 54)
  for (const name of AGENTS) {
    const wait = decide(state, late, seen([ONE, TWO], { agents: behind(state, [name]) }))
    const { waitingFor } = expectWait(wait, 'agents-do-not-know-signer')
    assert.deepEqual(
      waitingFor.map((one) => one.name),
      [name],
    )
    assert.match(waitingFor[0]?.missing ?? '', /reports version \d+ of \d+/)
  }
  expectWait(
    decide(state, late, seen([ONE, TWO], { agents: agentsOf(state, { orders: null }) })),
    'agents-do-not-know-signer',
  )
  const { to, effects } = expectMove(decide(state, late, seen([ONE, TWO])), 'retire-signer')
  assert.deepEqual(kids(to), ['B'])
  assert.deepEqual(bundleIn(to).succession, ['link'], 'who slept through it all verifies by that')
  assert.equal(to.signer, null)
  // what signs the bundle before is needed until this one is on the stream
  assert.deepEqual(
    effects.map(({ kind }) => kind),
    ['publish-bundle', 'delete-signer'],
  )
  const after = decide(to, late, seen([ONE, TWO]))
  assert.deepEqual(expectWait(after, 'not-due').effects, [{ kind: 'delete-signer', number: 1 }])
})

test('only a forced change passes agents over, after patience, and names them in the bundle', () => {
  const agents = (state: RotationState) => behind(state, ['orders'])
  const state = overlap()
  const facts = { held: [], agents: [] }
  assert.throws(() => ordered(state, quiet), {
    code: 'ERR_ORDER_REFUSED',
    message: /only force can be added/,
  })
  const forced = applyOrder(state, order(true, quiet, 'signer-rotate'), quiet, facts)
  const soon = expectWait(
    decide(forced, quiet, seen([ONE, TWO], { agents: agents(forced) })),
    'agents-do-not-know-signer',
  )
  assert.equal(soon.until, quiet + 5 * MINUTE)
  const { to } = expectMove(
    decide(forced, quiet + 5 * MINUTE, seen([ONE, TWO], { agents: agents(forced) })),
    'retire-signer',
  )
  assert.match(bundleIn(to).reason, /went on without orders: forced by alice/)
})

test('a change that was withdrawn ends with the old signer alone, at once, and its number is used up', async () => {
  const [old, next] = [await generateSigner(), await generateSigner()]
  const real = [held(1, old.key), held(2, next.key, await vouch('prod', old, next))]
  const began = ordered(withPayload(steadyState(), { signers: [old.key] }), quiet)
  const state = expectMove(decide(began, quiet, seen(real)), 'introduce-signer').to
  const facts = { held: [], agents: [] }
  const back = applyOrder(state, order(false, quiet, 'signer-withdraw'), quiet, facts)
  assert.throws(() => applyOrder(back, order(true, quiet, 'signer-rotate'), quiet, facts), {
    code: 'ERR_ORDER_REFUSED',
  })
  const agents = behind(back, [...AGENTS])
  const { to, effects } = expectMove(decide(back, quiet, seen(real, { agents })), 'retire-signer')
  assert.deepEqual(bundleIn(to).signers, [old.key])
  assert.deepEqual(bundleIn(to).succession, [])
  assert.deepEqual([to.signer, to.newestSigner], [null, 2])
  assert.deepEqual(effects.at(-1), { kind: 'delete-signer', number: 2 })
  assert.equal(
    applyOrder(ordered(steadyState(), quiet), order(false, quiet, 'signer-withdraw'), quiet, facts).signer,
    null,
  )
  assert.throws(() => applyOrder(steadyState(), order(false, quiet, 'signer-withdraw'), quiet, facts), {
    code: 'ERR_ORDER_REFUSED',
  })
})

test('while it is paused nothing of it goes forward, and an order is refused', () => {
  const paused = <S extends RotationState>(state: S): S => ({
    ...state,
    paused: { by: 'alice', reason: 'a freeze', at: quiet },
  })
  assert.throws(() => ordered(paused(steadyState()), quiet), { code: 'ERR_ORDER_REFUSED' })
  const waiting = decide(paused(ordered(steadyState(), quiet)), quiet, seen([ONE]))
  assert.deepEqual(waiting.effects, [])
  assert.equal(decide(paused(overlap()), at(104, 40), seen([ONE, TWO])).kind, 'wait')
})

test('a rotation of authorities goes on beside it, and takes both signers along', () => {
  const state = overlap(steadyState(), at(104, 54))
  const agents = behind(state, ['orders'])
  const { to } = expectMove(decide(state, at(104, 55), seen([ONE, TWO], { agents })), 'prepare')
  assert.deepEqual(kids(to), ['B', 'k'])
  assert.deepEqual(to.signer, state.signer)
})

test('after a loss of the records the change goes on from the bundle: who knows the new signer is asked again', () => {
  const state = overlap()
  const kept = {
    domain: 'prod',
    payloads: [state.payload],
    fence: 0,
    roots: [],
    signedBy: {},
    signers: [ONE, TWO],
  }
  const again = rebuild(kept, quiet)
  assert.equal(again.newestSigner, 2)
  assert.equal(again.signer?.introduced?.version, state.version)
  const alone = withPayload(steadyState(), { signers: [SECOND] })
  const done = rebuild({ ...kept, payloads: [alone.payload] }, quiet)
  assert.deepEqual([done.newestSigner, done.signer], [2, null])
})
