/**
 * How much processor time does each process use? Unlike elapsed time it hardly depends on what else the machine does.
 * Linux only: proc(5), fields 14 and 15 of /proc/<pid>/stat, in ticks of 10 ms.
 */
import { readFile } from 'node:fs/promises'

const TICK_MS = 10

export type CpuTimes = Readonly<Record<string, number>>

/** Milliseconds of user and system time so far, by name; empty where there is no /proc. */
export async function readCpu(processes: ReadonlyMap<string, number>): Promise<CpuTimes> {
  const entries = await Promise.all(
    [...processes].map(async ([name, pid]): Promise<[string, number][]> => {
      const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null)
      if (text === null) return []
      // the name of the program, field 2, may hold blanks and brackets
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
      return [[name, (Number(fields[11]) + Number(fields[12])) * TICK_MS]]
    }),
  )
  return Object.fromEntries(entries.flat())
}

/** What was used between two readings. */
export const cpuBetween = (before: CpuTimes, after: CpuTimes): CpuTimes =>
  Object.fromEntries(Object.entries(after).map(([name, ms]) => [name, ms - (before[name] ?? ms)]))
