/** What the agents say of themselves, kept current by a watch on the status bucket. */
import type { KvWatchEntry } from '@nats-io/kv'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import type { Attachment } from '../src/nats/link.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord } from '../src/wire/record.ts'
import { type AgentStatus, agentStatus } from '../src/wire/status.ts'
import { liveWatch } from './live-watch.ts'

export class Statuses {
  readonly #byAgent = new Map<string, { status: AgentStatus; revision: number }>()
  readonly #names: DomainNames
  readonly #logger: Logger
  readonly #changed: (status: AgentStatus) => void

  constructor(names: DomainNames, logger: Logger, changed: (status: AgentStatus) => void) {
    this.#names = names
    this.#logger = logger
    this.#changed = changed
  }

  get(agent: string): AgentStatus | null {
    return this.#byAgent.get(agent)?.status ?? null
  }

  /** Of an agent that was removed: what it said counts no more. */
  forget(agent: string): void {
    this.#byAgent.delete(agent)
  }

  all(): AgentStatus[] {
    return [...this.#byAgent.values()].map((entry) => entry.status)
  }

  /** Watches the bucket on a connection of the link. */
  readonly attachment: Attachment = (nc) =>
    liveWatch(nc, {
      bucket: this.#names.statusBucket,
      take: (entry) => this.#take(entry),
      logger: this.#logger,
    })

  /** A record that does not fit, or says another name than its key, is as if the agent had said nothing. */
  #take(entry: KvWatchEntry): void {
    if (entry.operation !== 'PUT') return
    const known = this.#byAgent.get(entry.key)
    if (known !== undefined && known.revision >= entry.revision) return
    try {
      const status = decodeRecord(agentStatus, entry.value, `${this.#names.statusBucket}/${entry.key}`)
      if (status.agent !== entry.key) {
        throw new RotorError('ERR_RECORD_INVALID', `${entry.key}: the record says it is of ${status.agent}`)
      }
      this.#byAgent.set(entry.key, { status, revision: entry.revision })
      this.#changed(status)
    } catch (cause) {
      const error = RotorError.from(cause)
      this.#logger.warn(
        { code: error.code, agent: entry.key, err: error.message },
        'a status record was not taken',
      )
    }
  }
}
