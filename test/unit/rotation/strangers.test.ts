import assert from 'node:assert/strict'
import { test } from 'node:test'
import { placeAll } from '../../../src/rotation/census.ts'
import { keyOf, type StrangerPolicy, strangerSteps } from '../../../src/rotation/strangers.ts'
import type { Instant } from '../../../src/time.ts'
import { chainOf, client, knownIn, leafOf } from '../../support/live-connections.ts'
import { at, leaf, MINUTE, status, steadyState } from '../../support/rotation-world.ts'

/** 103 stopped signing at 104:00. */
const state = steadyState()
const policy: StrangerPolicy = { after: 10 * MINUTE, ldm: true, kick: { perSecond: 1 } }
const nobody: ReadonlyMap<string, Instant> = new Map()

const steps = (
  connections: Parameters<typeof placeAll>[0],
  now: Instant,
  { hinted = nobody, given = policy, known = knownIn(state) } = {},
): string[] =>
  strangerSteps(placeAll(connections, known), known, given, hinted, now).map(
    ({ kind, connection, epoch }) => `${kind} ${connection.name} ${epoch}`,
  )

test('a stranger gets a hint after a while, and is closed as long after that', () => {
  const one = client(at(103), { certificates: chainOf('billing', 103) })
  assert.deepEqual(steps([one], at(104, 9)), [])
  assert.deepEqual(steps([one], at(104, 10)), ['LDM billing 103'])
  const hinted = new Map([[keyOf(one), at(104, 10)]])
  assert.deepEqual(steps([one], at(104, 19), { hinted }), [])
  assert.deepEqual(steps([one], at(104, 20), { hinted }), ['KICK billing 103'])
})

test('without the hint a stranger is closed at once, and without kick never', () => {
  const one = client(at(103), { certificates: chainOf('billing', 103) })
  const { kick: _, ...hintOnly } = policy
  assert.deepEqual(steps([one], at(104, 10), { given: { ...policy, ldm: false } }), ['KICK billing 103'])
  const hinted = new Map([[keyOf(one), at(104, 10)]])
  assert.deepEqual(steps([one], at(110), { hinted, given: hintOnly }), [])
})

test('a client that dials again on the old leaf has the same time once more, and who waits longest comes first', () => {
  const again = client(at(104, 15), { name: 'again', certificates: chainOf('again', 103) })
  const oldest = client(at(102), { name: 'oldest', certificates: chainOf('oldest', 102) })
  const old = client(at(103), { name: 'old', certificates: chainOf('old', 103) })
  assert.deepEqual(steps([again, old, oldest], at(104, 24)), ['LDM oldest 102', 'LDM old 103'])
  assert.deepEqual(steps([again, old, oldest], at(104, 25)), [
    'LDM oldest 102',
    'LDM old 103',
    'LDM again 103',
  ])
})

test('nobody is asked to move who may be right where it is, or who would come back on the same leaf', () => {
  const late = at(105, 30)
  const user = 'spiffe://prod/orders'
  const certificates = chainOf('orders', 103)
  // on the signing authority, or perhaps; of a server; of another CA
  const rightful = [
    client(at(104, 20), { certificates: chainOf('billing', 104) }),
    client(at(104, 20), { certificates: [leafOf('billing', 0)] }),
    client(at(103), { kind: 'leafnode', name: 'far' }),
    client(at(99), { certificates: chainOf('billing', 99) }),
  ]
  assert.deepEqual(steps(rightful, late), [])
  const of = (change: Parameters<typeof status>[1]) =>
    knownIn(state, new Map(), { [user]: status(state, { agent: 'orders', ...change }) })
  const one = client(at(103), { name: 'orders', user, certificates })
  assert.deepEqual(steps([one], late, { known: of({ leaf: leaf(103) }) }), [])
  assert.deepEqual(steps([one], late, { known: of({ state: 'rolled-back' }) }), [])
  assert.deepEqual(steps([one], late, { known: of({}) }), ['LDM orders 103'])
})
