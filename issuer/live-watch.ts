/**
 * Does a watch on a bucket still tell what is written there? Its consumer has one copy, and when the server of that copy is
 * lost nothing comes any more: the NATS client notices after 60 to 90 s (jetstream 3.4: the heartbeat of an ordered push
 * consumer is 30 s, two may be missed). An issuer that hears nothing of its agents for so long holds every rotation up. So
 * we ask the stream what is newest, and begin a watch that does not have it anew.
 */
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { Kvm, type KvWatchEntry } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../src/log.ts'
import { type Duration, sleep } from '../src/time.ts'

/** What was there at one look and has not come at the next one is not on its way, milliseconds. */
const LOOK_EVERY: Duration = 3_000
/** Longest wait for an answer of JetStream, milliseconds. */
const ANSWER: Duration = 3_000

export interface LiveWatchOptions {
  readonly bucket: string
  /** One key, or many by `*` and `>`. @default all */
  readonly key?: string
  /** Called for each entry, again for those that are there when the watch is begun anew. */
  readonly take: (entry: KvWatchEntry) => void
  /** A watch ended that nobody stopped. */
  readonly ended?: () => void
  readonly logger: Logger
}

/** Returns when the watch is there; the returned function ends it, and so does the end of the connection. Throws what JetStream answers. */
export async function liveWatch(nc: NatsConnection, options: LiveWatchOptions): Promise<() => Promise<void>> {
  const { bucket, key = '>', logger } = options
  const stop = new AbortController()
  // who dialled may give a connection up without a word to what runs on it
  void nc.closed().then(() => stop.abort())
  let seen = 0
  const open = async (): Promise<() => Promise<void>> => {
    const kv = await new Kvm(jetstream(nc, { timeout: ANSWER })).open(bucket)
    const watch = await kv.watch({ key })
    let stopped = false
    const reading = (async () => {
      for await (const entry of watch) {
        seen = Math.max(seen, entry.revision)
        options.take(entry)
      }
    })()
      .catch((cause) => logger.warn({ err: String(cause), bucket, key }, 'a watch ended'))
      .finally(() => stopped || options.ended?.())
    return async () => {
      stopped = true
      watch.stop()
      await reading
    }
  }
  const newest = async (): Promise<number> => {
    const jsm = await jetstreamManager(nc, { timeout: ANSWER, checkAPI: false })
    const last = await jsm.streams.getMessage(`KV_${bucket}`, { last_by_subj: `$KV.${bucket}.${key}` })
    return last?.seq ?? 0
  }
  let close = await open()
  const lookAfter = async (): Promise<void> => {
    for (let expected = 0; ; ) {
      await sleep(LOOK_EVERY, stop.signal)
      try {
        if (seen < expected) {
          logger.info({ bucket, key, seen, expected }, 'a watch fell silent and is begun anew')
          const silent = close
          close = await open()
          await silent()
        }
        expected = await newest()
      } catch (cause) {
        logger.debug({ err: String(cause), bucket, key }, 'a watch was not looked after')
      }
    }
  }
  const looking = lookAfter().catch(() => {})
  return async () => {
    stop.abort()
    await looking
    await close()
  }
}
