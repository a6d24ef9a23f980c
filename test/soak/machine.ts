/**
 * How the machine was meanwhile. One that stands still, or whose processors its host gives to others, lets requests end and
 * messages come again: who reads that something went wrong has to see that beside it.
 */
import { readFile } from 'node:fs/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Duration } from '../../src/time.ts'

export interface MachineFacts {
  /** The longest time in which this process, which has little to do, got no processor, milliseconds. */
  readonly stillMs: Duration
  /** Part of all processor time that the host gave to others, 0 to 1; null where nobody tells (/proc/stat is Linux). */
  readonly stolen: number | null
}

interface Ticks {
  readonly all: number
  readonly stolen: number
}

const NANOS = 1_000_000

export class MachineWatch implements Disposable {
  readonly #delay = monitorEventLoopDelay({ resolution: 20 })
  #before: Ticks | null

  private constructor(before: Ticks | null) {
    this.#before = before
    this.#delay.enable()
  }

  static async start(): Promise<MachineWatch> {
    return new MachineWatch(await readTicks())
  }

  /** Since the last call, or the start. */
  async take(): Promise<MachineFacts> {
    const now = await readTicks()
    const before = this.#before
    // before the first sample it is 0
    const stillMs = Math.round(this.#delay.max / NANOS)
    this.#before = now
    this.#delay.reset()
    const passed = now === null || before === null ? 0 : now.all - before.all
    return { stillMs, stolen: passed > 0 ? ((now?.stolen ?? 0) - (before?.stolen ?? 0)) / passed : null }
  }

  [Symbol.dispose](): void {
    this.#delay.disable()
  }
}

/** proc_stat(5): the line `cpu` has user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user. */
async function readTicks(): Promise<Ticks | null> {
  const text = await readFile('/proc/stat', 'utf8').catch(() => '')
  const [, line] = /^cpu +(.*)$/m.exec(text) ?? []
  if (line === undefined) return null
  const ticks = line.split(' ').slice(0, 8).map(Number)
  return { all: ticks.reduce((sum, one) => sum + one, 0), stolen: ticks[7] ?? 0 }
}

export const sayMachine = ({ stillMs, stolen }: MachineFacts): string =>
  `machine: still for ${stillMs} ms${stolen === null ? '' : `, ${Math.round(100 * stolen)} % taken by its host`}`
