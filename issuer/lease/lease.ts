/**
 * The lease on the state bucket: one issuer leads, the others stand by and take over when it is gone. Every change is a
 * compare-and-set, so a fencing number is given once. No expiry by the server (per-key TTL, nats-server 2.11): safety could
 * not rest on it, and without it every server is treated alike.
 */
import { randomBytes } from 'node:crypto'
import { jetstream } from '@nats-io/jetstream'
import { type KV, Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { Bell } from '../../src/bell.ts'
import { type ClockReading, clockReading } from '../../src/clock-reading.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { Attachment, Link } from '../../src/nats/link.ts'
import { Backoff } from '../../src/tasks.ts'
import { type Clock, type Duration, sleep, type Tick, tickOf } from '../../src/time.ts'
import { LEASE_KEY, type LeaseRecord, leaseRecord } from '../../src/wire/lease.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../../src/wire/record.ts'
import { liveWatch } from '../live-watch.ts'
import { conflictOr } from '../store.ts'
import { LeaseCore } from './core.ts'
import { renewed } from './decide.ts'

export interface LeaseOptions {
  readonly names: DomainNames
  /** Of this issuer. */
  readonly name: string
  /** Milliseconds. */
  readonly duration: Duration
  readonly clock: Clock
  readonly logger: Logger
  /** Called when another one leads than before: we, somebody else, nobody. */
  readonly changed: () => void
}

/** Longest wait for one write or read, milliseconds: a lease is not held by an answer that comes late. */
const ANSWER: Duration = 3_000
/** By how much our clocks may part before we compare with the server again, milliseconds. */
const STEP: Duration = 500

export class Lease {
  readonly #options: LeaseOptions
  readonly #bell = new Bell()
  readonly #core: LeaseCore
  #told = ''
  /** Our clock against that of the server that keeps the lease; null before the first write. */
  #serverClock: { readonly reading: ClockReading; readonly apart: number } | null = null

  constructor(options: LeaseOptions) {
    this.#options = options
    const { name, duration } = options
    this.#core = new LeaseCore({ name, duration, instance: randomBytes(8).toString('hex') })
  }

  /** Our fencing number while it is certain that we lead; null otherwise. */
  get fence(): number | null {
    return this.#core.fence(this.#now())
  }

  /** Who led when we looked last; null when nobody did. */
  get holder(): string | null {
    return this.#core.holder
  }

  /** Our clock against that of nats-server: of the last time one of ours was set, or of the beginning. */
  get serverClock(): ClockReading | null {
    return this.#serverClock?.reading ?? null
  }

  /** Before anything that a former leader must not do. Throws ERR_STATE_CONFLICT. */
  assertLeads(fence: number): void {
    if (this.fence === fence) return
    throw new RotorError(
      'ERR_STATE_CONFLICT',
      `${this.#options.names.stateBucket}/${LEASE_KEY}: expected to lead with the fencing number ${fence}, and the lease is not certain any more`,
    )
  }

  /** Somebody wrote with this number, which is above ours: we do not lead, and the next number is above it. */
  outrun(fence: number): void {
    this.#core.outrun(fence)
    this.#tell()
    this.#bell.ring()
  }

  /** Others change the record: who stands by knows at once. */
  readonly attachment: Attachment = (nc) => {
    const { names, logger } = this.#options
    return liveWatch(nc, {
      bucket: names.stateBucket,
      key: LEASE_KEY,
      take: ({ revision }) => {
        if (revision !== this.#core.tenure?.revision) this.#bell.ring()
      },
      logger,
    })
  }

  /** Takes the lease when it may, and renews it, until `signal` aborts. It is not given back by that: see `release`. */
  async run(link: Pick<Link, 'ready'>, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ base: 50, max: Math.min(1_000, this.#options.duration / 8) })
    while (!signal.aborted) {
      try {
        const wait = await this.#step(await link.ready(signal))
        backoff.reset()
        this.#tell()
        await this.#bell.wait(wait, signal)
      } catch (cause) {
        if (signal.aborted) break
        const error = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
        this.#options.logger.debug({ code: error.code, err: error.message }, 'the lease was not settled yet')
        this.#tell()
        await sleep(backoff.next(), signal).catch(() => {})
      }
    }
  }

  /** Gives the lease back, so that another issuer leads at once. When that fails, it leads after the lease has ended. */
  async release(nc: NatsConnection): Promise<void> {
    const { tenure } = this.#core
    if (tenure === null) return
    this.#core.lose()
    this.#tell()
    const { logger } = this.#options
    try {
      const record = { ...renewed(tenure, this.#now()), holder: null }
      await this.#write(await this.#bucket(nc), record, tenure.revision)
      logger.info({ fence: record.fence }, 'the lease was given back')
    } catch (cause) {
      logger.debug({ err: String(cause) }, 'the lease could not be given back')
    }
  }

  /** Does what is to be done, and returns when to look again. */
  async #step(nc: NatsConnection): Promise<Duration> {
    const kv = await this.#bucket(nc)
    for (;;) {
      const wish = this.#core.wish(this.#now())
      if (wish.kind === 'wait') return wish.ms
      try {
        if (wish.kind === 'read') await this.#read(kv)
        else {
          const revision = await this.#write(kv, wish.record, wish.revision)
          await this.#compareClocks(kv, wish.asked, revision)
          this.#core.written(wish, revision)
        }
      } catch (cause) {
        this.#core.failed()
        if (RotorError.from(cause).code !== 'ERR_STATE_CONFLICT') throw cause
      }
    }
  }

  async #read(kv: KV): Promise<void> {
    const { names } = this.#options
    const entry = await kv.get(LEASE_KEY)
    const record =
      entry === null || entry.operation !== 'PUT'
        ? null
        : decodeRecord(leaseRecord, entry.value, `${names.stateBucket}/${LEASE_KEY}`)
    this.#core.read(record, entry?.revision ?? 0, this.#now())
  }

  /** The server writes down when it stored a record. Asked for again when our two clocks have parted: ours was set. */
  async #compareClocks(kv: KV, asked: Tick, revision: number): Promise<void> {
    const heard = this.#now()
    const apart = heard.wall - heard.mono
    if (this.#serverClock !== null && Math.abs(apart - this.#serverClock.apart) < STEP) return
    const entry = await kv.get(LEASE_KEY, { revision }).catch(() => null)
    // the next write asks again
    if (entry === null) return
    this.#serverClock = { reading: clockReading(asked, heard, entry.created.getTime()), apart }
  }

  async #write(kv: KV, record: LeaseRecord, revision: number): Promise<number> {
    try {
      const bytes = encodeRecord(record)
      return revision === 0 ? await kv.create(LEASE_KEY, bytes) : await kv.update(LEASE_KEY, bytes, revision)
    } catch (cause) {
      const { stateBucket } = this.#options.names
      throw conflictOr(cause, `${stateBucket}/${LEASE_KEY}: another issuer wrote after revision ${revision}`)
    }
  }

  async #bucket(nc: NatsConnection): Promise<KV> {
    const timeout = Math.min(ANSWER, this.#options.duration / 2)
    return new Kvm(jetstream(nc, { timeout })).open(this.#options.names.stateBucket)
  }

  #tell(): void {
    const now = `${this.#core.tenure?.record.fence ?? 0} ${this.holder}`
    if (now === this.#told) return
    this.#told = now
    this.#options.changed()
  }

  #now(): Tick {
    return tickOf(this.#options.clock)
  }
}
