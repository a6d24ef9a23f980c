/**
 * The side that moves: everything a service may have on one connection. What it counts outlives a change of
 * connection, so the ways that make a new one are counted like those that keep it.
 */
import { sleep } from '../../src/time.ts'
import type { LoadClient, LoadMessage, StoredEntry, Stores } from './client.ts'
import { flowRates, type LoadNames, PEERS, SERVICE_PEER } from './flows.ts'
import { Ledger, Requests } from './ledger.ts'
import { keepPace } from './pace.ts'
import { decodePayload, encodePayload } from './payload.ts'

export interface MovedOptions {
  readonly names: LoadNames
  /** Messages per second of the plain flow. */
  readonly rate: number
  /** Milliseconds a request may take. */
  readonly patience: number
}

/** Flows that arrive here. */
const RECEIVED = ['plain', 'sole', 'shared', 'asked', 'jetstream', 'kv'] as const
type ReceivedFlow = (typeof RECEIVED)[number]

export class MovedSide {
  readonly ledgers = Object.fromEntries(RECEIVED.map((flow) => [flow, new Ledger(PEERS)])) as Readonly<
    Record<ReceivedFlow, Ledger>
  >
  readonly asking = new Requests()
  readonly #options: MovedOptions
  readonly #finished = new AbortController()
  #outPublished = 0
  #outFailed = 0
  #redelivered = 0
  /** Of the bucket, as far as seen. */
  #revision = 0
  /** The small flows go on without a connection's own publishing until the load begins. */
  #sending = false

  constructor(options: MovedOptions) {
    this.#options = options
  }

  get published(): { readonly out: number; readonly failed: number } {
    return { out: this.#outPublished, failed: this.#outFailed }
  }

  get redelivered(): number {
    return this.#redelivered
  }

  /** From here on it publishes and asks too. */
  start(): void {
    this.#sending = true
  }

  restartGaps(at: number): void {
    for (const ledger of Object.values(this.ledgers)) ledger.restartGap(at)
  }

  /** Publishes and asks no more; returns when every request has its answer or failed. */
  async finish(): Promise<void> {
    this.#finished.abort()
    await this.asking.settled()
  }

  /**
   * Subscribes and begins; all subscriptions are at the server when it returns. The returned function stops what this
   * side does by itself. Subscriptions and the consumer end with the connection, best by `drain()`.
   */
  readonly use = async (nc: LoadClient, stores: Stores): Promise<() => Promise<void>> => {
    const { names } = this.#options
    const { ledgers } = this
    nc.subscribe(names.plain('*'), { callback: this.#count(ledgers.plain) })
    nc.subscribe(names.sole, { queue: names.queue, callback: this.#count(ledgers.sole) })
    nc.subscribe(names.shared, { queue: names.queue, callback: this.#count(ledgers.shared) })
    nc.subscribe(names.echo('moved'), {
      callback: (error, message) => {
        if (error !== null) return
        // the first ones, without a body, only ask whether we are there
        if (message.data.length > 0) take(ledgers.asked, message.data)
        message.respond(message.data)
      },
    })
    await this.#consume(stores)
    const stopWatching = await this.#watch(stores)
    await nc.flush()
    const stop = new AbortController()
    const pace = this.#send(nc, AbortSignal.any([stop.signal, this.#finished.signal]))
    return async () => {
      stop.abort()
      await pace
      await this.asking.settled()
      await stopWatching()
    }
  }

  #count(ledger: Ledger): (error: Error | null, message: LoadMessage) => void {
    return (error, message) => {
      if (error === null) take(ledger, message.data)
    }
  }

  async #consume(stores: Stores): Promise<void> {
    const { names } = this.#options
    await stores.consume(names.stream, names.durable, (message) => {
      if (message.redelivered) this.#redelivered += 1
      take(this.ledgers.jetstream, message.data)
      message.ack()
    })
  }

  /** A new watch goes on behind the last revision that was seen. */
  async #watch(stores: Stores): Promise<() => Promise<void>> {
    const { names } = this.#options
    const resume = this.#revision > 0 ? { resumeFromRevision: this.#revision + 1 } : {}
    const watch = await stores.watch(names.bucket, { key: names.key, ...resume })
    const reading = (async () => {
      for await (const entry of watch) this.#see(entry)
    })()
    return async () => {
      watch.stop()
      await reading
    }
  }

  #see({ revision, value }: StoredEntry): void {
    this.#revision = Math.max(this.#revision, revision)
    take(this.ledgers.kv, value)
  }

  async #send(nc: LoadClient, signal: AbortSignal): Promise<void> {
    const { names, rate } = this.#options
    const rates = flowRates(rate)
    while (!this.#sending && !signal.aborted) await sleep(5, signal).catch(() => {})
    const out = () => {
      const body = encodePayload(0, this.#outPublished++)
      try {
        nc.publish(names.out, body)
      } catch {
        this.#outFailed += 1
      }
    }
    const ask = () => this.asking.start((sequence) => this.#ask(nc, sequence))
    await keepPace(
      [
        { rate: rates.out, work: out },
        { rate: rates.asking, work: ask },
      ],
      signal,
    )
  }

  async #ask(nc: LoadClient, sequence: number): Promise<boolean> {
    const { names, patience: timeout } = this.#options
    const body = encodePayload(0, sequence)
    const answer = await nc.request(names.echo(SERVICE_PEER), body, { timeout })
    return decodePayload(answer.data)?.sequence === sequence
  }
}

/** Notes a message of the load, whatever it says. */
export function take(ledger: Ledger, body: Uint8Array): void {
  const numbered = decodePayload(body)
  if (numbered === null) ledger.takeCorrupt()
  else ledger.take(numbered.publisher, numbered.sequence, performance.now())
}
