/** All chance of a run, from one number: the same seed gives the same run on every machine. */

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
    // the first numbers of near seeds are near each other
    for (let i = 0; i < 4; i++) this.next()
  }

  /** In `[0, 1)`. Mulberry32: 32 bits of state, enough for runs of some ten thousand draws. */
  readonly next = (): number => {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** A whole number, both ends included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1))
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.int(0, items.length - 1)]
    if (item === undefined) throw new TypeError('expected something to pick from')
    return item
  }

  /** Waiting time until the next of events that come every `mean` on average. */
  until(mean: number): number {
    return Math.ceil(-Math.log(1 - this.next()) * mean)
  }

  /** A stream of its own: what draws from it changes nothing for the others. */
  fork(): Random {
    return new Random(Math.floor(this.next() * 2 ** 32))
  }
}
