/**
 * Moves a connection whose inside we do not know, by its public functions only: keep publishes and requests back,
 * flush, reconnect, let them go. Messages to its subscriptions are lost in the gap, as with any reconnect.
 */

import type { Duration } from '../time.ts'
import { onEnd } from './handoff/ends.ts'
import { within } from './handoff/patience.ts'

/** What `nats` and `@nats-io/transport-node` have in common. */
export interface NatsClient {
  closed(): Promise<unknown>
  isClosed(): boolean
  isDraining(): boolean
  flush(): Promise<void>
  reconnect(): Promise<void>
  publish(...args: never[]): void
  request(...args: never[]): Promise<unknown>
  status(): AsyncIterable<{ readonly type: string }>
}

/** Returns when the connection is back. Throws when it is not within `timeout` milliseconds; it goes on trying by itself. */
export async function quiesce(nc: NatsClient, timeout: Duration): Promise<void> {
  const back = reconnected(nc)
  // First held, then flushed: the client forgets what it has not sent when it reconnects.
  const release = holdBack(nc)
  const forget = onEnd(nc.closed(), release)
  try {
    await within(nc.flush(), timeout, () => new Error(`no PONG within ${timeout} ms`))
    await nc.reconnect()
    await within(back, timeout, () => new Error(`not connected again within ${timeout} ms`))
  } finally {
    forget()
    release()
  }
}

function reconnected(nc: NatsClient): Promise<void> {
  const statuses = nc.status()
  const back = (async () => {
    for await (const { type } of statuses) if (type === 'reconnect') return
    throw new Error('the connection was closed')
  })()
  back.catch(() => {})
  return back
}

/** The returned function lets go what was held, in its order; a second call does nothing. */
function holdBack(nc: NatsClient): () => void {
  const { publish, request } = nc
  const waiting: (() => void)[] = []
  let held = true
  nc.publish = (...args) => {
    waiting.push(() => publish.apply(nc, args))
  }
  nc.request = (...args) =>
    new Promise((resolve, reject) => {
      waiting.push(() => request.apply(nc, args).then(resolve, reject))
    })
  return () => {
    if (!held) return
    held = false
    nc.publish = publish
    nc.request = request
    for (const go of waiting) {
      try {
        go()
      } catch {
        // Its caller has gone on. What it published wrong does not take the rest along.
      }
    }
  }
}
