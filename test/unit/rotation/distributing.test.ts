import assert from 'node:assert/strict'
import { test } from 'node:test'
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
  hex,
  leaf,
  MINUTE,
  order,
  serversOf,
  since,
  statusesIn,
  withPayload,
} from '../../support/rotation-world.ts'

const missingOf = (state = distributingState(), change: Parameters<typeof agentsOf>[1] = {}) => {
  const agents = agentsOf(state, change)
  const decision = expectWait(decide(state, at(105), { agents }), 'agents-do-not-trust')
  return decision.waitingFor
    .filter((straggler) => straggler.kind === 'agent')
    .map(({ name, missing }) => `${name}: ${missing}`)
}

test('activates at the start of the epoch when every agent trusts and every listener is proven', () => {
  const state = distributingState()
  const early = expectWait(decide(state, at(104, 59)), 'epoch-not-started')
  assert.equal(early.until, at(105))
  const { to, reason } = expectMove(decide(state, at(105)), 'activate')
  assert.deepEqual(statusesIn(to), { 102: 'retiring', 103: 'retiring', 104: 'retiring', 105: 'active' })
  assert.equal(bundleIn(to).epoch, 105)
  assert.ok(to.phase === 'converging' && to.active === 105 && to.previous === 104)
  assert.deepEqual(to.replaced[104], { at: at(105), version: to.version })
  assert.equal(reason, 'activate epoch 105 after 104')
})

test('holds for one agent that reports an older version, and names it with its last error', () => {
  const state = distributingState()
  const lastError = {
    code: 'ERR_IDENTITY_WRITE',
    message: 'no space left',
    at: '1970-01-05T08:56:00.000Z',
    version: 10,
  } as const
  assert.deepEqual(missingOf(state, { orders: { version: state.version - 1, lastError } }), [
    `orders: reports version ${state.version - 1} of ${state.version}, last error ERR_IDENTITY_WRITE at version 10: no space left`,
  ])
})

test('holds for an agent that never reported', () => {
  assert.deepEqual(missingOf(undefined, { orders: null }), ['orders: never reported'])
})

test('holds for an agent that is applying or went back', () => {
  assert.deepEqual(missingOf(undefined, { orders: { state: 'applying', step: 'notify' } }), [
    'orders: is applying a bundle, step notify',
  ])
  const state = distributingState()
  assert.deepEqual(missingOf(state, { orders: { state: 'rolled-back' } }), [
    `orders: went back to version ${state.version}`,
  ])
})

test('holds for an agent that applied another bundle with our version', () => {
  const state = distributingState()
  const [found] = missingOf(state, { orders: { digest: hex('foreign') } })
  assert.equal(
    found,
    `orders: holds another bundle with version ${state.version}: ${hex('foreign')} instead of ${state.digest}`,
  )
})

test('holds for an agent that is ahead of us', () => {
  const state = distributingState()
  assert.deepEqual(missingOf(state, { orders: { version: 99 } }), [
    `orders: reports version 99, ours is ${state.version}`,
  ])
})

test('holds for an agent whose clock is off by more than the lead', () => {
  const state = distributingState()
  assert.deepEqual(missingOf(state, { orders: { clockOffsetMs: -400_000 } }), [
    'orders: ERR_CLOCK_SKEW: its clock is off by -6m40s, the lead is 5m',
  ])
  for (const [clockOffsetMs, clockBoundMs] of [
    [299_999, 0],
    // so uncertain that it may be closer
    [300_999, 1_000],
    [null, 0],
  ] as const) {
    const agents = agentsOf(state, { orders: { clockOffsetMs, clockBoundMs } })
    expectMove(decide(state, at(105), { agents }), 'activate')
  }
})

test('says when time alone would end the hold', () => {
  const state = since(distributingState(), 103)
  const agents = agentsOf(state, { orders: null })
  const decision = expectWait(decide(state, at(105), { agents }), 'agents-do-not-trust')
  assert.equal(decision.until, at(106, 30)) // 104 ends at 108:00, less 1.5 epochs
})

test('asks for handshakes with a leaf of the next authority before the epoch starts', () => {
  const state = distributingState()
  const servers = serversOf(state, at(104, 56), {
    listeners: [{ kind: 'client', address: '127.0.0.1:4222', proof: null }],
  })
  const decision = expectWait(decide(state, at(104, 56), { servers }), 'servers-not-proven')
  assert.deepEqual(decision.effects, [{ kind: 'probe-servers', epoch: 105, servers: ['n1'] }])
  assert.deepEqual(decision.waitingFor, [
    { name: 'n1', kind: 'server', missing: 'client listener 127.0.0.1:4222: no handshake was made' },
  ])
})

test('holds for a listener that refuses the next authority, whatever its agent says', () => {
  const state = distributingState()
  const proof = { at: at(105), accepts: [104], serves: 104, error: 'tls: unknown certificate authority' }
  const servers = serversOf(state, at(105), {
    listeners: [{ kind: 'leafnode', address: '[::1]:7422', proof }],
  })
  const decision = expectWait(decide(state, at(105), { servers }), 'servers-not-proven')
  assert.equal(
    decision.waitingFor[0]?.missing,
    'leafnode listener [::1]:7422: does not accept a leaf of epoch 105: tls: unknown certificate authority',
  )
})

test('a handshake from before the phase proves nothing', () => {
  const state = distributingState()
  const proof = { at: state.since - 1, accepts: [104, 105], serves: 104, error: null }
  const servers = serversOf(state, at(105), { listeners: [{ kind: 'client', address: 'n1:4222', proof }] })
  const decision = expectWait(decide(state, at(105), { servers }), 'servers-not-proven')
  assert.match(decision.waitingFor[0]?.missing ?? '', /the last handshake, .*, is older than this phase/)
})

test('a server without an agent or without a known listener is never proven', () => {
  const state = distributingState()
  const alone = expectWait(
    decide(state, at(105), { servers: serversOf(state, at(105), { agent: null }) }),
    'servers-not-proven',
  )
  assert.deepEqual(alone.waitingFor, [{ name: 'n1', kind: 'server', missing: 'no agent beside it' }])
  const silent = expectWait(
    decide(state, at(105), { servers: serversOf(state, at(105), { listeners: [] }) }),
    'servers-not-proven',
  )
  assert.match(silent.waitingFor[0]?.missing ?? '', /no TLS listener of it is known/)
})

test('dials no server whose own agent is not done, but the others', () => {
  const state = distributingState()
  const unproven = serversOf(state, at(105), {
    listeners: [{ kind: 'client', address: 'n1:4222', proof: null }],
  })
  const n1Late = agentsOf(state, { n1: { version: 1 } })
  const ordersLate = agentsOf(state, { orders: { version: 1 } })
  assert.deepEqual(decide(state, at(105), { servers: unproven, agents: n1Late }).effects, [])
  assert.deepEqual(decide(state, at(105), { servers: unproven, agents: ordersLate }).effects, [
    { kind: 'probe-servers', epoch: 105, servers: ['n1'] },
  ])
})

test('an ordered rotation does not wait for the start of the epoch, but for the evidence', () => {
  const state = { ...distributingState(), order: order(false, at(104, 55)) }
  expectMove(decide(state, at(104, 56)), 'activate')
  const agents = agentsOf(state, { orders: null })
  expectWait(decide(state, at(104, 56), { agents }), 'agents-do-not-trust')
})

test('goes on without stragglers when the signer has less than one and a half epochs left, and writes it down', () => {
  const state = since(distributingState(), 103)
  const agents = agentsOf(state, { orders: null })
  expectWait(decide(state, at(106, 30) - 1, { agents }), 'agents-do-not-trust')
  const { to, reason } = expectMove(decide(state, at(106, 30), { agents }), 'activate')
  assert.deepEqual(to.waivers, [
    { names: ['orders'], reason: 'epoch 104 signs and ends in 1h30m', at: at(106, 30) },
  ])
  assert.equal(
    reason,
    'activate epoch 105 after 104; went on without orders: epoch 104 signs and ends in 1h30m',
  )
})

test('the limit is a setting', () => {
  const state = since(distributingState(), 103)
  const agents = agentsOf(state, { orders: null })
  expectWait(decide(state, at(106, 50), { agents }, { goOnBelow: 0 }), 'agents-do-not-trust')
  expectMove(decide(state, at(105), { agents }, { goOnBelow: 4 * HOUR }), 'activate')
})

test('force passes over agents and servers, and its words are kept', () => {
  const state = { ...distributingState(), order: order(true, at(104, 55)) }
  const agents = agentsOf(state, { orders: null })
  const servers = serversOf(state, at(105), { agent: null })
  const { to } = expectMove(decide(state, at(105), { agents, servers }), 'activate')
  assert.deepEqual(to.waivers, [{ names: ['orders', 'n1'], reason: 'forced by alice: drill', at: at(105) }])
  assert.equal(to.order?.force, true)
})

test('force gives healthy nodes the patience of the phase first', () => {
  const state = { ...distributingState(), order: order(true, at(104, 55)) }
  const agents = agentsOf(state, { orders: null })
  const decision = expectWait(decide(state, at(104, 59), { agents }), 'agents-do-not-trust')
  assert.equal(decision.until, at(105))
  expectMove(decide(state, at(104, 59), { agents }, { patience: MINUTE }), 'activate')
})

test('an issuer that slept until the signer was nearly over still lets the agents follow first', () => {
  const state = since({ ...distributingState(), since: at(107, 30) }, 104)
  const agents = agentsOf(state, { orders: null })
  const keys = [104, 105].map(held)
  const decision = expectWait(decide(state, at(107, 31), { agents, held: keys }), 'agents-do-not-trust')
  assert.equal(decision.until, at(107, 35))
  expectMove(decide(state, at(107, 35), { agents, held: keys }), 'activate')
})

test('many names are counted in the reason and complete in the waiver', () => {
  const state = distributingState()
  const status = null
  const agents = Array.from({ length: 300 }, (_, i) => ({ name: `service-${i}`, status }))
  const { to } = expectMove(decide(state, at(106, 30), { agents }), 'activate')
  assert.equal(to.waivers[0]?.names.length, 300)
  assert.match(bundleIn(to).reason, /service-9 and 290 more: epoch 104/)
  assert.ok(bundleIn(to).reason.length <= 1000)
})

test('a refresh during a hold does not ask those again who already trust the next authority', () => {
  const state = distributingState()
  const old = withPayload(state, { expiresAt: '1970-01-05T09:59:00.000Z' })
  const lagging = agentsOf(old, { orders: { version: 1 } })
  const { to } = expectMove(decide(old, at(105), { agents: lagging }), 'refresh')
  assert.equal(to.phaseVersion, state.version)
  assert.equal(to.version, state.version + 1)
  assert.equal(bundleIn(to).previous, old.digest)
  expectMove(decide(to, at(105), { agents: agentsOf(old) }), 'activate')
})

test('withdraws the next authority when its key is lost, with its key and without the order', () => {
  const state = { ...distributingState(), order: order(true, at(104, 55)) }
  const keys = [102, 103, 104].map(held)
  const { to, reason, effects } = expectMove(decide(state, at(104, 57), { held: keys }), 'withdraw')
  assert.ok(to.phase === 'withdrawing' && to.dropped === 105 && to.active === 104)
  assert.deepEqual(epochsIn(to), [102, 103, 104])
  assert.equal(to.order, null)
  assert.equal(reason, 'withdraw epoch 105: its key is lost')
  assert.deepEqual(effects, [{ kind: 'publish-bundle', version: to.version }])
})

test('another key that was made for the same epoch is no key of the bundle', () => {
  const state = distributingState()
  const another = { ...held(105), sha256: hex('another key') }
  const keys = [...[102, 103, 104].map(held), another]
  const { reason } = expectMove(decide(state, at(104, 57), { held: keys }), 'withdraw')
  assert.equal(reason, 'withdraw epoch 105: its key is lost')
})

test('withdraws the next authority when its certificate ends before it was used', () => {
  const state = distributingState()
  const keys = [...[102, 103, 104].map(held), { ...held(105), notAfter: at(105, 10) }]
  const { to, reason, effects } = expectMove(decide(state, at(105, 5), { held: keys }), 'withdraw')
  assert.match(reason, /withdraw epoch 105: it was not used until 1970-01-05T09:10/)
  assert.deepEqual(effects, [
    { kind: 'publish-bundle', version: to.version },
    { kind: 'delete-authority', epoch: 105 },
  ])
})

test('takes the signer that ended out of the bundle that activates the next one', () => {
  const state = distributingState()
  const agents = agentsOf(state, { orders: { version: 1, leaf: leaf(104) } })
  const { to } = expectMove(decide(state, at(108), { agents }), 'activate')
  assert.deepEqual(statusesIn(to), { 105: 'active' })
  assert.deepEqual(to.replaced, {})
})

test('restarts when signer and next authority have both ended', () => {
  const state = distributingState()
  const keys = [104, 105, 110].map(held)
  const { to, effects } = expectMove(decide(state, at(110), { held: keys }), 'restart')
  assert.deepEqual(statusesIn(to), { 110: 'active' })
  assert.deepEqual(effects, [
    { kind: 'publish-bundle', version: to.version },
    { kind: 'delete-authority', epoch: 104 },
    { kind: 'delete-authority', epoch: 105 },
  ])
})

test('one rotation at a time: a newer epoch that starts during a hold changes nothing', () => {
  const state = distributingState()
  const agents = agentsOf(state, { orders: { version: 1, leaf: leaf(102) } })
  const decision = expectWait(decide(state, at(105, 57), { agents }), 'agents-do-not-trust')
  assert.deepEqual(decision.effects, [])
})
