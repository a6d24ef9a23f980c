/** Messages between processes: late, out of order, lost, twice, and not at all while a machine is cut off. */
import { RotorError } from '../../../src/errors.ts'
import type { Duration, Instant } from '../../../src/time.ts'
import type { Random } from '../random.ts'
import type { SimulatedProcess, Timeline } from './timeline.ts'

export interface NetworkQuality {
  /** Of each message, one way. */
  readonly loss: number
  readonly twice: number
  /** Usual delay; one of twenty messages takes twenty times as long. */
  readonly delay: Duration
}

export class Network {
  quality: NetworkQuality
  readonly #timeline: Timeline
  readonly #random: Random
  /** Machines nobody reaches until then. */
  readonly #cut = new Map<string, Instant>()

  constructor(timeline: Timeline, random: Random, quality: NetworkQuality) {
    this.#timeline = timeline
    this.#random = random
    this.quality = quality
  }

  cut(machine: string, until: Instant): void {
    this.#cut.set(machine, until)
  }

  mend(): void {
    this.#cut.clear()
  }

  isCut(machine: string): boolean {
    return (this.#cut.get(machine) ?? 0) > this.#timeline.now
  }

  delay(): Duration {
    const { delay } = this.quality
    return Math.ceil((this.#random.next() * 2 + 0.1) * delay * (this.#random.chance(0.05) ? 20 : 1))
  }

  /**
   * One way between the servers and this process. `to` is who gets it: null for the servers. `work` runs when it
   * arrives, never when it is lost.
   */
  send(machine: string, to: SimulatedProcess | null, label: string, work: () => void): void {
    const { loss, twice } = this.quality
    if (this.isCut(machine)) return
    const copies = this.#random.chance(loss) ? 0 : this.#random.chance(twice) ? 2 : 1
    for (let i = 0; i < copies; i++) {
      this.#timeline.in(this.delay(), to, label, () => {
        if (!this.isCut(machine)) work()
      })
    }
  }

  /** A request of this process to the servers. `work` is done there in one piece; its answer may get lost, too. */
  ask<T>(from: SimulatedProcess, label: string, timeout: Duration, work: () => T): Promise<T> {
    return this.askLater(from, label, timeout, (answer, refuse) => {
      try {
        answer(work())
      } catch (cause) {
        refuse(cause)
      }
    })
  }

  /** The same, answered by somebody who takes time. */
  askLater<T>(
    from: SimulatedProcess,
    label: string,
    timeout: Duration,
    work: (answer: (value: T) => void, refuse: (cause: unknown) => void) => void,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const { name } = from.machine
    const patience = this.#timeline.in(timeout, from, '', () =>
      reject(new RotorError('ERR_NATS_UNAVAILABLE', `${label}: no answer within ${timeout} ms`)),
    )
    const back = (end: () => void): void =>
      this.send(name, from, '', () => {
        patience.cancelled = true
        end()
      })
    this.send(name, null, '', () => {
      work(
        (value) => back(() => resolve(value)),
        (cause) => back(() => reject(cause)),
      )
    })
    return promise
  }
}
