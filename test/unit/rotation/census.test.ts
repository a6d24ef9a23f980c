import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { LiveConnection } from '../../../src/rotation/census.ts'
import { isForeign, observed, type Placed, placeAll } from '../../../src/rotation/census.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import { epochEnd, leafLifetime } from '../../../src/schedule.ts'
import type { Instant } from '../../../src/time.ts'
import { chainOf, client, knownIn, leafOf } from '../../support/live-connections.ts'
import {
  at,
  convergingState,
  distributingState,
  epochsIn,
  held,
  hex,
  MINUTE,
  SCHEDULE,
  status,
  steadyState,
  tainted,
  withdrawingState,
} from '../../support/rotation-world.ts'

/** 101 to 104 are trusted and signed one after the other, each from the start of its epoch; it is 104:30. */
const state = steadyState()
const place = (connection: LiveConnection, known = knownIn(state)): Pick<Placed, 'epochs' | 'by'> => {
  const [{ epochs, by } = { epochs: [], by: 'plain' as const }] = placeAll([connection], known)
  return { epochs, by }
}

test('a connection stands on the authority that issued its leaf, as an agent told it', () => {
  const known = knownIn(state, new Map([[leafOf('billing', 102), 102]]))
  assert.deepEqual(place(client(at(104), { certificates: [leafOf('billing', 102)] }), known), {
    epochs: [102],
    by: 'leaf',
  })
})

test('a connection that shows the certificate of an authority stands on it; what an agent told goes before', () => {
  const shown = client(at(104), { certificates: chainOf('billing', 103) })
  assert.deepEqual(place(shown), { epochs: [103], by: 'chain' })
  const known = knownIn(state, new Map([[leafOf('billing', 103), 102]]))
  assert.deepEqual(place(shown, known), { epochs: [102], by: 'leaf' })
  // a whole trust file after the leaf tells nothing
  const all = [leafOf('billing', 104), ...[104, 103, 102].map((epoch) => held(epoch).sha256)]
  assert.deepEqual(place(client(at(104, 20), { certificates: all })).by, 'start')
})

test('a certificate that tells nothing may be of each authority of which a leaf was in use when the connection began', () => {
  const alone = (start: Instant | null) =>
    place(client(at(0), { start, certificates: [leafOf('billing', 0)] }))
  assert.deepEqual(alone(at(102, 30)), { epochs: [101, 102], by: 'start' })
  // a leaf of 101 lives two epochs; it stopped signing at 102:00
  assert.deepEqual(alone(at(104, 20)), { epochs: [102, 103, 104], by: 'start' })
  assert.deepEqual(alone(null), { epochs: [101, 102, 103, 104], by: 'start' })
  // a peer that sends the root says nothing of the authority
  const root = hex('never mind')
  assert.deepEqual(place(client(at(104), { certificates: [leafOf('x', 0), root] })).by, 'chain')
})

test('a certificate of another CA, or of an authority that left trust, is foreign and holds nothing', () => {
  const known = knownIn(state, new Map([[leafOf('old', 99), 99]]))
  const foreign = [
    client(at(104), { certificates: [leafOf('x', 0), hex('another CA')] }),
    client(at(99), { certificates: chainOf('x', 100) }),
    client(at(99), { certificates: [leafOf('old', 99)] }),
  ]
  const placed = placeAll(foreign, known)
  assert.ok(placed.every(isForeign))
  const seen = observed({ at: at(104, 30), problem: null }, placed)
  assert.deepEqual([seen.standing, seen.foreign.count], [[], 3])
})

test('a client without a certificate stands on what the servers served when it began, unless its agent moved on', () => {
  const user = 'spiffe://prod/orders'
  assert.deepEqual(place(client(at(104, 29))).epochs, [104])
  assert.deepEqual(place(client(at(103, 30))).epochs, [101, 102, 103])
  // in the next rotation the moment from which everybody served 104 is forgotten
  const next = distributingState()
  assert.deepEqual(place(client(at(104, 29)), knownIn(next)).epochs, [102, 103, 104])
  const moved = knownIn(state, new Map(), { [user]: status(state, { agent: 'orders' }) })
  assert.deepEqual(place(client(at(103, 30), { user }), moved), { epochs: [], by: 'agent' })
  const before = state.replaced[103]?.version ?? 0
  const behind = { [user]: status(state, { agent: 'orders', version: before - 1 }) }
  assert.deepEqual(place(client(at(103, 30), { user }), knownIn(state, new Map(), behind)).epochs, [103])
})

test('a tainted authority that left trust is counted for what may have been made with it, until those were ended', () => {
  const after = tainted(state, 90, at(104, 1), {
    removed: { at: at(104, 2), version: 9, cutOff: [] },
  })
  const unknown = client(at(104, 3), { certificates: [leafOf('thief', 90)] })
  const placed = (connection: LiveConnection, cleared?: Instant) => {
    const known = knownIn(after, new Map([[leafOf('orders', 90), 90]]))
    const ends = new Map(cleared === undefined ? [] : [[90, cleared]])
    return placeAll([connection], { ...known, cleared: ends })[0]
  }
  assert.deepEqual(placed(client(at(104), { certificates: chainOf('thief', 90) }))?.epochs, [90])
  assert.deepEqual(placed(client(at(104), { certificates: [leafOf('orders', 90)] }))?.epochs, [90])
  assert.ok(placed(unknown)?.epochs.includes(90))
  const lie = client(at(104), { certificates: [leafOf('thief', 90), held(104).sha256] })
  assert.deepEqual(placed(lie)?.epochs, [90, 104])
  assert.deepEqual(placed(lie, at(104) - 1)?.epochs, [104])
  assert.ok(placed(unknown, at(104, 3))?.epochs.includes(90))
  assert.ok(!placed(unknown, at(104, 3) - 1)?.epochs.includes(90))
  // the clock of its server is a minute ahead
  assert.ok(placed({ ...unknown, offset: -MINUTE }, at(104, 2))?.epochs.includes(90))
  // it has shown nothing that could have been stolen
  assert.ok(!placed(client(at(104, 1)))?.epochs.includes(90))
})

test('a connection without TLS stands on nothing', () => {
  assert.deepEqual(place(client(at(101), { tls: false })), { epochs: [], by: 'plain' })
})

test('connections of servers with an agent hold nothing; one of a server nobody knows may stand on all it could', () => {
  for (const kind of ['route', 'gateway', 'leafnode'] as const) {
    assert.deepEqual(place(client(at(101), { kind, name: 'n2' })), { epochs: [], by: 'agent' })
    assert.deepEqual(place(client(at(101), { kind, name: 'west', peer: 'NS1' })).by, 'agent')
  }
  const far = client(at(0), { kind: 'leafnode', name: 'far', start: null })
  assert.deepEqual(place(far), { epochs: [101, 102, 103, 104], by: 'start' })
})

test('what did not sign yet, issued nothing that a connection could stand on', () => {
  for (const [phase, epochs] of [
    [distributingState(), [102, 103, 104]],
    [convergingState(), [102, 103, 104, 105]],
    [withdrawingState(), [102, 103, 104]],
  ] as const) {
    const unknown = client(at(0), { start: null, certificates: [leafOf('billing', 0)] })
    assert.deepEqual(place(unknown, knownIn(phase)).epochs, epochs)
  }
})

test('an authority that signed again after a rollback may have issued what began before it did', () => {
  const { replaced } = state
  // 103 was rolled back to 102, which signed from 102:00 to 103:00 and from 103:30 to 104:00
  const again = {
    ...state,
    replaced: { ...replaced, 103: { at: at(103, 30), version: 8 }, 102: { at: at(104), version: 9 } },
  }
  const early = client(at(102, 30), { certificates: [leafOf('billing', 0)] })
  // and when 103 began, nobody remembers either
  assert.deepEqual(place(early, knownIn(again)), { epochs: [101, 102, 103], by: 'start' })
})

const PHASES: readonly RotationState[] = [state, distributingState(), convergingState(), withdrawingState()]

test('wherever an honest client stands, the authority of its leaf is among those it is counted for', () => {
  const chance = fc.double({ min: 0, max: 1, noNaN: true })
  fc.assert(
    fc.property(
      fc.constantFrom(...PHASES),
      fc.nat(),
      fc.tuple(chance, chance, chance),
      fc.constantFrom('leaf', 'chain', 'nothing'),
      (phase, pick, [issued, dialled, skew], knows) => {
        const next = phase.phase === 'distributing' ? phase.next : null
        const signers = epochsIn(phase).filter((epoch) => epoch !== next)
        const epoch = signers[pick % signers.length] ?? 0
        // it signed from the start of its epoch until it was replaced; a leaf can be in use from then to its end
        const now = phase.since + 60_000
        const until = phase.replaced[epoch]?.at ?? now
        const made = at(epoch) + issued * (until - at(epoch))
        const ends = Math.min(made + leafLifetime(SCHEDULE), epochEnd(SCHEDULE, epoch), now)
        const start = made + dialled * Math.max(0, ends - made) + (2 * skew - 1) * SCHEDULE.lead
        const leaf = leafOf('honest', epoch)
        const known = knownIn(phase, knows === 'leaf' ? new Map([[leaf, epoch]]) : new Map())
        const certificates = knows === 'chain' ? chainOf('honest', epoch) : [leaf]
        const placed = place(client(start, { certificates }), known)
        assert.ok(placed.epochs.includes(epoch), `${epoch} is not in ${placed.epochs}, by ${placed.by}`)
        if (knows !== 'nothing') assert.deepEqual(placed.epochs, [epoch])
      },
    ),
  )
})

test('a count tells how many stand on an epoch for certain, how many may, and at most five of them', () => {
  const sure = Array.from({ length: 7 }, () => client(at(103), { certificates: chainOf('billing', 103) }))
  const maybe = client(at(103, 30), { name: 'old tool', certificates: [leafOf('tool', 0)] })
  const { standing } = observed(
    { at: at(104, 30), problem: null },
    placeAll([maybe, ...sure], knownIn(state)),
  )
  assert.deepEqual(
    standing.map(({ epoch, certain, possible, examples }) => [epoch, certain, possible, examples.length]),
    [
      [101, 0, 1, 1],
      [102, 0, 1, 1],
      [103, 7, 1, 5],
    ],
  )
  assert.deepEqual(standing[0]?.examples[0], {
    kind: 'client',
    name: 'old tool',
    user: 'spiffe://prod/billing',
    server: 'n1',
    cid: maybe.cid,
    address: '127.0.0.1:50000',
    since: '1970-01-05T07:30:00.000Z',
    by: 'start',
    certain: false,
  })
})
