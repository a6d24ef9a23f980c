/** What the load wants of the client it runs on: any release of nats.js has it, only streams and buckets are reached in other ways. */
import { jetstream } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'

export interface LoadMessage {
  readonly data: Uint8Array
  respond(body: Uint8Array): boolean
}

export interface LoadClient {
  subscribe(
    subject: string,
    options: { queue?: string; callback: (error: Error | null, message: LoadMessage) => void },
  ): unknown
  publish(subject: string, body: Uint8Array): void
  request(
    subject: string,
    body: Uint8Array | string,
    options: { timeout: number },
  ): Promise<{ readonly data: Uint8Array }>
  flush(): Promise<void>
}

export interface StoredMessage {
  readonly data: Uint8Array
  readonly redelivered: boolean
  ack(): void
}

export interface StoredEntry {
  readonly revision: number
  readonly value: Uint8Array
}

/** The stream and the bucket of the load, through the connection that is moved. */
export interface Stores {
  /** Each message once to `take`, until the connection ends. */
  consume(stream: string, durable: string, take: (message: StoredMessage) => void): Promise<unknown>
  watch(
    bucket: string,
    options: { key: string; resumeFromRevision?: number },
  ): Promise<AsyncIterable<StoredEntry> & { stop(): void }>
}

/** Messages that a consumer asks for in advance. */
export const CONSUME_AHEAD = 200

export const storesOf = (nc: NatsConnection): Stores => ({
  async consume(stream, durable, callback) {
    const consumer = await jetstream(nc).consumers.get(stream, durable)
    return await consumer.consume({ max_messages: CONSUME_AHEAD, callback })
  },
  watch: async (bucket, options) => await (await new Kvm(nc).open(bucket)).watch(options),
})
