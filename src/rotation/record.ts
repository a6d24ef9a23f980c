/**
 * What goes into a bundle for auditors: who ordered what, which moves needed no bundle, and what the agents had shown when it
 * was decided. It is signed and chained with the bundle, so nobody can change it later.
 */
import { formatInstant, type Instant } from '../time.ts'
import type { BundleRecord } from '../wire/bundle.ts'
import type { Order } from '../wire/requests.ts'
import { clip } from './payloads.ts'
import type { Situation } from './situation.ts'
import type { Move, Pending, Waiver } from './state.ts'

/** Orders, and moves, that a bundle tells; the newest count. */
const MAX_TOLD = 16
/** Names that a bundle tells in one place. */
const MAX_NAMES = 256

export const NOTHING_PENDING: Pending = { orders: [], moves: [], left: 0 }

/** An order that was taken; the next bundle tells it. */
export function noteOrder(pending: Pending, { kind, epoch, force, by, reason, at }: Order): Pending {
  const told = { kind, ...(epoch === undefined ? {} : { epoch }), force, by, reason, at }
  return bounded({ ...pending, orders: [...pending.orders, told] })
}

/** A move without a bundle; the next one tells it. */
export function noteMove(
  pending: Pending,
  move: Move,
  reason: string,
  waiver: Waiver | null,
  now: Instant,
): Pending {
  const told = { move, at: formatInstant(now), reason: clip(reason), waived: namesOf(waiver) }
  return bounded({ ...pending, moves: [...pending.moves, told] })
}

function bounded({ orders, moves, left }: Pending): Pending {
  const over = Math.max(0, orders.length - MAX_TOLD) + Math.max(0, moves.length - MAX_TOLD)
  return { orders: orders.slice(-MAX_TOLD), moves: moves.slice(-MAX_TOLD), left: left + over }
}

const namesOf = (waiver: Waiver | null): string[] => (waiver?.names ?? []).slice(0, MAX_NAMES)

/** The record of a bundle that this move publishes. */
export const recordOf = (s: Situation, move: Move, waiver: Waiver | null): BundleRecord => ({
  move,
  waived: namesOf(waiver),
  ...s.state.pending,
  acks: acksOf(s),
})

/** By the version they had applied and proven, the lowest first: those who lag are named before all others. */
function acksOf({ seen }: Situation): BundleRecord['acks'] {
  const byVersion = new Map<number, string[]>()
  for (const { name, status } of seen.agents) {
    const version = status?.version ?? 0
    byVersion.set(version, [...(byVersion.get(version) ?? []), name])
  }
  let room = MAX_NAMES
  return [...byVersion]
    .sort(([a], [b]) => a - b)
    .slice(0, MAX_TOLD)
    .map(([version, names]) => {
      const agents = names.toSorted().slice(0, room)
      room -= agents.length
      return { version, count: names.length, agents }
    })
}
