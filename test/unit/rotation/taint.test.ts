import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ObservedConnections, OwnLeaf, RotationState } from '../../../src/rotation/state.ts'
import { formatInstant } from '../../../src/time.ts'
import type { AgentStatus } from '../../../src/wire/status.ts'
import { chainOf, client, countedAt } from '../../support/live-connections.ts'
import {
  agentsOf,
  at,
  bundleIn,
  convergingState,
  decide,
  distributingState,
  epochsIn,
  expectMove,
  expectWait,
  HOUR,
  held,
  leaf,
  MINUTE,
  refusing,
  serversOf,
  since,
  statusesIn,
  steadyState,
  tainted,
} from '../../support/rotation-world.ts'

const now = at(104, 30)
const stolen = <S extends RotationState>(state: S, epoch = 104): S => tainted(state, epoch, now)

test('the signer is tainted: a new authority at once, and it signs as soon as everybody trusts it', () => {
  const state = stolen(steadyState())
  const keys = epochsIn(state).map(held)
  const wait = expectWait(decide(state, now, { held: keys }), 'authority-not-created')
  assert.equal(wait.effects[0]?.kind, 'create-authority')
  const prepared = expectMove(decide(state, now), 'prepare')
  assert.match(prepared.reason, /epoch 104, which signs, is tainted by alice: stolen/)
  const { to } = expectMove(decide(prepared.to, now + 1000), 'activate')
  assert.deepEqual([statusesIn(to)[104], to.active], ['tainted', 105])
  assert.equal(bundleIn(to).epoch, 105)
})

test('a node that does not follow is passed over after the patience of a taint, in each phase', () => {
  let state: RotationState = expectMove(decide(stolen(steadyState()), now), 'prepare').to
  const late = { orders: { version: 1, leaf: leaf(104) } }
  const look = (time: number) => decide(state, time, { agents: agentsOf(state, late) })
  assert.equal(expectWait(look(now), 'agents-do-not-trust').until, now + MINUTE)
  state = expectMove(look(now + MINUTE), 'activate').to
  assert.match(bundleIn(state).reason, /went on without orders: epoch 104 is tainted/)
  assert.equal(expectWait(look(now + MINUTE), 'agents-not-reissued').until, now + 2 * MINUTE)
  state = expectMove(look(now + 2 * MINUTE), 'converge').to
  const { to, reason } = expectMove(look(now + 2 * MINUTE), 'retire')
  assert.match(reason, /remove epoch 104, tainted by alice: stolen; cut off with it: orders/)
  assert.ok(!epochsIn(to).includes(104))
  assert.deepEqual(to.tainted[104]?.removed, {
    at: now + 2 * MINUTE,
    version: to.version,
    cutOff: ['orders'],
  })
})

test('the issuer that decides is not cut off, and nobody else keeps the authority by what it reports', () => {
  const before = stolen(steadyState(), 103)
  const agents = agentsOf(before, { orders: { leaf: leaf(103) } })
  const state = expectMove(decide(before, now, { agents }), 'taint').to
  const late = now + 2 * MINUTE
  // with the stolen key anybody can report as any node
  const forged = { role: 'issuer', at: formatInstant(late + HOUR), leaf: leaf(103) } as const
  const look = (own: OwnLeaf) => decide(state, late, { agents: agentsOf(state, { orders: forged }), own })
  const own = { name: 'issuer', epoch: 103, notAfter: late + MINUTE }
  const { waitingFor, until } = expectWait(look(own), 'authority-still-needed')
  assert.deepEqual(waitingFor[0], {
    name: 'issuer',
    kind: 'agent',
    missing: 'this issuer holds a leaf of epoch 103',
  })
  assert.equal(until, own.notAfter)
  for (const change of [{ epoch: 104 }, { epoch: null }, { notAfter: late }]) {
    const { to } = expectMove(look({ ...own, ...change }), 'retire')
    assert.deepEqual(to.tainted[103]?.removed?.cutOff, ['orders'])
  }
})

test('the patience of a taint is a setting, and never longer than that of a phase', () => {
  const state = expectMove(decide(stolen(steadyState()), now), 'prepare').to
  const agents = agentsOf(state, { orders: { version: 1 } })
  const until = (policy: object) =>
    expectWait(decide(state, now, { agents }, policy), 'agents-do-not-trust').until
  assert.equal(until({ taintPatience: 10_000 }), now + 10_000)
  assert.equal(until({ patience: 5_000 }), now + 5_000)
})

test('an authority that no longer signs is marked, and leaves when nobody depends on it', () => {
  const state = stolen(steadyState(), 103)
  const agents = agentsOf(state, { orders: { leaf: leaf(103) } })
  const first = expectMove(decide(state, now, { agents }), 'taint')
  assert.equal(statusesIn(first.to)[103], 'tainted')
  assert.match(first.reason, /taint epoch 103: ordered by alice: stolen/)
  const wait = expectWait(
    decide(first.to, now, { agents: agentsOf(first.to, { orders: { leaf: leaf(103) } }) }),
    'authority-still-needed',
  )
  assert.equal(wait.until, now + MINUTE)
  const { to } = expectMove(decide(first.to, now + 1000), 'retire')
  assert.deepEqual(to.tainted[103]?.removed?.cutOff, [])
})

test('one that nobody depends on leaves with the bundle that would mark it', () => {
  const { to } = expectMove(decide(stolen(steadyState(), 103), now), 'taint')
  assert.ok(!epochsIn(to).includes(103))
  assert.equal(to.tainted[103]?.removed?.version, to.version)
})

test('the next authority is withdrawn when it is tainted, and its end is proven, too', () => {
  const state = tainted(distributingState(), 105, at(104, 56))
  const { to, reason, effects } = expectMove(decide(state, at(104, 56)), 'withdraw')
  assert.match(reason, /withdraw epoch 105: it is tainted by alice: stolen/)
  assert.equal(to.tainted[105]?.removed?.version, to.version)
  assert.ok(!effects.some((effect) => effect.kind === 'delete-authority' && effect.epoch === 105))
})

test('tainted in the middle of a rotation: the phase ends at once, and another authority follows', () => {
  const state = tainted(convergingState(), 105, at(105, 1))
  const agents = agentsOf(state, { orders: { leaf: leaf(104) } })
  const steady = expectMove(decide(state, at(105, 1), { agents }), 'converge').to
  assert.match(expectMove(decide(steady, at(105, 1)), 'prepare').reason, /prepare epoch 106: epoch 105/)
})

/** 103 was tainted and has left trust with the newest version. */
function removed(): RotationState {
  const { to } = expectMove(decide(stolen(steadyState(), 103), now), 'taint')
  return to
}
const keysOf = (state: RotationState, ...more: number[]) => [...epochsIn(state), ...more].map(held)

test('its end is proven by handshakes with a leaf of it: every listener has to refuse it', () => {
  const state = removed()
  const seen = { held: keysOf(state, 103) }
  const wait = expectWait(decide(state, now + 1000, seen), 'tainted-still-trusted')
  assert.deepEqual(wait.effects, [{ kind: 'prove-distrust', epoch: 103, servers: ['n1', 'n2'] }])
  assert.match(wait.waitingFor[0]?.missing ?? '', /was not seen to refuse a leaf of epoch 103/)

  const early = refusing(state, 103, { since: now - 1000, at: now - 1 })
  expectWait(decide(state, now + 1000, { ...seen, servers: early }), 'tainted-still-trusted')
  const [one] = refusing(state, 103, { since: now, at: now + 1000 })
  assert.ok(one)
  const half = [one, ...serversOf(state, now).slice(1)]
  const left = expectWait(decide(state, now + 1000, { ...seen, servers: half }), 'tainted-still-trusted')
  assert.deepEqual(left.effects, [{ kind: 'prove-distrust', epoch: 103, servers: ['n2'] }])

  const servers = refusing(state, 103, { since: now, at: now + 1000 })
  const { to, effects, reason } = expectMove(decide(state, now + 1000, { ...seen, servers }), 'distrust')
  assert.deepEqual(to, { ...state, tainted: {}, pending: to.pending })
  assert.deepEqual(effects, [{ kind: 'delete-authority', epoch: 103 }])
  assert.match(reason, /nobody trusts epoch 103 any more/)
})

test('what is connected with it is ended when no server takes it any more, and the proof waits until nobody is left', () => {
  const state = removed()
  const at = now + 1000
  const servers = refusing(state, 103, { since: at, at: at + 100 })
  const look = (connections: ObservedConnections, more = {}) =>
    decide(state, at + 500, { held: keysOf(state, 103), servers, connections, ...more })
  const kick = { kind: 'kick-connections', epoch: 103 }

  // a count from before the last server refused it says nothing
  const early = expectWait(look(countedAt(state, at - 1)), 'tainted-still-trusted')
  assert.deepEqual(early.effects, [kick])
  assert.match(early.waitingFor[0]?.missing ?? '', /the connections were last counted at/)

  const thief = client(now - MINUTE, { certificates: chainOf('thief', 103), name: 'thief' })
  const left = expectWait(look(countedAt(state, at + 200, [thief])), 'tainted-still-trusted')
  assert.deepEqual(left.effects, [kick])
  assert.match(left.waitingFor[0]?.missing ?? '', /stands on a leaf of epoch 103/)

  // before that it would only come back
  const open = look(countedAt(state, at + 200, [thief]), { servers: serversOf(state, now) })
  assert.deepEqual(expectWait(open, 'tainted-still-trusted').effects, [
    { kind: 'prove-distrust', epoch: 103, servers: ['n1', 'n2'] },
  ])
  expectMove(look(countedAt(state, at + 200)), 'distrust')
})

test('its key is kept until then, and a lost one leaves what the agents say as the proof', () => {
  const state = removed()
  const wait = expectWait(decide(state, now + 1000, { held: keysOf(state, 103) }), 'tainted-still-trusted')
  assert.ok(!wait.effects.some((effect) => effect.kind === 'delete-authority'))
  expectMove(decide(state, now + 1000, { held: keysOf(state) }), 'distrust')
})

test('a node that has not applied the removal, or has sockets on it, keeps the proof open', () => {
  const state = removed()
  const servers = refusing(state, 103, { since: now, at: now + 1000 })
  const socket = {
    type: 'connection',
    name: 'orders',
    leaf: 'a'.repeat(64),
    issuerEpoch: 103,
    sockets: 1,
    since: '1970-01-01T00:00:00.000Z',
  }
  for (const [change, words] of [
    [{ version: state.version - 1 }, /reports version \d+ of \d+/],
    [{ usage: [{ ...socket }] }, /still has sockets on a leaf of epoch 103/],
  ] satisfies [Partial<AgentStatus>, RegExp][]) {
    const agents = agentsOf(state, { orders: change })
    const seen = { agents, servers, held: keysOf(state, 103) }
    const wait = expectWait(decide(state, now + 1000, seen), 'tainted-still-trusted')
    assert.match(wait.waitingFor[0]?.missing ?? '', words)
  }
})

test('the proof keeps no rotation waiting, and is over when the authority ends', () => {
  const state = removed()
  expectMove(decide(state, at(104, 55)), 'prepare')
  // nothing else is due, and nobody was seen to refuse it
  const rest = { ...since(state, 104), newest: 200 }
  const look = (time: number) => decide(rest, time, { held: keysOf(rest, 103) }, { goOnBelow: 0 })
  assert.equal(expectWait(look(at(106, 59)), 'tainted-still-trusted').until, at(107))
  assert.match(expectMove(look(at(107)), 'distrust').reason, /tainted epoch 103 has ended/)
})

test('a paused rotation does not hold up a taint', () => {
  const paused = { by: 'alice', reason: 'a freeze', at: now }
  const state = { ...stolen(steadyState()), paused }
  const next = expectMove(decide(state, now), 'prepare').to
  expectMove(decide(next, now + 1000), 'activate')
  const old = { ...stolen(steadyState(), 103), paused }
  expectMove(decide(old, now), 'taint')
})
