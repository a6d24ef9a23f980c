/** What every issuer answers, whether it leads or not: to agents, to nodes that join, to operators. */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { isNoResponders } from '../src/nats/failure.ts'
import type { Attachment } from '../src/nats/link.ts'
import { type Clock, formatInstant } from '../src/time.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { encodeRecord } from '../src/wire/record.ts'
import type { Joining } from './join/joining.ts'
import type { Lease } from './lease/lease.ts'
import { handleOrder, type OrdersOptions } from './orders.ts'
import type { Signing } from './signing/signing.ts'
import type { Turns } from './turns.ts'

export interface AnswersOptions {
  readonly names: DomainNames
  /** Subject on which this issuer asks itself: see `isReached`. */
  readonly ownSubject: string
  readonly signing: Pick<Signing, 'handle'>
  readonly turns: Pick<Turns, 'handle'>
  readonly joining: Pick<Joining, 'handle'>
  readonly orders: OrdersOptions
  readonly lease: Pick<Lease, 'fence'>
  readonly clock: Clock
}

export function answersOf(options: AnswersOptions): readonly Attachment[] {
  const { names, ownSubject, signing, turns, joining, orders, lease, clock } = options
  return [
    (nc) =>
      answer(nc, names.signSubject('*'), names.issuers, async (message) => {
        if (message.subject === ownSubject && message.data.length === 0) message.respond()
        else await signing.handle(message)
      }),
    (nc) =>
      answer(nc, names.turnSubject('*'), names.issuers, (message, leaving) =>
        turns.handle(nc, message, leaving),
      ),
    // asked of everybody, answered by one: it is the clock of the leader that decides
    (nc) =>
      answer(nc, names.timeSubject, undefined, async (message) => {
        if (lease.fence !== null)
          message.respond(encodeRecord({ v: 1, serverTime: formatInstant(clock.now()) }))
      }),
    (nc) => answer(nc, names.enrolSubject, names.issuers, (message) => joining.handle(nc, message)),
    (nc) => answer(nc, names.orderSubject, names.issuers, (message) => handleOrder(nc, message, orders)),
  ]
}

/** Do requests come to us? A server before 2.9.17 can lose what we subscribed to in a reload (agent/targets/sighup.ts). */
export const isReached = (nc: NatsConnection, ownSubject: string): Promise<boolean> =>
  nc.request(ownSubject, '', { timeout: 2_000 }).then(
    () => true,
    (cause) => !isNoResponders(cause),
  )

/**
 * Answers requests on a subject, as one of the queue group when there is one. Stops by draining, so no request is lost
 * in a move; `leaving` tells those that only wait to answer now.
 */
async function answer(
  nc: NatsConnection,
  subject: string,
  queue: string | undefined,
  handle: (message: Msg, leaving: AbortSignal) => Promise<void>,
): Promise<() => Promise<void>> {
  const pending = new Set<Promise<void>>()
  const leaving = new AbortController()
  const subscription = nc.subscribe(subject, {
    ...(queue === undefined ? {} : { queue }),
    callback: (error, message) => {
      if (error !== null) return
      const work = handle(message, leaving.signal).finally(() => pending.delete(work))
      pending.add(work)
    },
  })
  await nc.flush()
  return async () => {
    await subscription.drain()
    leaving.abort()
    await Promise.all(pending)
  }
}
