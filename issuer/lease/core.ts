/** The lease without its I/O: what to read or write next, and what the answers mean. Its owner does one thing at a time. */
import type { Duration, Tick } from '../../src/time.ts'
import type { LeaseRecord } from '../../src/wire/lease.ts'
import { leadsFor, renewed, renewIn, type Sighting, type Tenure, takeIn, taken } from './decide.ts'

export interface LeaseWrite {
  readonly kind: 'write'
  readonly record: LeaseRecord
  /** The one it follows; 0 when there is none. */
  readonly revision: number
  /** When it was decided. */
  readonly asked: Tick
}

export type LeaseWish =
  | { readonly kind: 'read' }
  | LeaseWrite
  | { readonly kind: 'wait'; readonly ms: Duration }

export interface LeaseIdentity {
  readonly name: string
  /** Of this process, like no other. */
  readonly instance: string
  /** Milliseconds. */
  readonly duration: Duration
}

export class LeaseCore {
  readonly #self: LeaseIdentity
  #sighting: Sighting | null = null
  /** What we saw is of this moment. */
  #looked = false
  #tenure: Tenure | null = null
  /** The highest fencing number that we know of. */
  #fence = 0
  #hasLed = false

  constructor(self: LeaseIdentity) {
    this.#self = self
  }

  /** Our fencing number while it is certain that we lead; null otherwise. */
  fence(now: Tick): number | null {
    return this.#tenure !== null && leadsFor(this.#tenure, now) > 0 ? this.#tenure.record.fence : null
  }

  /** Who led when we looked last; null when nobody did. */
  get holder(): string | null {
    return (this.#tenure?.record ?? this.#sighting?.record)?.holder ?? null
  }

  get tenure(): Tenure | null {
    return this.#tenure
  }

  wish(now: Tick): LeaseWish {
    const tenure = this.#tenure
    if (tenure !== null && this.#looked) {
      const ms = renewIn(tenure, now)
      if (ms > 0) return { kind: 'wait', ms }
      return { kind: 'write', record: renewed(tenure, now), revision: tenure.revision, asked: now }
    }
    const sighting = this.#sighting
    if (!this.#looked || sighting === null) return { kind: 'read' }
    const candidate = { ...this.#self, fence: this.#fence, hasLed: this.#hasLed }
    const ms = takeIn(sighting, candidate, now)
    this.#looked = false
    if (ms > 0) return { kind: 'wait', ms }
    const record = taken(sighting, candidate, now)
    // the number is used up, whatever becomes of the write
    this.#fence = record.fence
    return { kind: 'write', record, revision: sighting.revision, asked: now }
  }

  /** What was read; `revision` 0: there is no record. */
  read(record: LeaseRecord | null, revision: number, now: Tick): void {
    this.#looked = true
    this.#fence = Math.max(this.#fence, record?.fence ?? 0)
    // any other revision is news, a lower one too: the bucket was made anew
    if (this.#sighting === null || this.#sighting.revision !== revision) {
      this.#sighting = { record, revision, since: now.mono }
    }
    const tenure = this.#tenure
    if (tenure === null) return
    const ours =
      record?.instance === this.#self.instance &&
      record.fence === tenure.record.fence &&
      record.holder !== null
    // a write of ours whose answer got lost
    if (ours) this.#tenure = { record, revision, confirmed: tenure.confirmed, renew: true }
    else this.lose()
  }

  /** The server took it. */
  written({ record, asked }: LeaseWrite, revision: number): void {
    // meanwhile it turned out that another one is ahead
    if (record.fence < this.#fence) {
      this.lose()
      return
    }
    this.#hasLed = true
    this.#looked = true
    this.#tenure = { record, revision, confirmed: asked }
  }

  /** It was refused, or its outcome is not known: the next wish is to look. */
  failed(): void {
    this.#looked = false
  }

  /** Somebody wrote with this number, which is above ours. */
  outrun(fence: number): void {
    this.#fence = Math.max(this.#fence, fence)
    this.lose()
  }

  lose(): void {
    this.#tenure = null
    this.#sighting = null
    this.#looked = false
  }
}
