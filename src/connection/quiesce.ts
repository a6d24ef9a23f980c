/**
 * Moves a connection whose inside we do not know, by its public functions only: flush, keep publishes back, reconnect,
 * let them go. Messages to its plain subscriptions are lost in the gap, as with any reconnect.
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
  status(): AsyncIterable<{ readonly type: string }>
}

/** Returns when the connection is back. Throws when it is not within `timeout` milliseconds; it goes on trying by itself. */
export async function quiesce(nc: NatsClient, timeout: Duration): Promise<void> {
  const statuses = nc.status()
  const back = (async () => {
    for await (const { type } of statuses) if (type === 'reconnect') return
    throw new Error('the connection was closed')
  })()
  back.catch(() => {})
  await within(nc.flush(), timeout, () => new Error(`no PONG within ${timeout} ms`))
  const held: never[][] = []
  const publish = nc.publish
  nc.publish = (...args) => void held.push(args)
  const release = () => {
    nc.publish = publish
    for (const args of held.splice(0)) publish.apply(nc, args)
  }
  const forget = onEnd(nc.closed(), () => {
    nc.publish = publish
  })
  try {
    await nc.reconnect()
    await within(back, timeout, () => new Error(`not connected again within ${timeout} ms`))
  } finally {
    forget()
    if (!nc.isClosed()) release()
  }
}
