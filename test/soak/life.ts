/**
 * What one life of a service published, and what of it arrived: from its start to its end, or to when it was killed. A service
 * that is started again numbers its messages from 0 again.
 */
import { Ledger, readLedgers } from '../../bench/load/ledger.ts'

/** What a service has told so far of this life; every number only grows. */
export interface Told {
  /** Core messages published: 0 to `core - 1`. */
  readonly core: number
  readonly requests: { readonly sent: number; readonly failed: number }
}

interface Stored {
  /** Sequence on the stream. */
  readonly sequence: number
  /** In which rotation it came. */
  readonly rotation: number
}

/** What belongs to a rotation that is over. */
export interface Share {
  readonly core: Record<'published' | 'duplicated' | 'reordered', number>
  /** Numbers of core messages that did not arrive. */
  readonly lost: readonly number[]
  readonly acknowledged: number
  /** Numbers of acknowledged messages that did not arrive. */
  readonly owed: readonly number[]
  readonly requests: Record<'sent' | 'failed', number>
}

export class Life {
  /** It was killed: what it told last is all that it will ever tell. */
  over = false
  #told: Told = { core: 0, requests: { sent: 0, failed: 0 } }
  /** When it told so, since the last closing: then all of these had been published. */
  #tellings: { readonly core: number; readonly at: number }[] = []
  readonly #core = new Ledger(1)
  readonly #stored = new Map<number, Stored>()
  /** Acknowledged to it, and not arrived yet. */
  readonly #owed = new Set<number>()
  /** Those of them that have to arrive before the account is closed. */
  #due: readonly number[] = []
  #acknowledged = 0
  /** Of them, those that belong to the rotation that is over, and to those before. */
  #marked = 0
  #closed = { core: 0, duplicated: 0, reordered: 0, acknowledged: 0, sent: 0, failed: 0 }

  get told(): Told {
    return this.#told
  }

  /** @param at milliseconds of a monotonic clock */
  tells(told: Told, at: number): void {
    this.#told = told
    this.#tellings.push({ core: told.core, at })
  }

  acknowledged(numbers: readonly number[]): void {
    for (const number of numbers) if (!this.#stored.has(number)) this.#owed.add(number)
    this.#acknowledged += numbers.length
  }

  received(number: number, at: number): void {
    this.#core.take(0, number, at)
  }

  /** Returns how it came the first time, null when this is the first time. */
  stored(number: number, now: Stored): Stored | null {
    this.#owed.delete(number)
    const first = this.#stored.get(number) ?? null
    if (first === null) this.#stored.set(number, now)
    return first
  }

  /** What was acknowledged until now belongs to the rotation that is over. */
  mark(): void {
    this.#due = [...this.#owed]
    this.#marked = this.#acknowledged
  }

  /** Core messages of this rotation, up to what had been told then, that did not arrive. */
  missing({ core }: Told): number[] {
    const [seen = new Uint8Array()] = this.#core.notes().seen
    const { core: from } = this.#closed
    return Array.from({ length: Math.max(0, core - from) }, (_, i) => from + i).filter(
      (number) => (seen[number] ?? 0) === 0,
    )
  }

  owing(): number[] {
    return this.#due.filter((number) => this.#owed.has(number))
  }

  /** When it had published this message of the present rotation at the latest; null when it never told. */
  publishedAt(number: number): number | null {
    return this.#tellings.find(({ core }) => core > number)?.at ?? null
  }

  /** What is in it is told once: the next share begins where this one ends. */
  close(told: Told): Share {
    const lost = this.missing(told)
    const owed = this.owing()
    const now = readLedgers([this.#core.notes()], [told.core])
    const closed = this.#closed
    for (const number of owed) this.#owed.delete(number)
    this.#due = []
    this.#tellings = []
    this.#closed = {
      core: told.core,
      duplicated: now.duplicated,
      reordered: now.reordered,
      acknowledged: this.#marked,
      ...told.requests,
    }
    return {
      core: {
        published: told.core - closed.core,
        duplicated: now.duplicated - closed.duplicated,
        reordered: now.reordered - closed.reordered,
      },
      lost,
      acknowledged: this.#marked - closed.acknowledged,
      owed,
      requests: {
        sent: told.requests.sent - closed.sent,
        failed: told.requests.failed - closed.failed,
      },
    }
  }

  /** Core messages that arrived and were never told of. */
  beyond(): number {
    return readLedgers([this.#core.notes()], [this.#told.core]).corrupt
  }
}
