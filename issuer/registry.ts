/**
 * Who belongs to the domain now? The entries of the configuration, and beside them the records of nodes that joined by a
 * pattern or were removed, kept current by a watch on the state bucket.
 */
import { jetstream } from '@nats-io/jetstream'
import { type KV, Kvm, type KvWatchEntry } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { type AgentEntry, entryFor } from '../src/domain/agents.ts'
import { membersOf } from '../src/domain/members.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { keysUnder } from '../src/nats/bucket.ts'
import type { Attachment } from '../src/nats/link.ts'
import { MEMBER_PREFIX, type MemberRecord, memberKey, memberRecord } from '../src/wire/enrolment.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../src/wire/record.ts'
import { liveWatch } from './live-watch.ts'
import { conflictOr } from './store.ts'

export interface StoredMember {
  readonly record: MemberRecord | null
  /** 0 when there is none. */
  readonly revision: number
}

export class Registry {
  readonly #names: DomainNames
  readonly #entries: readonly AgentEntry[]
  readonly #logger: Logger
  readonly #changed: () => void
  readonly #records = new Map<string, { record: MemberRecord; revision: number }>()
  #members: readonly AgentEntry[]
  /** All records have been read once. */
  #loaded = false

  constructor(
    names: DomainNames,
    entries: readonly AgentEntry[],
    logger: Logger,
    changed: () => void = () => {},
  ) {
    this.#names = names
    this.#entries = entries
    this.#logger = logger
    this.#changed = changed
    this.#members = membersOf(entries, [])
  }

  /** Every agent of the domain, with its policy: those a rotation waits for. */
  members(): readonly AgentEntry[] {
    return this.#members
  }

  isRemoved(agent: string): boolean {
    return this.#records.get(agent)?.record.state === 'removed'
  }

  /** Throws ERR_AGENT_REMOVED. */
  assertNotRemoved(agent: string): void {
    if (this.isRemoved(agent)) {
      throw new RotorError('ERR_AGENT_REMOVED', `${agent} was removed from ${this.#names.domain}`)
    }
  }

  /** The policy of an agent that may be signed for. Throws ERR_AGENT_REMOVED, ERR_SIGN_REFUSED, ERR_SIGN_BUSY. */
  entryOf(agent: string): AgentEntry {
    // who was removed is not known yet
    if (!this.#loaded) throw new RotorError('ERR_SIGN_BUSY', 'the issuer is starting')
    this.assertNotRemoved(agent)
    return this.policyOf(agent)
  }

  /** The policy for this name, whether it is a member or not. Throws ERR_SIGN_REFUSED. */
  policyOf(agent: string): AgentEntry {
    const entry = entryFor(this.#entries, agent)
    if (entry === null) throw new RotorError('ERR_SIGN_REFUSED', 'this agent is not registered')
    return entry
  }

  /** The record as it is stored now. */
  async read(nc: NatsConnection, agent: string): Promise<StoredMember> {
    const entry = await (await this.#bucket(nc)).get(memberKey(agent))
    if (entry === null || entry.operation !== 'PUT')
      return { record: null, revision: entry === null ? 0 : entry.revision }
    const record = decodeRecord(memberRecord, entry.value, `${this.#names.stateBucket}/${entry.key}`)
    return { record, revision: entry.revision }
  }

  /** Writes it if nobody wrote it since `revision`. Throws ERR_STATE_CONFLICT. */
  async write(nc: NatsConnection, record: MemberRecord, revision: number): Promise<void> {
    const key = memberKey(record.agent)
    try {
      const kv = await this.#bucket(nc)
      const bytes = encodeRecord(record)
      const written = await (revision === 0 ? kv.create(key, bytes) : kv.update(key, bytes, revision))
      this.#set(record, written)
    } catch (cause) {
      throw conflictOr(cause, `${this.#names.stateBucket}/${key}: somebody wrote after revision ${revision}`)
    }
  }

  /** Watches the records. When it returns, those that are there have been read: a removed agent stays removed. */
  readonly attachment: Attachment = async (nc) => {
    const known = await keysUnder(nc, this.#names.stateBucket, MEMBER_PREFIX)
    const first = Promise.withResolvers<void>()
    if (known.length === 0) first.resolve()
    const stop = await liveWatch(nc, {
      bucket: this.#names.stateBucket,
      key: `${MEMBER_PREFIX}*`,
      take: (entry) => {
        this.#take(entry)
        if (entry.isUpdate) first.resolve()
      },
      ended: () =>
        first.reject(new RotorError('ERR_NATS_UNAVAILABLE', 'the watch on the members ended too soon')),
      logger: this.#logger,
    })
    try {
      await first.promise
    } catch (cause) {
      await stop()
      throw cause
    }
    this.#loaded = true
    return stop
  }

  async #bucket(nc: NatsConnection): Promise<KV> {
    return new Kvm(jetstream(nc, { timeout: 5000 })).open(this.#names.stateBucket)
  }

  #take(entry: KvWatchEntry): void {
    if (entry.operation !== 'PUT') return
    try {
      this.#set(
        decodeRecord(memberRecord, entry.value, `${this.#names.stateBucket}/${entry.key}`),
        entry.revision,
      )
    } catch (cause) {
      const error = RotorError.from(cause)
      this.#logger.warn({ code: error.code, key: entry.key, err: error.message }, 'a member is not readable')
    }
  }

  #set(record: MemberRecord, revision: number): void {
    if ((this.#records.get(record.agent)?.revision ?? 0) >= revision) return
    this.#records.set(record.agent, { record, revision })
    this.#members = membersOf(
      this.#entries,
      [...this.#records.values()].map((each) => each.record),
    )
    this.#changed()
  }
}
