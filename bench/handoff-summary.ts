/** What the ways of moving a connection cost, side by side. Pure: counts and times in, figures and a table out. */
import { percentile } from '../demo/progress.ts'
import { FLOWS, type FlowReport, type LoadReport } from './load/flows.ts'
import { isClean, sumOf } from './load/load.ts'
import type { Figures } from './summary.ts'
import { type MoveTimes, WAYS, type WayName } from './ways.ts'

export interface WayRun {
  readonly way: WayName
  readonly moves: readonly MoveTimes[]
  /** Reasons of moves that did not happen. */
  readonly failures: readonly string[]
  readonly plainPerSecond: number
  readonly flows: LoadReport
}

export interface WaySummary extends Omit<WayRun, 'moves' | 'flows'> {
  readonly rounds: number
  /** Milliseconds; null figures where the way has no such part. */
  readonly dialMs: Figures
  readonly overlapMs: Figures
  readonly cutMs: Figures
  /** Over all moves. */
  readonly begunAgain: number
  /** All flows together; the longest gap is that of the plain flow. */
  readonly sum: Omit<FlowReport, 'reasons'>
  /** Nothing lost, duplicated, reordered, failed or redelivered in any flow, and every move made. */
  readonly clean: boolean
  readonly flows: LoadReport
}

export function summariseWay(run: WayRun): WaySummary {
  const { moves, flows, failures } = run
  const of = (part: (typeof PARTS)[number]) => figures(moves.flatMap((times) => times[part] ?? []))
  return {
    ...run,
    rounds: moves.length,
    dialMs: of('dialMs'),
    overlapMs: of('overlapMs'),
    cutMs: of('cutMs'),
    begunAgain: moves.reduce((sum, { begunAgain = 0 }) => sum + begunAgain, 0),
    sum: sumOf(flows),
    clean: failures.length === 0 && FLOWS.every((flow) => isClean(flows[flow])),
  }
}

const figures = (values: readonly number[]): Figures => {
  const at = (p: number) => {
    const value = percentile(values, p)
    return value === null ? null : Math.round(value * 10) / 10
  }
  return { p50: at(50), p99: at(99), max: at(100) }
}

const COUNTS = [
  'published',
  'received',
  'lost',
  'duplicated',
  'reordered',
  'corrupt',
  'failed',
  'redelivered',
] as const
const PARTS = ['dialMs', 'overlapMs', 'cutMs'] as const
const FIGURES = ['p50', 'p99', 'max'] as const

/** The table for people: first everything together, then flow by flow where something is not as it should be. */
export function renderHandoff(runs: readonly WaySummary[]): string {
  const of = (cell: (run: WaySummary) => Cell) => runs.map(cell)
  const lines = [
    row(
      '',
      of(({ way }) => way),
    ),
    row(
      'moves',
      of(({ rounds }) => rounds),
    ),
  ]
  lines.push(
    row(
      'begun again',
      of(({ begunAgain }) => begunAgain),
    ),
  )
  lines.push(
    row(
      'plain messages a second',
      of(({ plainPerSecond }) => plainPerSecond),
    ),
  )
  for (const count of COUNTS)
    lines.push(
      row(
        count,
        of(({ sum }) => sum[count]),
      ),
    )
  lines.push(
    row(
      'longest gap of the plain flow, ms',
      of(({ sum }) => sum.longestGapMs),
    ),
  )
  for (const part of PARTS)
    for (const figure of FIGURES)
      lines.push(
        row(
          `${part} ${figure}`,
          of((run) => run[part][figure]),
        ),
      )
  for (const run of runs) {
    const wrong = FLOWS.filter((flow) => !isClean(run.flows[flow]))
    if (wrong.length === 0) continue
    lines.push('', row(`${run.way}: by flow`, wrong))
    for (const count of COUNTS)
      lines.push(
        row(
          `  ${count}`,
          wrong.map((flow) => run.flows[flow][count]),
        ),
      )
    lines.push(
      row(
        '  longest gap, ms',
        wrong.map((flow) => run.flows[flow].longestGapMs),
      ),
    )
  }
  return lines.join('\n')
}

type Cell = number | string | null

const row = (name: string, cells: readonly Cell[]): string =>
  name.padEnd(36) + cells.map((cell) => String(cell ?? '-').padStart(12)).join('')

/** Of a list with commas, in the order of the ways; null when one is none. */
export function parseWays(text: string): readonly WayName[] | null {
  const names = text.split(',')
  const known: readonly string[] = WAYS
  return names.every((name) => known.includes(name)) ? WAYS.filter((way) => names.includes(way)) : null
}
