/** A loop's bell: many may ring it, the loop waits for it or for a time, and no ring is ever lost. */
import type { Duration } from './time.ts'

const LONGEST: Duration = 60_000

export class Bell {
  #rung = false
  #wake: (() => void) | null = null

  ring(): void {
    this.#rung = true
    this.#wake?.()
  }

  /**
   * Returns when rung (also before the call) or after `timeout` milliseconds, a minute at most; rejects when `signal`
   * aborts. One waiter at a time.
   */
  async wait(timeout: Duration, signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const end = () => {
          clearTimeout(timer)
          signal.removeEventListener('abort', end)
          this.#wake = null
          resolve()
        }
        const timer = setTimeout(end, Math.min(timeout, LONGEST))
        signal.addEventListener('abort', end, { once: true })
        this.#wake = end
      })
    }
    this.#rung = false
    signal.throwIfAborted()
  }
}
