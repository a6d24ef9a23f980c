/** Told when one key of a bucket changes. What is in it is read by who needs it: an event may be old when it arrives. */
import { jetstream } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../src/log.ts'

/** The returned function ends the watch. */
export async function watchKey(
  nc: NatsConnection,
  bucket: string,
  key: string,
  logger: Logger,
  changed: (revision: number) => void,
): Promise<() => Promise<void>> {
  const kv = await new Kvm(jetstream(nc, { timeout: 5000 })).open(bucket)
  const watch = await kv.watch({ key })
  const reading = (async () => {
    for await (const entry of watch) changed(entry.revision)
  })().catch((cause) => logger.warn({ err: String(cause), key }, 'the watch on a key ended'))
  return async () => {
    watch.stop()
    await reading
  }
}
