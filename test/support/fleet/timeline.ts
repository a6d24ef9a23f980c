/**
 * Virtual time, and processes that live in it. One event runs at a time, to the end of everything it set going; then
 * comes the next. Code of a simulated process calls `setTimeout`, `Date.now`, `performance.now` and `Math.random` as always: which process
 * it is belongs to its asynchronous context, so a process that was killed, or stopped, is not woken again.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Clock, Duration, Instant } from '../../../src/time.ts'
import type { Random } from '../random.ts'

/** What one process may reach of its machine; the stand-ins of `stand-ins/` ask for it. */
export interface Machine {
  readonly name: string
}

export class SimulatedProcess<M extends Machine = Machine> {
  readonly machine: M
  readonly timeline: Timeline
  alive = true
  /** Stopped (SIGSTOP) until then: what is due waits. */
  frozenUntil: Instant = 0
  readonly clock: Clock

  constructor(machine: M, timeline: Timeline, clock: Clock) {
    this.machine = machine
    this.timeline = timeline
    this.clock = clock
  }

  /** Runs `work` as this process. */
  run<T>(work: () => T): T {
    return processes.run(this, work)
  }

  /** No event of it comes after the present one. */
  kill(): void {
    this.alive = false
  }
}

const processes = new AsyncLocalStorage<SimulatedProcess>()

/** The process whose code runs now. */
export function currentProcess(): SimulatedProcess {
  const process = processes.getStore()
  if (process === undefined) throw new TypeError('expected to be called by code of a simulated process')
  return process
}

/** A promise that nothing follows: what a killed process waits for. */
export const never = <T>(): Promise<T> => new Promise<T>(() => {})

/** An event that is still to come. */
export interface Due {
  cancelled: boolean
}

interface Event extends Due {
  at: Instant
  order: number
  readonly process: SimulatedProcess | null
  readonly label: string
  readonly work: () => void
}

/** Steps that are told when a run fails. */
const TOLD = 60

/** Work outside of virtual time (a real signature): the event is over when it is. */
let busy = 0
export async function outside<T>(work: Promise<T>): Promise<T> {
  busy += 1
  try {
    return await work
  } finally {
    busy -= 1
  }
}

export class Timeline {
  readonly random: Random
  now: Instant
  steps = 0
  #order = 0
  #digest = 0
  readonly #heap: Event[] = []
  readonly #told: string[] = []

  constructor(start: Instant, random: Random) {
    this.now = start
    this.random = random
  }

  /** The last steps, oldest first. */
  get told(): readonly string[] {
    return this.#told
  }

  /** Equal for equal runs. */
  get digest(): string {
    return (this.#digest >>> 0).toString(16).padStart(8, '0')
  }

  /**
   * Runs `work` in `delay` milliseconds, as `process` when one is given and still lives. Work of no process may not
   * wait for anything: it is over when it returns.
   */
  in(delay: Duration, process: SimulatedProcess | null, label: string, work: () => void): Due {
    const at = this.now + Math.max(0, delay)
    const event: Event = { at, order: this.#order++, process, label, work, cancelled: false }
    this.#push(event)
    return event
  }

  /** Notes something that happened in the present step. */
  note(text: string): void {
    for (let i = 0; i < text.length; i++)
      this.#digest = Math.imul(this.#digest ^ text.charCodeAt(i), 0x01000193)
    this.#digest ^= this.now & 0xffffffff
    this.#told.push(`${String(this.now % 10_000_000).padStart(7, ' ')} ${text}`)
    if (this.#told.length > TOLD) this.#told.shift()
  }

  /** Runs events until `end`, calling `after` when each is over; time stands still while that works. */
  async run(end: Instant, after: () => Promise<void> | null): Promise<void> {
    for (let event = this.#heap[0]; event !== undefined && event.at <= end; event = this.#heap[0]) {
      this.#pop()
      const { process } = event
      if (event.cancelled || (process !== null && !process.alive)) continue
      this.now = event.at
      if (process !== null && process.frozenUntil > this.now) {
        this.#push(Object.assign(event, { at: process.frozenUntil, order: this.#order++ }))
        continue
      }
      this.steps += 1
      if (event.label !== '') this.note(`${process?.machine.name ?? '-'}: ${event.label}`)
      if (process === null) event.work()
      else {
        process.run(event.work)
        // everything that only waits for promises is over when the event loop goes round
        do await turnOfLoop()
        while (busy > 0)
      }
      const work = after()
      if (work !== null) await work
    }
    this.now = Math.max(this.now, end)
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.push(event) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = heap[parent]
      if (above === undefined || !before(event, above)) break
      heap[at] = above
      at = parent
    }
    heap[at] = event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      const [left, right] = [heap[child], heap[child + 1]]
      if (left === undefined) break
      if (right !== undefined && before(right, left)) child += 1
      const smaller = heap[child]
      if (smaller === undefined || !before(smaller, last)) break
      heap[at] = smaller
      at = child
    }
    heap[at] = last
  }
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

// ---- the globals that code of a simulated process calls

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  random: Math.random,
  now: Date.now,
  monotonic: performance.now.bind(performance),
}
const turnOfLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

class VirtualTimer {
  readonly due: Due
  constructor(due: Due) {
    this.due = due
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
}

function virtualTimeout(work: (...given: unknown[]) => void, delay?: number, ...given: unknown[]): unknown {
  const process = processes.getStore()
  if (process === undefined) return real.setTimeout(work, delay, ...given)
  return new VirtualTimer(process.timeline.in(delay ?? 0, process, '', () => work(...given)))
}

function clearVirtual(timer: unknown): void {
  if (timer instanceof VirtualTimer) timer.due.cancelled = true
  else real.clearTimeout(timer as NodeJS.Timeout)
}

Object.assign(globalThis, { setTimeout: virtualTimeout, clearTimeout: clearVirtual })
Date.now = () => processes.getStore()?.clock.now() ?? real.now()
performance.now = () => processes.getStore()?.timeline.now ?? real.monotonic()
Math.random = () => processes.getStore()?.timeline.random.next() ?? real.random()
