/**
 * The keys of a key-value bucket that begin in the same way. Asked of its stream: `keys()` of the KV client makes a consumer
 * for each question, and the server has a limit of them.
 */
import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'

/** `prefix` ends with a dot; one token follows it. Keys that were deleted are among them until their marker is gone. */
export async function keysUnder(nc: NatsConnection, bucket: string, prefix: string): Promise<string[]> {
  const jsm = await jetstreamManager(nc, { timeout: 5000, checkAPI: false })
  const space = `$KV.${bucket}.`
  const { state } = await jsm.streams.info(`KV_${bucket}`, { subjects_filter: `${space}${prefix}*` })
  return Object.keys(state.subjects ?? {}).map((subject) => subject.slice(space.length))
}
