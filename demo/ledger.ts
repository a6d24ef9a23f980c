/** Counting what arrived: pure bookkeeping of numbered messages of one publisher. */

export interface Received {
  /** Different numbers seen. */
  readonly received: number
  readonly duplicated: number
  /** Arrived after a higher number. */
  readonly reordered: number
}

/** Numbers are 1, 2, 3 ... without gaps at the publisher. */
export class Ledger {
  /** Every number up to this one was seen. */
  #complete = 0
  readonly #beyond = new Set<number>()
  #highest = 0
  #duplicated = 0
  #reordered = 0

  take(number: number): void {
    if (number <= this.#complete || this.#beyond.has(number)) {
      this.#duplicated += 1
      return
    }
    if (number < this.#highest) this.#reordered += 1
    this.#highest = Math.max(this.#highest, number)
    this.#beyond.add(number)
    while (this.#beyond.delete(this.#complete + 1)) this.#complete += 1
  }

  get counts(): Received {
    return {
      received: this.#complete + this.#beyond.size,
      duplicated: this.#duplicated,
      reordered: this.#reordered,
    }
  }
}
