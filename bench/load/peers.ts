/**
 * The three publishers on their three servers, and the far ends of the moved connection's own traffic. They run in a
 * thread of their own (`peer-thread.ts`): their work must not delay the connection that is looked at.
 */
import { AckPolicy, type JetStreamClient, jetstream, jetstreamManager, StorageType } from '@nats-io/jetstream'
import { type KV, Kvm } from '@nats-io/kv'
import { connect, type Msg, type NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../../src/errors.ts'
import { retry } from '../../src/tasks.ts'
import { sleep } from '../../src/time.ts'
import type { LoadClient } from './client.ts'
import type { PeerAccess } from './cluster.ts'
import {
  DISTANT_PEER,
  flowRates,
  type LoadNames,
  loadNames,
  PEERS,
  REQUEST_PATIENCE,
  SERVICE_PEER,
  STORE_PEER,
} from './flows.ts'
import { Ledger, type LedgerNotes, type RequestCounts, Requests } from './ledger.ts'
import { take } from './moved.ts'
import { keepPace } from './pace.ts'
import { encodePayload } from './payload.ts'

export interface PeersOptions {
  readonly run: string
  readonly rate: number
  /** One for each peer. */
  readonly addresses: readonly string[]
  readonly access: PeerAccess
  /** Milliseconds a request of either side may take. @default 2000 */
  readonly patience?: number
}

export interface PeersReport {
  /** What each peer published so far, by flow. */
  readonly published: Readonly<
    Record<'plain' | 'sole' | 'shared' | 'asked' | 'jetstream' | 'kv', readonly number[]>
  >
  /** Messages that the stream or the bucket refused. */
  readonly refused: { readonly jetstream: number; readonly kv: number }
  readonly asked: RequestCounts
  readonly received: Readonly<Record<'out' | 'shared' | 'asking', LedgerNotes>>
  /** Messages of the stream that are not yet delivered and acknowledged. */
  readonly unacknowledged: number
}

/** Repetitions are pauses of this length, until somebody answers. */
const PAUSE = 20
const READY_WITHIN = 15_000
const STORE_OPTIONS = { checkAPI: false, timeout: 2000 }
/** About fifteen seconds. */
const STORE_TRIES = 15
const ACK_WAIT_NS = 10e9
/** JetStream messages and bucket entries on their way to an acknowledgement, each. */
const MOST_PENDING = 256

export class Peers implements AsyncDisposable {
  readonly #options: PeersOptions
  readonly #names: LoadNames
  readonly #peers: NatsConnection[] = []
  readonly #stop = new AbortController()
  readonly #out = new Ledger(1)
  readonly #shared = new Ledger(PEERS)
  readonly #asking = new Ledger(1)
  readonly #asked = Array.from({ length: PEERS }, () => new Requests())
  readonly #published = { plain: zeros(), sole: zeros(), shared: zeros() }
  readonly #stored = new Stored()
  readonly #entries = new Stored()
  #pace: Promise<void> = Promise.resolve()

  private constructor(options: PeersOptions) {
    this.#options = options
    this.#names = loadNames(options.run)
  }

  /** Connected, with stream, consumer and bucket made, and everything subscribed. */
  static async open(options: PeersOptions): Promise<Peers> {
    const peers = new Peers(options)
    try {
      for (const address of options.addresses) peers.#peers.push(await connectPeer(address, options.access))
      await peers.#prepare()
      return peers
    } catch (cause) {
      await peers.close()
      throw cause
    }
  }

  /** Returns when the moved side answers every peer: its subscriptions are known on every server then. */
  async met(): Promise<void> {
    await Promise.all(this.#peers.map((nc) => untilAnswered(nc, this.#names.echo('moved'))))
  }

  async start(): Promise<void> {
    const { plain, sole, shared, asked, jetstream: stored, kv: entries } = flowRates(this.#options.rate)
    const nc = this.#peer(STORE_PEER)
    const js = jetstream(nc)
    const kv = await new Kvm(nc).open(this.#names.bucket)
    const ofPeers = this.#peers.flatMap((peer, i) => [
      { rate: plain / PEERS, work: this.#publisher(peer, i, 'plain', this.#names.plain(i)) },
      { rate: sole / PEERS, work: this.#publisher(peer, i, 'sole', this.#names.sole) },
      { rate: shared / PEERS, work: this.#publisher(peer, i, 'shared', this.#names.shared) },
      { rate: asked / PEERS, work: () => this.#ask(peer, i) },
    ])
    this.#pace = keepPace(
      [
        ...ofPeers,
        { rate: stored, work: () => this.#store(js) },
        { rate: entries, work: () => this.#put(kv) },
      ],
      this.#stop.signal,
    )
  }

  restartGaps(): void {
    const now = performance.now()
    for (const ledger of [this.#out, this.#shared, this.#asking]) ledger.restartGap(now)
  }

  /** Publishes no more; everything published is at the servers, and every request has its answer or failed. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#pace
    await Promise.all([...this.#asked, this.#stored, this.#entries].map((each) => each.settled()))
    await Promise.all(this.#peers.map((nc) => nc.flush()))
  }

  async report(): Promise<PeersReport> {
    const jsm = await jetstreamManager(this.#peer(STORE_PEER), { checkAPI: false })
    const { num_pending, num_ack_pending } = await jsm.consumers.info(this.#names.stream, this.#names.durable)
    const asked = this.#asked.map((requests) => requests.counts())
    return {
      published: {
        ...this.#published,
        asked: asked.map(({ sent }) => sent),
        jetstream: ofStorePeer(this.#stored.numbered),
        kv: ofStorePeer(this.#entries.numbered),
      },
      refused: { jetstream: this.#stored.refused, kv: this.#entries.refused },
      asked: joined(asked),
      received: {
        out: this.#out.notes(),
        shared: this.#shared.notes(),
        asking: this.#asking.notes(),
      },
      unacknowledged: num_pending + num_ack_pending,
    }
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#pace
    await Promise.all(this.#peers.map((nc) => nc.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #prepare(): Promise<void> {
    const names = this.#names
    // a cluster that was just started has no leader of its streams yet; all of it may be done again
    await retry(() => this.#makeStores(), { tries: STORE_TRIES })
    const distant = this.#peer(DISTANT_PEER)
    const count = (ledger: Ledger) => (error: Error | null, message: Msg) => {
      if (error === null) take(ledger, message.data)
    }
    distant.subscribe(names.out, { callback: count(this.#out) })
    distant.subscribe(names.shared, { queue: names.queue, callback: count(this.#shared) })
    for (const [i, nc] of this.#peers.entries()) {
      nc.subscribe(names.echo(i), {
        callback: (error, message) => {
          if (error === null && message.data.length > 0 && i === SERVICE_PEER)
            take(this.#asking, message.data)
          if (error === null) message.respond(message.data)
        },
      })
    }
    await Promise.all(this.#peers.map((nc) => nc.flush()))
  }

  async #makeStores(): Promise<void> {
    const names = this.#names
    const jsm = await jetstreamManager(this.#peer(STORE_PEER), STORE_OPTIONS)
    await jsm.streams.add({
      name: names.stream,
      subjects: [names.stored],
      storage: StorageType.Memory,
      num_replicas: 1,
    })
    await jsm.consumers.add(names.stream, {
      durable_name: names.durable,
      ack_policy: AckPolicy.Explicit,
      ack_wait: ACK_WAIT_NS,
    })
    // a watch that was away for a second still finds every entry
    const options = { history: 64, storage: StorageType.Memory, replicas: 1 }
    await new Kvm(jetstream(this.#peer(STORE_PEER), STORE_OPTIONS)).create(names.bucket, options)
  }

  #peer(index: number): NatsConnection {
    const nc = this.#peers[index]
    if (nc === undefined) throw new TypeError(`expected ${PEERS} addresses, found ${this.#peers.length}`)
    return nc
  }

  #publisher(nc: NatsConnection, peer: number, flow: 'plain' | 'sole' | 'shared', subject: string) {
    const counts = this.#published[flow]
    return () => {
      const sequence = counts[peer] ?? 0
      counts[peer] = sequence + 1
      nc.publish(subject, encodePayload(peer, sequence))
    }
  }

  #ask(nc: NatsConnection, peer: number): void {
    const timeout = this.#options.patience ?? REQUEST_PATIENCE
    this.#asked[peer]?.start(async (sequence) => {
      const body = encodePayload(peer, sequence)
      const answer = await nc.request(this.#names.echo('moved'), body, { timeout })
      return Buffer.from(body).equals(answer.data)
    })
  }

  #store(js: JetStreamClient): void {
    const { stored } = this.#names
    this.#stored.start((sequence) =>
      js.publish(stored, encodePayload(STORE_PEER, sequence), { msgID: String(sequence) }),
    )
  }

  #put(kv: KV): void {
    this.#entries.start((sequence) => kv.put(this.#names.key, encodePayload(STORE_PEER, sequence)))
  }
}

/** Numbered messages that are acknowledged one by one. */
class Stored {
  readonly #pending = new Set<Promise<void>>()
  numbered = 0
  refused = 0

  start(store: (sequence: number) => Promise<unknown>): void {
    if (this.#pending.size >= MOST_PENDING) return
    const done = store(this.numbered++).then(
      () => {},
      () => {
        this.refused += 1
      },
    )
    this.#pending.add(done)
    void done.finally(() => this.#pending.delete(done))
  }

  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending)
  }
}

const zeros = (): number[] => Array.from({ length: PEERS }, () => 0)
const ofStorePeer = (count: number): number[] => zeros().map((_, i) => (i === STORE_PEER ? count : 0))

function joined(all: readonly RequestCounts[]): RequestCounts {
  const reasons: Record<string, number> = {}
  for (const counts of all) {
    for (const [reason, times] of Object.entries(counts.reasons))
      reasons[reason] = (reasons[reason] ?? 0) + times
  }
  const sum = (key: 'sent' | 'failed') => all.reduce((total, counts) => total + counts[key], 0)
  const slowestMs = Math.max(0, ...all.map((counts) => counts.slowestMs))
  return { sent: sum('sent'), failed: sum('failed'), reasons, slowestMs }
}

export async function connectPeer(
  address: string,
  { inboxPrefix, ...tls }: PeerAccess,
): Promise<NatsConnection> {
  const options = {
    ...tls,
    // the trust file holds authorities, no root
    allowPartialTrustChain: true,
    // the name to verify when the address is an IP address
    host: new URL(address).hostname,
  }
  return await connect({
    servers: address,
    inboxPrefix,
    tls: options,
    ignoreClusterUpdates: true,
    maxReconnectAttempts: -1,
  })
}

/** Asks until there is an answer. */
export async function untilAnswered(nc: Pick<LoadClient, 'request'>, subject: string): Promise<void> {
  const deadline = performance.now() + READY_WITHIN
  for (;;) {
    try {
      await nc.request(subject, '', { timeout: 1000 })
      return
    } catch (cause) {
      if (performance.now() > deadline) {
        throw new RotorError('ERR_NATS_UNAVAILABLE', `no answer on ${subject} within ${READY_WITHIN} ms`, {
          cause,
        })
      }
      await sleep(PAUSE)
    }
  }
}
