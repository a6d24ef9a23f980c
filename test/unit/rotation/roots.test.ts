import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HeldRoot, Observations, RotationState } from '../../../src/rotation/state.ts'
import {
  agentsOf,
  at,
  bundleIn,
  decide,
  distributingState,
  epochsIn,
  expectMove,
  expectWait,
  HOUR,
  held,
  introducingState,
  leaf,
  MINUTE,
  order,
  root,
  SCHEDULE,
  signedBy,
  steadyState,
  withPayload,
} from '../../support/rotation-world.ts'

const now = at(104, 30)
const [OLD, NEW] = [root(1), root(2)]
const ordered = (crossSign = false): RotationState => ({
  ...steadyState(),
  order: { ...order(false, now, 'root-rotate'), crossSign },
})
const rootsOf = (state: RotationState): string[] => bundleIn(state).roots
const pem = (...roots: HeldRoot[]): string[] => roots.map(({ certificate }) => certificate)

/** Introduced, and everybody has it. */
const introduced = (): RotationState =>
  expectMove(decide(introducingState(), at(104, 32), { roots: [OLD, NEW] }), 'converge').to

/** What is held when these epochs are of the new root, and the others of the old one. */
const keys = (epochs: readonly number[], ofNew: readonly number[]): Partial<Observations> => ({
  held: epochs.map(held),
  roots: [OLD, NEW],
  signedBy: signedBy([101, 102, 103, ...epochs].map(held), Object.fromEntries(ofNew.map((e) => [e, NEW]))),
})

test('an ordered root is made first: a key of its own, ten years, dated back by the lead', () => {
  const { effects, until } = expectWait(decide(ordered(), now), 'root-not-created')
  assert.deepEqual(effects, [
    {
      kind: 'create-root',
      number: 2,
      notBefore: now - SCHEDULE.lead,
      notAfter: now + 10 * 365 * 24 * HOUR,
      cross: null,
    },
  ])
  assert.equal(until, at(104, 55))
})

test('cross-certificates end with the last authority of the old root', () => {
  const { effects } = expectWait(decide(ordered(true), now), 'root-not-created')
  const [effect] = effects
  assert.deepEqual(effect?.kind === 'create-root' && effect.cross, { root: OLD.sha256, notAfter: at(108) })
})

test('the new root enters the bundle before anything is issued under it', () => {
  const { to, reason } = expectMove(decide(ordered(), now, { roots: [OLD, NEW] }), 'introduce')
  assert.deepEqual(rootsOf(to), pem(NEW, OLD))
  assert.deepEqual(bundleIn(to).authorities, bundleIn(steadyState()).authorities)
  assert.equal(to.newestRoot, 2)
  assert.equal(to.phaseVersion, to.version)
  assert.equal(to.order?.kind, 'rotate')
  assert.match(reason, new RegExp(`^introduce root ${NEW.sha256.slice(0, 8)}: ordered by alice: drill$`))
})

test('a root that is not valid yet, or ends too soon, is not introduced', () => {
  const early = { ...NEW, notBefore: now + MINUTE }
  const decision = expectWait(decide(ordered(), now, { roots: [OLD, early] }), 'root-not-created')
  assert.deepEqual([decision.effects, decision.until], [[], now + MINUTE])
  const short = { ...NEW, notAfter: now + 4 * HOUR }
  assert.throws(() => decide(ordered(), now, { roots: [OLD, short] }), {
    code: 'ERR_AUTHORITY_MISSING',
    message: /expected root 2 to last until/,
  })
})

test('a rotation that is due goes first, and a root that can not be made delays none', () => {
  expectMove(decide(ordered(), at(104, 55)), 'prepare')
  const going = expectMove(decide(ordered(), at(104, 55)), 'prepare').to
  assert.equal(going.order?.kind, 'root-rotate')
  // it does not activate at once, as an ordered rotation does
  expectWait(decide(going, at(104, 57)), 'epoch-not-started')
  const active = expectMove(decide(going, at(105)), 'activate').to
  const done = expectMove(decide(active, at(105, 1)), 'converge').to
  assert.equal(done.order?.kind, 'root-rotate')
  expectWait(decide(done, at(105, 2)), 'root-not-created')
})

test('what grows old is published while the root can not be made', () => {
  const stale = withPayload(ordered(), { expiresAt: new Date(now + HOUR - 1).toISOString() })
  expectMove(decide(stale, now), 'refresh')
})

test('holds for an agent that does not have the new root, and names it', () => {
  const state = introducingState()
  const agents = agentsOf(state, { orders: { version: state.version - 1 } })
  const seen = { roots: [OLD, NEW], agents }
  const { waitingFor, effects } = expectWait(decide(state, now + MINUTE, seen), 'agents-do-not-know-root')
  assert.deepEqual(
    waitingFor.map(({ name }) => name),
    ['orders'],
  )
  assert.deepEqual(effects, [], 'no key is made under it')
})

test('when every agent has the root, the rotation goes on under it at once', () => {
  const state = introduced()
  assert.deepEqual([state.phase, state.order?.kind], ['steady', 'rotate'])
  const asked = expectWait(
    decide(state, at(104, 33), { held: epochsIn(state).map(held), roots: [OLD, NEW] }),
    'authority-not-created',
  )
  const [effect] = asked.effects
  assert.deepEqual(effect?.kind === 'create-authority' && [effect.epoch, effect.root], [105, NEW.sha256])
  const { to } = expectMove(decide(state, at(104, 33), keys([104, 105], [105])), 'prepare')
  assert.deepEqual(rootsOf(to), pem(NEW, OLD))
})

test('an authority that was made under the old root meanwhile is passed by', () => {
  const state = introduced()
  const asked = expectWait(decide(state, at(104, 33), keys([104, 105], [])), 'authority-not-created')
  const [effect] = asked.effects
  assert.deepEqual(effect?.kind === 'create-authority' && [effect.epoch, effect.root], [106, NEW.sha256])
})

test('while agents learn the new root the old one signs', () => {
  const lost = { roots: [OLD, NEW], held: [101, 102, 103].map(held) }
  const { to } = expectMove(decide(introducingState(), at(104, 32), lost), 'converge')
  const asked = expectWait(decide(to, at(104, 33), { ...lost, roots: [OLD] }), 'authority-not-created')
  const [effect] = asked.effects
  assert.equal(effect?.kind === 'create-authority' && effect.root, OLD.sha256)
})

test('the old root leaves when no authority of it is trusted any more, and then its key is deleted', () => {
  const held105 = keys([101, 102, 103, 104, 105, 106], [105])
  const policy = { retireAfter: 0 }
  let state = introduced()
  for (const move of ['prepare', 'activate', 'converge'] as const) {
    state = expectMove(decide(state, at(104, 35), held105), move).to
    assert.deepEqual(rootsOf(state), pem(NEW, OLD), move)
  }
  assert.equal(state.order, null)
  // an agent with a leaf of the old authority keeps it, and so its root
  const agents = agentsOf(state, { orders: { leaf: leaf(104) } })
  const still = expectMove(decide(state, at(104, 40), { ...held105, agents }, policy), 'retire')
  assert.deepEqual(epochsIn(still.to), [104, 105])
  assert.deepEqual(rootsOf(still.to), pem(NEW, OLD))
  expectWait(
    decide(
      still.to,
      at(104, 41),
      { ...held105, agents: agentsOf(still.to, { orders: { leaf: leaf(104) } }) },
      policy,
    ),
    'authority-still-needed',
  )

  const { to, effects, reason } = expectMove(decide(still.to, at(104, 42), held105, policy), 'retire')
  assert.deepEqual([epochsIn(to), rootsOf(to)], [[105], pem(NEW)])
  assert.ok(
    reason.endsWith(`; remove root ${OLD.sha256.slice(0, 8)}, under which no authority is left`),
    reason,
  )
  assert.deepEqual(effects.at(-1), { kind: 'delete-root', number: 1 })
})

test('no root leaves when it is not known which one signed an authority', () => {
  const state = introduced()
  const unknown = { ...keys([104, 105], [104, 105]), signedBy: {} }
  const decision = decide({ ...state, order: null }, at(104, 40), unknown)
  assert.equal(decision.kind, 'wait')
})

test('a new root whose key is lost before its first use is given up, and the old one signs on', () => {
  const agents = agentsOf(introducingState(), { orders: null })
  const { to, reason } = expectMove(
    decide(introducingState(), at(104, 31), { roots: [OLD], agents }),
    'converge',
  )
  assert.match(reason, /is given up before its first use: its key is lost/)
  assert.equal(to.order, null)
  const removed = expectMove(decide(to, at(104, 31), { roots: [OLD] }), 'retire').to
  assert.deepEqual(rootsOf(removed), pem(OLD))
  assert.equal(removed.newestRoot, 2, 'its number is never used again')
})

test('a key that was made for a root and never introduced is kept for the next order, a removed one is deleted', () => {
  const kept = expectWait(decide(steadyState(), now, { roots: [OLD, NEW] }), 'not-due')
  assert.deepEqual(kept.effects, [])
  const later = { ...steadyState(), newestRoot: 2 }
  const gone = expectWait(decide(later, now, { roots: [OLD, NEW] }), 'not-due')
  assert.deepEqual(gone.effects, [{ kind: 'delete-root', number: 2 }])
})

test('a rotation under way changes nothing of the roots', () => {
  const { to } = expectMove(decide(distributingState(), at(105)), 'activate')
  assert.deepEqual(rootsOf(to), pem(OLD))
})
