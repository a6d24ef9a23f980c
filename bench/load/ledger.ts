/**
 * What became of the numbered messages of a few publishers? Pure bookkeeping: a sequence in, counts out.
 *
 * Every publisher numbers its messages of a flow 0, 1, 2 ... A ledger only notes what arrived; it is compared with
 * what was published at the end. The notes of several receivers (members of a queue group) can be read as one.
 */

/** Plain data, so that it can be sent from one thread to another. */
export interface LedgerNotes {
  /** For each publisher, how often each number was seen (255 is "or more"). */
  readonly seen: readonly Uint8Array[]
  readonly total: number
  readonly reordered: number
  readonly corrupt: number
  readonly longestGapMs: number
}

export interface FlowCounts {
  readonly published: number
  /** Different messages. */
  readonly received: number
  readonly lost: number
  /** Messages beyond the first of their number. */
  readonly duplicated: number
  /** Arrived after a later message of the same publisher, at the same receiver. */
  readonly reordered: number
  /** Not what any publisher sent. */
  readonly corrupt: number
  /** Between two messages of the flow, whoever published them; of several receivers, the longest of any. */
  readonly longestGapMs: number
}

const ROOM = 1024
const MOST = 255

export class Ledger {
  readonly #seen: Uint8Array[]
  /** Length in use of each of `#seen`. */
  readonly #length: number[]
  #total = 0
  #reordered = 0
  #corrupt = 0
  #last: number | null = null
  #longestGap = 0

  constructor(publishers: number) {
    this.#seen = Array.from({ length: publishers }, () => new Uint8Array(ROOM))
    this.#length = Array.from({ length: publishers }, () => 0)
  }

  /** Every message that arrived, also those that arrived twice. */
  get total(): number {
    return this.#total
  }

  /** @param at milliseconds of a monotonic clock */
  take(publisher: number, sequence: number, at: number): void {
    const seen = this.#seen[publisher]
    const length = this.#length[publisher]
    if (seen === undefined || length === undefined || sequence < 0) {
      this.takeCorrupt()
      return
    }
    this.#total += 1
    if (this.#last !== null) this.#longestGap = Math.max(this.#longestGap, at - this.#last)
    this.#last = at
    const times = sequence < length ? (seen[sequence] ?? 0) : 0
    if (times === 0 && sequence < length) this.#reordered += 1
    const array = sequence < seen.length ? seen : this.#grow(publisher, sequence)
    array[sequence] = Math.min(MOST, times + 1)
    this.#length[publisher] = Math.max(length, sequence + 1)
  }

  /** A message that no publisher sent like this. */
  takeCorrupt(): void {
    this.#total += 1
    this.#corrupt += 1
  }

  /** Forgets the gaps so far: the next one begins at `at`. */
  restartGap(at: number): void {
    this.#last = at
    this.#longestGap = 0
  }

  notes(): LedgerNotes {
    return {
      seen: this.#seen.map((seen, i) => seen.slice(0, this.#length[i])),
      total: this.#total,
      reordered: this.#reordered,
      corrupt: this.#corrupt,
      longestGapMs: Math.round(this.#longestGap * 10) / 10,
    }
  }

  #grow(publisher: number, sequence: number): Uint8Array {
    const old = this.#seen[publisher]
    const grown = new Uint8Array(2 * (sequence + 1))
    if (old !== undefined) grown.set(old)
    this.#seen[publisher] = grown
    return grown
  }
}

/** `published[p]` messages were sent by publisher `p`: what did all receivers together make of them? */
export function readLedgers(receivers: readonly LedgerNotes[], published: readonly number[]): FlowCounts {
  let received = 0
  let duplicated = 0
  let unknown = 0
  for (const [publisher, count] of published.entries()) {
    const all = receivers.map(({ seen }) => seen[publisher] ?? new Uint8Array())
    const longest = Math.max(count, ...all.map((seen) => seen.length))
    for (let sequence = 0; sequence < longest; sequence++) {
      const times = all.reduce((sum, seen) => sum + (seen[sequence] ?? 0), 0)
      if (sequence >= count) unknown += times
      else if (times > 0) {
        received += 1
        duplicated += times - 1
      }
    }
  }
  const sum = published.reduce((a, b) => a + b, 0)
  return {
    published: sum,
    received,
    lost: sum - received,
    duplicated,
    reordered: receivers.reduce((total, { reordered }) => total + reordered, 0),
    corrupt: receivers.reduce((total, { corrupt }) => total + corrupt, unknown),
    longestGapMs: Math.max(0, ...receivers.map(({ longestGapMs }) => longestGapMs)),
  }
}

export interface RequestCounts {
  readonly sent: number
  readonly failed: number
  /** Reason to how often. */
  readonly reasons: Readonly<Record<string, number>>
  /** Of those that were answered. */
  readonly slowestMs: number
}

/** Requests of one side: each is asked once, and what does not come back right has failed. */
export class Requests {
  readonly #under: Set<Promise<void>> = new Set()
  readonly #reasons = new Map<string, number>()
  #sent = 0
  #slowest = 0

  get sent(): number {
    return this.#sent
  }

  /** `ask` gets the number of the request and says whether the answer was right. Never throws. */
  start(ask: (sequence: number) => Promise<boolean>): void {
    const sequence = this.#sent++
    const began = performance.now()
    const done = ask(sequence).then(
      (right) => {
        if (right) this.#slowest = Math.max(this.#slowest, performance.now() - began)
        else this.#fail('wrong answer')
      },
      (error: unknown) => this.#fail(error instanceof Error ? error.message : String(error)),
    )
    this.#under.add(done)
    void done.finally(() => this.#under.delete(done))
  }

  /** Nothing is under way any more. */
  async settled(): Promise<void> {
    while (this.#under.size > 0) await Promise.all(this.#under)
  }

  counts(): RequestCounts {
    return {
      sent: this.#sent,
      failed: [...this.#reasons.values()].reduce((a, b) => a + b, 0),
      reasons: Object.fromEntries(this.#reasons),
      slowestMs: Math.round(this.#slowest * 10) / 10,
    }
  }

  #fail(reason: string): void {
    this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1)
  }
}
