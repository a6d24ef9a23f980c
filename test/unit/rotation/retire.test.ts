import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodePayload } from '../../../src/bundle/payload.ts'
import { MAX_AUTHORITIES } from '../../../src/rotation/payloads.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import { chainOf, client, countedAt } from '../../support/live-connections.ts'
import {
  agentsOf,
  at,
  bundleIn,
  decide,
  epochsIn,
  expectMove,
  expectWait,
  HOUR,
  held,
  leaf,
  order,
  serversOf,
  statusesIn,
  steadyState,
  withPayload,
} from '../../support/rotation-world.ts'

/** In epoch 104; 103 stopped signing at 104:00 with version 9. */
const soon = { retireAfter: 10 * 60_000 }

test('retires at the time the policy gives, once nobody depends on the authority', () => {
  const state = steadyState()
  const lasting = { retireAfter: 1.5 * HOUR }
  expectMove(decide(state, at(104, 30), {}, lasting), 'retire')
  const { to, reason, effects } = expectMove(decide(state, at(104, 30), {}, soon), 'retire')
  assert.deepEqual(epochsIn(to), [104])
  assert.equal(to.phase, 'steady')
  assert.equal(to.since, state.since)
  assert.deepEqual(to.replaced, {})
  assert.match(reason, /^retire epoch 101, on which nobody depends; retire epoch 102, .*; retire epoch 103, /)
  assert.deepEqual(
    effects.map((effect) => (effect.kind === 'delete-authority' ? effect.epoch : effect.kind)),
    ['publish-bundle', 101, 102, 103],
  )
})

test('says when the next authority is due to retire', () => {
  const decision = expectWait(
    decide(steadyState(), at(104, 5), {}, { retireAfter: 3 * HOUR + 10 * 60_000 }),
    'not-due',
  )
  assert.equal(decision.until, at(104, 55))
  // 103 stopped signing at 104:00; 101 and 102 have left already
  const later = decide(steadyState(), at(104, 5), {}, soon)
  const { to } = expectMove(later, 'retire')
  assert.deepEqual(epochsIn(to), [103, 104])
  assert.equal(expectWait(decide(to, at(104, 6), {}, soon), 'not-due').until, at(104, 10))
})

test('an agent with a leaf of the authority keeps it in trust and is named', () => {
  const state = steadyState()
  const agents = agentsOf(state, { orders: { leaf: leaf(103, at(105, 30)) } })
  const { to } = expectMove(decide(state, at(104, 30), { agents }, soon), 'retire')
  assert.deepEqual(epochsIn(to), [103, 104])
  const held = agentsOf(to, { orders: { leaf: leaf(103, at(105, 30)) } })
  const decision = expectWait(decide(to, at(104, 30), { agents: held }, soon), 'authority-still-needed')
  assert.deepEqual(decision.waitingFor, [
    { name: 'orders', kind: 'agent', missing: 'holds a leaf of epoch 103 until 1970-01-05T09:30:00.000Z' },
  ])
})

test('a leaf that has ended keeps nothing in trust', () => {
  const state = steadyState()
  const agents = agentsOf(state, { orders: { leaf: leaf(103, at(104, 30)) } })
  const { to } = expectMove(decide(state, at(104, 30), { agents }, soon), 'retire')
  assert.deepEqual(epochsIn(to), [104])
})

test('an agent that has not reported since the authority was replaced may hold a leaf nobody knows of', () => {
  const state = steadyState()
  const behind = { orders: { version: 8, leaf: leaf(102, at(104, 1)) } }
  const { to } = expectMove(decide(state, at(104, 30), { agents: agentsOf(state, behind) }, soon), 'retire')
  assert.deepEqual(epochsIn(to), [103, 104])
  const decision = decide(to, at(104, 30), { agents: agentsOf(to, behind) }, soon)
  assert.equal(
    expectWait(decision, 'authority-still-needed').waitingFor[0]?.missing,
    'may hold a leaf of epoch 103: reports version 8 only',
  )
})

test('silence keeps an authority for the life of a leaf and the lead, not for ever', () => {
  const { to: state } = expectMove(
    decide(steadyState(), at(104, 30), { agents: agentsOf(steadyState(), { orders: null }) }, soon),
    'retire',
  )
  // 101 stopped signing at 102:00: its last leaf ended at 104:00; 102 stopped at 103:00, 103 at 104:00
  assert.deepEqual(epochsIn(state), [102, 103, 104])
  const agents = agentsOf(state, { orders: null })
  const ahead: RotationState = { ...state, newest: 200 } // no rotation comes between
  expectWait(
    decide(ahead, at(105, 4), { agents, held: [102, 103, 104].map(held) }, soon),
    'authority-still-needed',
  )
  const { to } = expectMove(
    decide(ahead, at(105, 5), { agents, held: [102, 103, 104].map(held) }, soon),
    'retire',
  )
  assert.deepEqual(epochsIn(to), [103, 104])
})

const usage = (type: string, name: string, issuerEpoch: number | null, sockets: number) => ({
  type,
  name,
  leaf: leaf(issuerEpoch ?? 0).fingerprint,
  issuerEpoch,
  sockets,
  since: '1970-01-05T06:00:00.000Z',
})

test('open sockets that stand on a leaf of the authority keep it in trust, counted and named', () => {
  const state = steadyState()
  const standing = [usage('connection', 'orders', 103, 3), usage('server', 'api', 103, 1)]
  const seen = (of: RotationState) => agentsOf(of, { orders: { usage: standing } })
  const { to } = expectMove(decide(state, at(104, 30), { agents: seen(state) }, soon), 'retire')
  assert.deepEqual(epochsIn(to), [103, 104])
  const decision = expectWait(decide(to, at(104, 30), { agents: seen(to) }, soon), 'authority-still-needed')
  assert.deepEqual(decision.waitingFor, [
    {
      name: 'orders',
      kind: 'agent',
      missing: '3 connections of orders, 1 socket accepted by api still stand on a leaf of epoch 103',
    },
  ])
  expectMove(decide(to, at(104, 31), { agents: agentsOf(to) }, soon), 'retire')
})

test('open sockets on a leaf that their agent does not know may stand on any authority', () => {
  const state = steadyState()
  const agents = agentsOf(state, { orders: { usage: [usage('client', 'billing', null, 1)] } })
  const decision = expectWait(decide(state, at(104, 30), { agents }, soon), 'authority-still-needed')
  assert.deepEqual(
    decision.waitingFor.map(({ missing }) => missing),
    [101, 102, 103].map(
      (epoch) => `1 socket of client billing still stands on a leaf that may be of epoch ${epoch}`,
    ),
  )
})

test('open sockets hold an authority until it has ended, and no rotation', () => {
  const state = steadyState()
  const agents = agentsOf(state, { orders: { usage: [usage('connection', 'orders', 101, 1)] } })
  const keys = [101, 102, 103, 104, 105].map(held)
  expectMove(decide(state, at(104, 58), { agents, held: keys }), 'prepare')
  const ahead = { ...state, newest: 200 } // no rotation comes between
  expectWait(decide(ahead, at(104, 59), { agents, held: keys }), 'authority-still-needed')
  const { to } = expectMove(decide(ahead, at(105), { agents, held: keys }), 'retire')
  assert.deepEqual(epochsIn(to), [102, 103, 104])
})

test('a listener that serves a leaf of the authority, or a server without an agent, keeps it in trust', () => {
  const state = steadyState()
  const proof = { at: at(104, 20), accepts: [104], serves: 103, error: null }
  const serving = serversOf(state, at(104, 30), {
    listeners: [{ kind: 'gateway', address: 'n1:7222', proof }],
  })
  const { to } = expectMove(decide(state, at(104, 30), { servers: serving }, soon), 'retire')
  assert.deepEqual(epochsIn(to), [103, 104])
  assert.equal(
    expectWait(decide(to, at(104, 30), { servers: serving }, soon), 'authority-still-needed').waitingFor[0]
      ?.missing,
    'gateway listener serves a leaf of epoch 103',
  )
  const alone = serversOf(state, at(104, 30), { agent: null })
  const decision = expectWait(decide(state, at(104, 30), { servers: alone }, soon), 'authority-still-needed')
  assert.match(decision.waitingFor[0]?.missing ?? '', /may serve a leaf of epoch 101: no agent beside it/)
})

const standingOn = (epoch: number) =>
  client(at(epoch), { name: 'old tool', certificates: chainOf('tool', epoch) })

test('a live connection on a leaf of the authority keeps it in trust and is named', () => {
  const state = steadyState()
  const now = at(104, 30)
  const one = standingOn(103)
  const connections = countedAt(state, now, [one, standingOn(104)])
  const { to } = expectMove(decide(state, now, { connections }, soon), 'retire')
  assert.deepEqual(epochsIn(to), [103, 104])
  const decision = expectWait(decide(to, now, { connections }, soon), 'authority-still-needed')
  assert.deepEqual(decision.waitingFor, [
    {
      name: 'old tool',
      kind: 'connection',
      missing:
        `cid ${one.cid} of n1 stands on a leaf of epoch 103 ` +
        '(client, spiffe://prod/billing, 127.0.0.1:50000, since 1970-01-05T07:00:00.000Z)',
    },
  ])
  const seven = countedAt(
    to,
    now,
    Array.from({ length: 7 }, () => standingOn(103)),
  )
  const { waitingFor } = expectWait(decide(to, now, { connections: seven }, soon), 'authority-still-needed')
  assert.equal(waitingFor.length, 6)
  assert.equal(waitingFor.at(-1)?.missing, '2 more stand on a leaf of epoch 103, or may')
  expectMove(decide(to, now, { connections: countedAt(to, now) }, soon), 'retire')
})

test('a count from before the authority was replaced, or from long ago, is no count: the authority waits for one', () => {
  const state = withPayload(steadyState(), {
    authorities: bundleIn(steadyState()).authorities.filter(({ epoch }) => epoch >= 103),
  })
  for (const [taken, words] of [
    [0, 'the connections were not counted yet'],
    [at(104) - 1, 'the connections were last counted at 1970-01-05T07:59:59.999Z'],
    [at(104, 28), 'the connections were last counted at 1970-01-05T08:28:00.000Z'],
  ] as const) {
    const connections = countedAt(state, taken)
    const decision = decide(state, at(104, 30), { connections }, soon)
    assert.deepEqual(expectWait(decision, 'authority-still-needed').waitingFor, [
      { name: 'census', kind: 'connection', missing: words },
    ])
  }
  expectMove(decide(state, at(104, 30), { connections: countedAt(state, at(104, 29)) }, soon), 'retire')
})

test('when not all connections can be counted the policy decides, and the bundle says so', () => {
  const state = steadyState()
  const now = at(104, 30)
  const connections = countedAt(state, now, [], 'n2: no answer')
  const { reason } = expectMove(decide(state, now, { connections }, soon), 'retire')
  assert.match(reason, /nobody depends \(not all connections were counted: n2: no answer\)/)
  const strict = { ...soon, census: 'required' } as const
  for (const seen of [connections, undefined]) {
    const decision = decide(state, now, seen === undefined ? {} : { connections: seen }, strict)
    assert.deepEqual(expectWait(decision, 'authority-still-needed').waitingFor[0], {
      name: 'census',
      kind: 'connection',
      missing: seen === undefined ? 'nobody counts them' : 'n2: no answer',
    })
  }
  // what was found holds in any case
  const found = countedAt(state, now, [standingOn(103)], 'n2: no answer')
  assert.deepEqual(
    epochsIn(expectMove(decide(state, now, { connections: found }, soon), 'retire').to),
    [103, 104],
  )
})

test('an authority that has ended goes in any case', () => {
  const state = steadyState()
  const agents = agentsOf(state, { orders: { version: 1, leaf: leaf(101) } })
  const keys = epochsIn(state).map(held)
  expectWait(decide({ ...state, newest: 200 }, at(104, 59), { agents, held: keys }), 'authority-still-needed')
  const { to, reason } = expectMove(
    decide({ ...state, newest: 200 }, at(105), { agents, held: keys }),
    'retire',
  )
  assert.deepEqual(epochsIn(to), [102, 103, 104])
  assert.equal(reason, 'retire epoch 101, which ended at 1970-01-05T09:00:00.000Z')
})

test('the end of the certificate counts when it is sooner than the end of the window', () => {
  const state = steadyState()
  const keys = epochsIn(state).map((epoch) =>
    epoch === 103 ? { ...held(103), notAfter: at(104, 20) } : held(epoch),
  )
  const agents = agentsOf(state, { orders: { leaf: leaf(103) } })
  const { to } = expectMove(decide(state, at(104, 20), { agents, held: keys }), 'retire')
  assert.deepEqual(epochsIn(to), [101, 102, 104])
})

/** A bundle as full as its schema allows: 64 authorities, of which the newest signs. */
function full(): RotationState {
  const state = steadyState()
  const authorities = Array.from({ length: MAX_AUTHORITIES }, (_, i) => {
    const epoch = 104 - (MAX_AUTHORITIES - 1) + i
    const { certificate, sha256 } = held(epoch)
    return { epoch, status: epoch === 104 ? ('active' as const) : ('retiring' as const), certificate, sha256 }
  })
  const schedule = { ...bundleIn(state).schedule, validity: 100 * HOUR }
  const replaced = Object.fromEntries(
    authorities.slice(0, -1).map((a) => [a.epoch, { at: at(a.epoch + 1), version: 1 }]),
  )
  return {
    ...withPayload(state, { authorities, schedule, expiresAt: '1970-01-09T00:00:00.000Z' }),
    replaced,
    order: order(false, at(104, 30)),
  }
}

test('a full bundle makes room for the next authority with the oldest one, or holds for who needs it', () => {
  const state = full()
  const keys = [...epochsIn(state), 105].map((epoch) => ({ ...held(epoch), notAfter: at(epoch + 100) }))
  const oldest = epochsIn(state)[0] ?? 0
  const { to } = expectMove(decide(state, at(104, 30), { held: keys }), 'prepare')
  assert.equal(epochsIn(to).length, MAX_AUTHORITIES)
  assert.ok(!epochsIn(to).includes(oldest))
  assert.equal(statusesIn(to)[105], 'prepared')
  const agents = agentsOf(state, { orders: { leaf: leaf(oldest, at(110)) } })
  const decision = expectWait(decide(state, at(104, 30), { held: keys, agents }), 'authority-still-needed')
  assert.equal(decision.waitingFor[0]?.name, 'orders')
})

test('the limit of authorities is the one of the bundle schema', () => {
  const bundle = bundleIn(full())
  assert.equal(bundle.authorities.length, MAX_AUTHORITIES)
  assert.doesNotThrow(() => encodePayload(bundle))
  const authorities = [...bundle.authorities, { ...held(105), status: 'prepared' as const }]
  assert.throws(() => encodePayload({ ...bundle, authorities }), { code: 'ERR_BUNDLE_MALFORMED' })
})
