/** The join tokens of the domain: records in the state bucket, each changed by compare-and-set, and what they allow. */
import { timingSafeEqual } from 'node:crypto'
import { jetstream } from '@nats-io/jetstream'
import { type KV, Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { keysUnder } from '../../src/nats/bucket.ts'
import type { Duration, Instant } from '../../src/time.ts'
import { TOKEN_PREFIX, type TokenRecord, tokenKey, tokenRecord } from '../../src/wire/enrolment.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../../src/wire/record.ts'
import { conflictOr } from '../store.ts'

/** Records of tokens that have ended are kept this long, so that a list shows what became of them. */
const KEEP_ENDED: Duration = 24 * 3_600_000

export interface StoredToken {
  readonly record: TokenRecord
  readonly revision: number
}

/** What the list shows. Pure. */
export function stateOf(record: TokenRecord, now: Instant): 'open' | 'redeemed' | 'expired' | 'revoked' {
  if (record.revoked !== null) return 'revoked'
  if (record.redeemed !== null) return 'redeemed'
  return now >= record.expiresAt ? 'expired' : 'open'
}

/**
 * Why a secret does not open this record now; null when it does. The comparison takes the same time for every secret,
 * and a record that is not there is compared, too. Pure; the reason is for our log, never for who asks.
 */
export function problemOf(record: TokenRecord | null, secretSha256: string, now: Instant): string | null {
  const stored = Buffer.from(record?.secretSha256 ?? '0'.repeat(64), 'hex')
  const same = timingSafeEqual(stored, Buffer.from(secretSha256, 'hex'))
  if (record === null) return 'there is no such token'
  if (!same) return 'the secret is wrong'
  if (record.revoked !== null) return 'it was revoked'
  return now >= record.expiresAt ? 'it has expired' : null
}

/** The same for the key of the request: a redeemed token still answers the key it was redeemed for. Pure. */
export const problemOfKey = ({ redeemed }: TokenRecord, spkiSha256: string): string | null =>
  redeemed === null || redeemed.spkiSha256 === spkiSha256 ? null : 'it was redeemed before, for another key'

export class Tokens {
  readonly #names: DomainNames

  constructor(names: DomainNames) {
    this.#names = names
  }

  async read(nc: NatsConnection, id: string): Promise<StoredToken | null> {
    return this.#get(await this.#bucket(nc), tokenKey(id))
  }

  /** Throws ERR_STATE_CONFLICT when there is one with this id. */
  async create(nc: NatsConnection, record: TokenRecord): Promise<void> {
    await this.#write(nc, record, 0)
  }

  /** Writes it if nobody wrote it since `revision`. Throws ERR_STATE_CONFLICT. */
  async update(nc: NatsConnection, record: TokenRecord, revision: number): Promise<void> {
    await this.#write(nc, record, revision)
  }

  /** All of them, oldest first. Forgets those that ended a day ago. */
  async list(nc: NatsConnection, now: Instant): Promise<StoredToken[]> {
    const kv = await this.#bucket(nc)
    const keys = await keysUnder(nc, this.#names.stateBucket, TOKEN_PREFIX)
    const found = await Promise.all(keys.map((key) => this.#get(kv, key)))
    const kept: StoredToken[] = []
    for (const stored of found) {
      if (stored === null) continue
      if (now - stored.record.expiresAt > KEEP_ENDED) await kv.purge(tokenKey(stored.record.id))
      else kept.push(stored)
    }
    return kept.sort((a, b) => a.record.createdAt - b.record.createdAt)
  }

  async #get(kv: KV, key: string): Promise<StoredToken | null> {
    const entry = await kv.get(key)
    if (entry === null || entry.operation !== 'PUT') return null
    const record = decodeRecord(tokenRecord, entry.value, `${this.#names.stateBucket}/${key}`)
    return { record, revision: entry.revision }
  }

  async #write(nc: NatsConnection, record: TokenRecord, revision: number): Promise<void> {
    const key = tokenKey(record.id)
    try {
      const kv = await this.#bucket(nc)
      const bytes = encodeRecord(record)
      await (revision === 0 ? kv.create(key, bytes) : kv.update(key, bytes, revision))
    } catch (cause) {
      throw conflictOr(cause, `${this.#names.stateBucket}/${key}: somebody wrote after revision ${revision}`)
    }
  }

  async #bucket(nc: NatsConnection): Promise<KV> {
    return new Kvm(jetstream(nc, { timeout: 5000 })).open(this.#names.stateBucket)
  }
}
