/**
 * The NATS servers of the simulation: one stream of bundles with an expected sequence, records that are written by
 * compare-and-set, and a consumer for each agent that delivers until it is answered. Each operation is atomic, as
 * the leader of a stream makes it.
 */
import { RotorError } from '../../../src/errors.ts'
import type { Duration, Instant } from '../../../src/time.ts'
import type { Network } from './network.ts'
import type { SimulatedProcess, Timeline } from './timeline.ts'

export interface StreamMessage {
  readonly id: string
  readonly version: number
  readonly bytes: Uint8Array
}

export interface StoredRecord {
  readonly text: string
  readonly revision: number
  /** By the clock of the servers. */
  readonly created: Instant
}

interface Watcher {
  readonly key: string
  readonly process: SimulatedProcess
  readonly changed: (revision: number) => void
}

/** A message as an agent gets it; `JsMsg` as far as the agent uses it. */
export interface Delivery {
  readonly data: Uint8Array
  readonly redelivered: boolean
  ack(): void
  nak(wait?: Duration): void
  term(reason?: string): void
  working(): void
}

type Reader = (message: Delivery) => void

interface Consumer {
  next: number
  /** Unanswered, by place in the stream: how often delivered, and which timer of the next delivery counts. */
  readonly pending: Map<number, { deliveries: number; turn: number }>
  reader: { readonly process: SimulatedProcess; readonly take: Reader } | null
}

const ACK_WAIT: Duration = 6_000
/** Of the rotation state among the records. */
export const STATE_KEY = 'rotation'

export class Broker {
  /** The state is written over anything; for sabotage. */
  careless = false
  readonly stream: StreamMessage[] = []
  readonly statuses = new Map<string, { readonly status: Uint8Array; readonly revision: number }>()
  /** Records of the state bucket. */
  readonly #records = new Map<string, StoredRecord>()
  readonly #consumers = new Map<string, Consumer>()
  readonly #timeline: Timeline
  readonly #network: Network
  #revision = 0
  #watchers: Watcher[] = []
  /** Called when a status was stored, on the servers. */
  onStatus: (agent: string) => void = () => {}

  constructor(timeline: Timeline, network: Network) {
    this.#timeline = timeline
    this.#network = network
  }

  read(key: string): StoredRecord | null {
    return this.#records.get(key) ?? null
  }

  /** Throws ERR_STATE_CONFLICT when somebody wrote since `revision` (0: it must not be there). */
  write(key: string, text: string, revision: number): number {
    const there = this.#records.get(key)?.revision ?? 0
    if (there !== revision && !(this.careless && key === STATE_KEY))
      throw new RotorError('ERR_STATE_CONFLICT', `${key}: revision ${there}, not ${revision}`)
    const written = ++this.#revision
    this.#records.set(key, { text, revision: written, created: this.#timeline.now })
    this.#watchers = this.#watchers.filter(({ process }) => process.alive)
    for (const { key: watched, process, changed } of this.#watchers) {
      if (watched === key) this.#network.send(process.machine.name, process, '', () => changed(written))
    }
    return written
  }

  /** Tells this process of each revision of a record, until it ends. */
  watch(key: string, process: SimulatedProcess, changed: (revision: number) => void): void {
    this.#watchers.push({ key, process, changed })
  }

  /** Throws ERR_STATE_CONFLICT when another message follows the sequence. The same id again is the same message. */
  publish(message: StreamMessage, after: number): number {
    const known = this.stream.findIndex(({ id }) => id === message.id)
    if (known >= 0) return known + 1
    if (this.stream.length !== after) {
      throw new RotorError('ERR_STATE_CONFLICT', `stream: sequence ${this.stream.length}, not ${after}`)
    }
    this.stream.push(message)
    for (const [agent, consumer] of this.#consumers) this.#deliverNew(agent, consumer)
    return this.stream.length
  }

  storeStatus(agent: string, status: Uint8Array): void {
    this.#revision += 1
    this.statuses.set(agent, { status, revision: this.#revision })
    this.onStatus(agent)
  }

  /** Binds the consumer of an agent, which begins at the last message when there is none. */
  bind(agent: string, process: SimulatedProcess, take: Reader): void {
    const consumer = this.#consumers.get(agent) ?? {
      next: Math.max(0, this.stream.length - 1),
      pending: new Map(),
      reader: null,
    }
    this.#consumers.set(agent, consumer)
    consumer.reader = { process, take }
    this.#deliverNew(agent, consumer)
  }

  unbind(agent: string, take: Reader): void {
    const consumer = this.#consumers.get(agent)
    if (consumer?.reader?.take === take) consumer.reader = null
  }

  /** Bytes that are on no stream reach an agent, as from somebody who may publish to it. */
  play(agent: string, bytes: Uint8Array): void {
    const reader = this.#consumers.get(agent)?.reader
    if (reader == null) return
    const nothing = () => {}
    const message = {
      data: bytes,
      redelivered: false,
      ack: nothing,
      nak: nothing,
      term: nothing,
      working: nothing,
    }
    this.#network.send(reader.process.machine.name, reader.process, 'gets a strange bundle', () =>
      reader.take(message),
    )
  }

  /** A restarted server has forgotten consumers, which live in memory. */
  forget(agent: string): void {
    this.#consumers.delete(agent)
  }

  #deliverNew(agent: string, consumer: Consumer): void {
    while (consumer.next < this.stream.length) {
      const place = consumer.next++
      consumer.pending.set(place, { deliveries: 0, turn: 0 })
      this.#deliver(agent, consumer, place)
    }
  }

  #deliver(agent: string, consumer: Consumer, place: number): void {
    const pending = consumer.pending.get(place)
    const message = this.stream[place]
    if (pending === undefined || message === undefined || this.#consumers.get(agent) !== consumer) return
    const { reader } = consumer
    const delivered = ++pending.deliveries
    if (reader?.process.alive === true) {
      const redelivered = delivered > 1
      const tell = (what: string, work: () => void) =>
        this.#network.send(reader.process.machine.name, null, what, work)
      const delivery: Delivery = {
        data: message.bytes,
        redelivered,
        ack: () => tell('', () => consumer.pending.delete(place)),
        term: () => tell('', () => consumer.pending.delete(place)),
        nak: (wait = 0) => tell('', () => this.#again(agent, consumer, place, delivered, wait)),
        working: () => tell('', () => this.#again(agent, consumer, place, delivered, ACK_WAIT)),
      }
      this.#network.send(reader.process.machine.name, reader.process, `gets version ${message.version}`, () =>
        reader.take(delivery),
      )
    }
    this.#again(agent, consumer, place, delivered, ACK_WAIT)
  }

  /** Delivers once more in `wait`, unless it was answered or delivered since. */
  #again(agent: string, consumer: Consumer, place: number, delivered: number, wait: Duration): void {
    const pending = consumer.pending.get(place)
    if (pending === undefined || pending.deliveries !== delivered) return
    const mine = ++pending.turn
    this.#timeline.in(wait, null, '', () => {
      if (consumer.pending.get(place)?.turn === mine) this.#deliver(agent, consumer, place)
    })
  }
}
