/** Is what JetStream has taken there, once? Numbered messages of one service on a stream with three copies, and their reader. */
import { AckPolicy, type ConsumerMessages, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { type NatsConnection, nanos } from '@nats-io/transport-node'
import { connect } from '../../src/connection/connect.ts'
import { sleep } from '../../src/time.ts'
import { eventually } from './eventually.ts'
import { PATIENCE, type RunningDomain } from './running-domain.ts'

export const STREAM = 'ORDERS'
export const SUBJECT = 'orders'
const READER = 'reader'
const REPLICAS = 3
/** Milliseconds between an answer and the next message. */
const PAUSE = 10
/** Milliseconds the reader waits for the server, and the server for the reader; of the client's 30 s a test has no use. */
const ANSWER = 2_000
const patient = { timeout: PATIENCE, interval: 100 }

export interface OrdersReport {
  /** Acknowledged by the stream. */
  readonly taken: number
  /** Different ones that came to the reader. */
  readonly read: number
  /** Those that are on the stream in two places; that JetStream delivers one place again is no fault. */
  readonly twice: number
}

export class Orders implements AsyncDisposable {
  taken = 0
  readonly #nc: NatsConnection
  readonly #reader: ConsumerMessages
  /** Place on the stream -> number. */
  readonly #places = new Map<number, string>()
  readonly #stop = new AbortController()
  readonly #written: Promise<void>
  readonly #taken: Promise<void>

  private constructor(nc: NatsConnection, reader: ConsumerMessages) {
    this.#nc = nc
    this.#reader = reader
    this.#written = this.#write()
    this.#taken = this.#take()
  }

  /** As a service of the domain whose agent runs in this process; `service` may use STREAM and SUBJECT. */
  static async begin(domain: RunningDomain, service: string): Promise<Orders> {
    const identity = domain.agents.get(service)?.identity
    if (identity === undefined) throw new TypeError(`${service} does not run`)
    const servers = domain.local.plans.map(({ host, clientPort }) => `${host}:${clientPort}`)
    const inboxPrefix = domain.names.inbox(service)
    // to the first one: a test knows which it may take away
    const nc = await connect({ servers, noRandomize: true, identity, name: service, inboxPrefix })
    try {
      const jsm = await jetstreamManager(nc, { checkAPI: false })
      await jsm.streams.add({ name: STREAM, subjects: [SUBJECT], num_replicas: REPLICAS })
      await jsm.consumers.add(STREAM, {
        durable_name: READER,
        ack_policy: AckPolicy.Explicit,
        // what was on its way when a server was lost is delivered again
        ack_wait: nanos(ANSWER),
      })
      const consumer = await jetstream(nc).consumers.get(STREAM, READER)
      return new Orders(nc, await consumer.consume({ expires: ANSWER }))
    } catch (cause) {
      await nc.close()
      throw cause
    }
  }

  get read(): number {
    return new Set(this.#places.values()).size
  }

  /** No more is written; returns when everything was read. */
  async finish(): Promise<OrdersReport> {
    this.#stop.abort()
    await this.#written
    await eventually(() => this.read >= this.taken, patient).catch(() => {})
    await this[Symbol.asyncDispose]()
    const { taken, read } = this
    return { taken, read, twice: this.#places.size - read }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#written
    await this.#reader.close()
    await this.#taken
    await this.#nc.close()
  }

  /** One after the other; each is sent until a server has taken it. */
  async #write(): Promise<void> {
    const js = jetstream(this.#nc, { timeout: ANSWER })
    const { signal } = this.#stop
    while (!signal.aborted) {
      const msgID = String(this.taken)
      await eventually(() => js.publish(SUBJECT, msgID, { msgID }), { ...patient, signal })
      this.taken += 1
      await sleep(PAUSE, signal).catch(() => {})
    }
  }

  async #take(): Promise<void> {
    for await (const message of this.#reader) {
      this.#places.set(message.seq, message.string())
      message.ack()
    }
  }
}
