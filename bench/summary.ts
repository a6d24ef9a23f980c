/** From the rounds to the answer: percentiles, ratios, and the table for people. Pure. */
import { percentile } from '../demo/progress.ts'
import type { CpuTimes } from './cpu.ts'
import { FLOORS, type FloorTimes } from './floors.ts'
import { type Measured, PARTS, type Parts } from './timeline.ts'

/** `trust`: only the trust file changes. `signer`: every node renews its leaf and moves its connection. */
export const MEASURES = ['trust', 'signer'] as const
export type Measure = (typeof MEASURES)[number]

/** Design section 15. */
export const TARGET = { p50Ms: 250, p99Ms: 1000 } as const

export interface Round {
  readonly floors: FloorTimes
  readonly measured: Readonly<Record<Measure, Measured & { readonly decidedMs: number }>>
  /** From the order to the end of the rotation, by process. */
  readonly cpuMs: CpuTimes
}

export interface Figures {
  readonly p50: number | null
  readonly p99: number | null
  readonly max: number | null
}

export interface Summary {
  readonly rotation: Readonly<Record<Measure, { readonly provenMs: Figures; readonly decidedMs: Figures }>>
  readonly floorsMs: Readonly<Record<string, Figures>>
  /** One of each floor after the other. */
  readonly floorSumMs: Figures
  /** Rotation by the sum of the floors. */
  readonly ratios: Readonly<Record<Measure, Figures>>
  /** Median milliseconds of each part, by kind of node; `slowest` is the node that was last in its round. */
  readonly parts: Readonly<Record<Measure, Readonly<Record<string, Parts>>>>
  /** Median milliseconds of processor time for a whole rotation, by process. */
  readonly cpuMs: CpuTimes
  readonly target: typeof TARGET & { readonly met: boolean }
}

const figures = (values: readonly number[]): Figures => ({
  p50: rounded(percentile(values, 50)),
  p99: rounded(percentile(values, 99)),
  max: rounded(percentile(values, 100)),
})

const rounded = (value: number | null): number | null => (value === null ? null : Math.round(value * 10) / 10)

const each = <K extends string, T>(keys: readonly K[], make: (key: K) => T): Record<K, T> =>
  Object.fromEntries(keys.map((key) => [key, make(key)])) as Record<K, T>

const combine = (a: Figures, b: Figures, how: (a: number, b: number) => number): Figures =>
  each(['p50', 'p99', 'max'], (key) => {
    const [x, y] = [a[key], b[key]]
    return x === null || y === null ? null : rounded(how(x, y))
  })

/** `kindOf`: node name to the kind of node it is counted under. */
export function summarise(rounds: readonly Round[], kindOf: (node: string) => string): Summary {
  const rotation = each(MEASURES, (measure) => ({
    provenMs: figures(rounds.map((round) => round.measured[measure].provenMs)),
    decidedMs: figures(rounds.map((round) => round.measured[measure].decidedMs)),
  }))
  const floorsMs = each(FLOORS, (floor) => figures(rounds.flatMap((round) => round.floors[floor])))
  const floorSumMs = Object.values(floorsMs).reduce((sum, floor) => combine(sum, floor, (a, b) => a + b))
  const { p50, p99 } = rotation.signer.provenMs
  return {
    rotation,
    floorsMs,
    floorSumMs,
    ratios: each(MEASURES, (measure) => combine(rotation[measure].provenMs, floorSumMs, (a, b) => a / b)),
    parts: each(MEASURES, (measure) =>
      medians(
        rounds.map((round) => round.measured[measure]),
        kindOf,
      ),
    ),
    cpuMs: medianCpu(rounds.map((round) => round.cpuMs)),
    target: { ...TARGET, met: p50 !== null && p50 <= TARGET.p50Ms && p99 !== null && p99 <= TARGET.p99Ms },
  }
}

function medians(rounds: readonly Measured[], kindOf: (node: string) => string): Record<string, Parts> {
  const byKind = new Map<string, Parts[]>()
  const add = (kind: string, parts: Parts | undefined) => {
    if (parts !== undefined) byKind.set(kind, [...(byKind.get(kind) ?? []), parts])
  }
  for (const { parts, slowest } of rounds) {
    for (const [node, of] of parts) add(kindOf(node), of)
    add('slowest', parts.get(slowest))
  }
  return Object.fromEntries([...byKind].map(([kind, all]) => [kind, medianParts(all)]))
}

function medianParts(all: readonly Parts[]): Parts {
  const median: Parts = {}
  for (const part of PARTS) {
    const value = rounded(
      percentile(
        all.flatMap((parts) => parts[part] ?? []),
        50,
      ),
    )
    if (value !== null) median[part] = value
  }
  return median
}

function medianCpu(all: readonly CpuTimes[]): CpuTimes {
  const names = Object.keys(all[0] ?? {})
  return Object.fromEntries(
    names.map((name) => [
      name,
      percentile(
        all.map((times) => times[name] ?? 0),
        50,
      ) ?? 0,
    ]),
  )
}

/** The table for people. */
export function renderSummary(summary: Summary): string {
  const { rotation, floorsMs, floorSumMs, ratios, parts, cpuMs, target } = summary
  const lines = [row('milliseconds', ['p50', 'p99', 'max'])]
  const add = (name: string, { p50, p99, max }: Figures) => lines.push(row(name, [p50, p99, max]))
  for (const measure of MEASURES) {
    add(`${measure}: published -> proven on all nodes`, rotation[measure].provenMs)
    add(`${measure}: published -> the issuer goes on`, rotation[measure].decidedMs)
  }
  for (const floor of FLOORS) add(`floor: ${FLOOR_TEXT[floor]}`, floorsMs[floor] ?? NOTHING)
  add('floor: sum', floorSumMs)
  for (const measure of MEASURES) add(`${measure}: times the sum of the floors`, ratios[measure])
  for (const measure of MEASURES) {
    const kinds = Object.keys(parts[measure])
    lines.push('', row(`${measure}: p50 of each part`, kinds))
    for (const part of PARTS) {
      const cells = kinds.map((kind) => parts[measure][kind]?.[part] ?? null)
      if (cells.some((cell) => cell !== null)) lines.push(row(`  ${part}`, cells))
    }
  }
  lines.push('', row('processor time of a rotation, p50', Object.keys(cpuMs)))
  lines.push(row('  milliseconds', Object.values(cpuMs)))
  lines.push(
    '',
    `target (signer): p50 <= ${target.p50Ms}, p99 <= ${target.p99Ms}: ${target.met ? 'met' : 'not met'}`,
  )
  return lines.join('\n')
}

const NOTHING: Figures = { p50: null, p99: null, max: null }
const FLOOR_TEXT = {
  dial: 'bare TLS dial, CONNECT, PING',
  reload: 'bare reload of a nats-server',
  roundTrip: 'bare JetStream R3 publish -> deliver',
} as const

const row = (name: string, cells: readonly (number | string | null)[]): string =>
  name.padEnd(46) + cells.map((cell) => String(cell ?? '-').padStart(10)).join('')
