/** SUB and UNSUB for the second connection: which subscriptions, and what changed since. Pure. */
import type { ClientSubscription } from './internals.ts'

/** Plain subscriptions get every message twice while both connections have them; of a queue group one of the two gets it. */
export interface Wanted {
  readonly plain: readonly ClientSubscription[]
  readonly queue: readonly ClientSubscription[]
}

/** What the second connection has to have. One that is draining, or has had its last message, stays behind and ends there. */
export function wanted(all: readonly ClientSubscription[]): Wanted {
  const live = all.filter(({ draining, max, received }) => !draining && (max === undefined || received < max))
  return {
    plain: live.filter(({ queue }) => !isQueue(queue)),
    queue: live.filter(({ queue }) => isQueue(queue)),
  }
}

/** Sids of references: no client counts that far, and the parser reads 15 digits. */
const REFERENCE = 500_000_000_000_000
export const referenceOf = (sid: number): number => REFERENCE + sid

/** A plain subscription beside each one of a queue group, to see the order of its messages. */
export const subscribeReferences = (queue: readonly ClientSubscription[]): string =>
  queue.map(({ sid, subject }) => `SUB ${subject} ${referenceOf(sid)}\r\n`).join('')

const isQueue = (queue: string | undefined): boolean => queue !== undefined && queue !== ''

/** With the same sids, so that the client finds them, and what is left of an auto-unsubscribe. */
export const subscribe = (subscriptions: readonly ClientSubscription[]): string =>
  subscriptions
    .map(({ sid, subject, queue, max, received }) => {
      const sub = isQueue(queue) ? `SUB ${subject} ${queue} ${sid}\r\n` : `SUB ${subject} ${sid}\r\n`
      return max === undefined ? sub : `${sub}UNSUB ${sid} ${max - received}\r\n`
    })
    .join('')

export const unsubscribe = (sids: Iterable<number>): string =>
  [...sids].map((sid) => `UNSUB ${sid}\r\n`).join('')

/** What was added to, and taken from, the plain subscriptions since the second connection got `had`. */
export function changes(
  had: ReadonlySet<number>,
  now: readonly ClientSubscription[],
): { readonly added: readonly ClientSubscription[]; readonly removed: readonly number[] } {
  const sids = new Set(now.map(({ sid }) => sid))
  return { added: now.filter(({ sid }) => !had.has(sid)), removed: [...had].filter((sid) => !sids.has(sid)) }
}
