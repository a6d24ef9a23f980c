/**
 * The durable pull consumer of this agent, on whatever control connection there is. It starts at the last bundle;
 * a lost consumer (memory storage) is made again and costs nothing, because the agent keeps its own version.
 */
import {
  AckPolicy,
  type ConsumerMessages,
  DeliverPolicy,
  JetStreamApiError,
  type JsMsg,
  jetstream,
  jetstreamManager,
} from '@nats-io/jetstream'
import { type NatsConnection, TimeoutError } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import type { Attachment } from '../src/nats/link.ts'
import { Backoff } from '../src/tasks.ts'
import type { Duration } from '../src/time.ts'
import type { DomainNames } from '../src/wire/names.ts'

/** How long a message may stay unanswered; `working` is said three times as often. */
export const ACK_WAIT: Duration = 6_000
const NANOS = 1_000_000
/** So often the server says that the consumer lives. */
const HEARTBEAT: Duration = 2_000
/** Heartbeats missed in a row until we look for the consumer anew. */
const SILENT = 2
/** nats-server, errors.json: JSConsumerAlreadyExists. */
const CONSUMER_EXISTS = 10148

export interface ConsumeOptions {
  readonly names: DomainNames
  readonly agent: string
  /** Longer than an agent may be away, milliseconds. */
  readonly inactiveThreshold: Duration
  readonly logger: Logger
  /** Called for one message after the other. */
  readonly handle: (message: JsMsg) => Promise<void>
}

/** Binds in the background: the stream may not be there yet, and a link must not fail for that. */
export function consumeBundles(options: ConsumeOptions): Attachment {
  return async (nc) => {
    const stop = new AbortController()
    const reading = read(nc, options, stop.signal)
    return async () => {
      stop.abort()
      await reading
    }
  }
}

/**
 * Reads until `signal` aborts, and opens the consumer anew when its server, or ours, was lost: with our patience. The NATS
 * client would ask for it once, and when that gets no answer (a cluster elects) again after the time of a whole pull
 * (jetstream 3.4, `resetPendingWithInfo`): a rotation would wait for this agent for half a minute and more.
 */
async function read(nc: NatsConnection, options: ConsumeOptions, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff({ base: 50, max: 3_000 })
  let close = (): void => {}
  signal.addEventListener('abort', () => close(), { once: true })
  // ends with the connection
  void whenReconnected(nc, () => close())
  let wasSilent = false
  while (!signal.aborted && !nc.isClosed()) {
    try {
      if (wasSilent) await forget(nc, options)
      wasSilent = false
      const messages = await open(nc, options)
      close = () => void messages.close().catch(() => {})
      if (signal.aborted) close()
      backoff.reset()
      const watching = closeWhenSilent(messages)
      for await (const message of messages) await options.handle(message)
      wasSilent = await watching
    } catch (cause) {
      if (signal.aborted || nc.isClosed()) return
      const error = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
      options.logger.debug({ code: error.code, err: error.message }, 'the bundle consumer is not there yet')
    }
    await backoff.wait(signal).catch(() => {})
  }
}

/** The way to the server was another one for a while: nobody knows what became of the pull that was under way. */
async function whenReconnected(nc: NatsConnection, act: () => void): Promise<void> {
  for await (const { type } of nc.status()) if (type === 'reconnect') act()
}

/** A consumer that lives says so by its heartbeats. True when it did not. */
async function closeWhenSilent(messages: ConsumerMessages): Promise<boolean> {
  let isSilent = false
  for await (const status of messages.status()) {
    if (status.type !== 'heartbeats_missed' || status.count < SILENT) continue
    isSilent = true
    await messages.close()
  }
  return isSilent
}

/**
 * A consumer has one copy. When the server of that one is away nobody answers for it, for as long as that lasts; without
 * it another server takes the next one. Nobody may answer for its removal either, which is made all the same.
 */
async function forget(nc: NatsConnection, { names, agent, logger }: ConsumeOptions): Promise<void> {
  const jsm = await jetstreamManager(nc, { checkAPI: false, timeout: 1000 })
  await jsm.consumers
    .delete(names.bundleStream, names.consumer(agent))
    .catch((cause) => logger.debug({ err: String(cause) }, 'the silent bundle consumer was not deleted yet'))
}

async function open(nc: NatsConnection, options: ConsumeOptions): Promise<ConsumerMessages> {
  const { names, agent } = options
  const jsm = await jetstreamManager(nc, { checkAPI: false, timeout: 3000 })
  const settings = {
    durable_name: names.consumer(agent),
    filter_subject: names.bundleSubject,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.Last,
    ack_wait: ACK_WAIT * NANOS,
    max_deliver: -1,
    num_replicas: 1,
    mem_storage: true,
    inactive_threshold: options.inactiveThreshold * NANOS,
  }
  try {
    await jsm.consumers.add(names.bundleStream, settings)
  } catch (cause) {
    if (cause instanceof TimeoutError) await forget(nc, options)
    // There with another threshold (refused from 2.10 on): an agent whose bundle on disk has ended does not know the
    // schedule yet, and must not wait for its old consumer to be forgotten.
    if (!(cause instanceof JetStreamApiError) || cause.code !== CONSUMER_EXISTS) throw cause
    const { inactive_threshold } = settings
    await jsm.consumers.update(names.bundleStream, settings.durable_name, { inactive_threshold })
  }
  const consumer = await jetstream(nc, { timeout: 3000 }).consumers.get(
    names.bundleStream,
    names.consumer(agent),
  )
  return consumer.consume({
    max_messages: 16,
    expires: 30_000,
    idle_heartbeat: HEARTBEAT,
    abort_on_missing_resource: true,
  })
}
