/**
 * The traffic of one demo service: it publishes numbered core and JetStream messages, counts those of its neighbour,
 * answers requests and makes some, all on one connection.
 */
import { AckPolicy, type Consumer, jetstream, jetstreamManager, StorageType } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { Backoff } from '../src/tasks.ts'
import { sleep } from '../src/time.ts'
import { Ledger, type Received } from './ledger.ts'

export const DEMO_STREAM = 'DEMO'
export const demoSubjects = (service: string) => ({
  core: `demo.core.${service}`,
  jetstream: `demo.js.${service}`,
  echo: `demo.echo.${service}`,
})

export interface TrafficOptions {
  readonly service: string
  /** Whose messages are counted and who is asked. */
  readonly neighbour: string
  /** Messages per second, half core and half JetStream. */
  readonly rate: number
  readonly replicas: number
}

export interface TrafficCounts {
  readonly core: { readonly published: number } & Received
  readonly jetstream: { readonly published: number } & Received
  readonly requests: { readonly sent: number; readonly failed: number }
}

const TICK = 10
const REQUEST_EVERY = 100
/** A request is made once: nobody asks again for what got lost. */
const REQUEST_TIMEOUT = 5_000
/** Until the one who counts our messages answers. */
const HELLO_TIMEOUT = 500
/** JetStream messages on their way to an acknowledgement. */
const MAX_PENDING = 256

export class Traffic {
  readonly #options: TrafficOptions
  readonly #core = new Ledger()
  readonly #stored = new Ledger()
  #corePublished = 0
  #storedPublished = 0
  /** Numbers given out to JetStream messages; each is published until it is acknowledged. */
  #storedNumber = 0
  #requestsSent = 0
  #requestsFailed = 0
  #publishing = false

  constructor(options: TrafficOptions) {
    this.#options = options
  }

  get counts(): TrafficCounts {
    return {
      core: { published: this.#corePublished, ...this.#core.counts },
      jetstream: { published: this.#storedPublished, ...this.#stored.counts },
      requests: { sent: this.#requestsSent, failed: this.#requestsFailed },
    }
  }

  /** Not before everybody listens: what is published before that is no loss. */
  publish(): void {
    this.#publishing = true
  }

  /** No new messages from here on; receiving goes on. */
  stopPublishing(): void {
    this.#publishing = false
  }

  /** Listens, and publishes once it may. The returned function stops it and finishes everything under way. */
  async start(nc: NatsConnection): Promise<() => Promise<void>> {
    const { service, neighbour } = this.#options
    await this.#createStream(nc)
    const consumer = await this.#consumer(nc)
    nc.subscribe(demoSubjects(neighbour).core, {
      callback: (error, message) => {
        if (error !== null) return
        if (message.reply) message.respond()
        else this.#core.take(Number(message.string()))
      },
    })
    nc.subscribe(demoSubjects(service).echo, {
      callback: (error, message) => {
        if (error === null) message.respond(message.data)
      },
    })
    await nc.flush()
    const stop = new AbortController()
    const { signal } = stop
    const reading = this.#read(consumer, signal)
    const sending = this.#send(nc, signal)
    return async () => {
      stop.abort()
      await Promise.all([sending, reading])
    }
  }

  async #send(nc: NatsConnection, signal: AbortSignal): Promise<void> {
    const { service, neighbour } = this.#options
    while (!this.#publishing && !signal.aborted) await sleep(TICK)
    await heard(nc, demoSubjects(service).core, signal)
    await heard(nc, demoSubjects(neighbour).echo, signal)
    await Promise.all([this.#publish(nc, signal), this.#request(nc, signal)])
  }

  async #createStream(nc: NatsConnection): Promise<void> {
    const jsm = await jetstreamManager(nc, { checkAPI: false, timeout: 3000 })
    const backoff = new Backoff({ base: 100, max: 1000 })
    for (;;) {
      try {
        await jsm.streams.info(DEMO_STREAM)
        return
      } catch {
        await jsm.streams
          .add({
            name: DEMO_STREAM,
            subjects: ['demo.js.*'],
            storage: StorageType.File,
            num_replicas: this.#options.replicas,
            duplicate_window: 120e9,
            max_age: 600e9,
          })
          .catch(() => backoff.wait())
      }
    }
  }

  async #consumer(nc: NatsConnection): Promise<Consumer> {
    const { service, neighbour } = this.#options
    const jsm = await jetstreamManager(nc, { checkAPI: false, timeout: 3000 })
    await jsm.consumers.add(DEMO_STREAM, {
      durable_name: `demo-${service}`,
      filter_subject: demoSubjects(neighbour).jetstream,
      ack_policy: AckPolicy.Explicit,
      ack_wait: 10e9,
    })
    return jetstream(nc, { timeout: 3000 }).consumers.get(DEMO_STREAM, `demo-${service}`)
  }

  /** Whole batches: when it ends, nothing was delivered that is not counted and acknowledged. */
  async #read(consumer: Consumer, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const batch = await consumer.fetch({ max_messages: 100, expires: 1_000 })
        for await (const message of batch) {
          this.#stored.take(Number(message.string()))
          message.ack()
        }
      } catch {
        await sleep(50)
      }
    }
  }

  async #publish(nc: NatsConnection, signal: AbortSignal): Promise<void> {
    const { service, rate } = this.#options
    const subjects = demoSubjects(service)
    const js = jetstream(nc, { timeout: 3000 })
    const pending = new Set<Promise<void>>()
    let last = performance.now()
    let due = 0
    while (!signal.aborted) {
      await sleep(TICK)
      const now = performance.now()
      due += this.#publishing ? ((now - last) / 1000) * (rate / 2) : 0
      last = now
      for (; due >= 1; due -= 1) {
        nc.publish(subjects.core, String(++this.#corePublished))
        if (pending.size >= MAX_PENDING) continue
        const number = ++this.#storedNumber
        const done = this.#store(js, subjects.jetstream, number).finally(() => pending.delete(done))
        pending.add(done)
      }
    }
    await Promise.all(pending)
  }

  /** Published until it is acknowledged; the message id makes the repetition harmless. */
  async #store(js: ReturnType<typeof jetstream>, subject: string, number: number): Promise<void> {
    const backoff = new Backoff({ base: 50, max: 1000 })
    for (;;) {
      try {
        await js.publish(subject, String(number), { msgID: `${subject}-${number}` })
        this.#storedPublished += 1
        return
      } catch {
        await backoff.wait()
      }
    }
  }

  async #request(nc: NatsConnection, signal: AbortSignal): Promise<void> {
    const subject = demoSubjects(this.#options.neighbour).echo
    while (!signal.aborted) {
      if (this.#publishing) {
        const body = String(++this.#requestsSent)
        const answer = await nc.request(subject, body, { timeout: REQUEST_TIMEOUT }).catch(() => null)
        if (answer?.string() !== body) this.#requestsFailed += 1
      }
      await sleep(REQUEST_EVERY, signal).catch(() => {})
    }
  }
}

/** Returns when somebody answers: then the servers know the way, from this connection to that one. */
async function heard(nc: NatsConnection, subject: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await nc.request(subject, '', { timeout: HELLO_TIMEOUT })
      return
    } catch {
      await sleep(TICK)
    }
  }
}
