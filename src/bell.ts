/** A loop's bell: many may ring it, the loop waits for it or for a time, and no ring is ever lost. */
import { type Duration, sleep } from './time.ts'

export class Bell {
  #rung = false
  #wake: (() => void) | null = null

  ring(): void {
    this.#rung = true
    this.#wake?.()
  }

  /** Returns when rung (also before the call), after `timeout` milliseconds, or rejects when `signal` aborts. */
  async wait(timeout: Duration, signal: AbortSignal): Promise<void> {
    if (!this.#rung) {
      const done = new AbortController()
      const rung = new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      const timer = sleep(timeout, AbortSignal.any([signal, done.signal])).catch(() => {})
      await Promise.race([rung, timer])
      done.abort()
      await timer
      this.#wake = null
    }
    this.#rung = false
    signal.throwIfAborted()
  }
}
