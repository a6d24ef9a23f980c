/** One run at a time; while it runs only the best waiting item is kept. */
import PQueue from 'p-queue'

export interface SingleFlightOptions<T> {
  /** Must not throw. */
  readonly run: (item: T) => Promise<void>
  /** Which of two waiting items is kept. */
  readonly better: (waiting: T, offered: T) => T
  /** Gets every item that another one replaced before its run. */
  readonly superseded: (item: T, by: T) => void
}

export class SingleFlight<T> {
  readonly #queue = new PQueue({ concurrency: 1 })
  readonly #options: SingleFlightOptions<T>
  #waiting: { item: T } | null = null

  constructor(options: SingleFlightOptions<T>) {
    this.#options = options
  }

  /** Runs `item` when nothing else runs, unless a better one waits or comes until then. */
  offer(item: T): void {
    if (this.#waiting !== null) {
      const waiting = this.#waiting.item
      const kept = this.#options.better(waiting, item)
      this.#waiting.item = kept
      this.#options.superseded(kept === waiting ? item : waiting, kept)
      return
    }
    const place = { item }
    this.#waiting = place
    void this.#queue.add(async () => {
      // From here on a newer item waits behind this one; nothing awaits between the reset and the run.
      this.#waiting = null
      await this.#options.run(place.item)
    })
  }

  /** Resolves when nothing runs and nothing waits. */
  async idle(): Promise<void> {
    await this.#queue.onIdle()
  }
}
