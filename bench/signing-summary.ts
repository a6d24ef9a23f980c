/** From the rounds of the signing benchmark to the answer: medians, ratios of the same round, the table. Pure. */
import { percentile } from '../demo/progress.ts'

/** Certificate requests per second. */
export interface SigningRound {
  /** node:crypto alone: one P-256 signature verified and one made, on one thread and on two. */
  readonly raw: number
  readonly raw2: number
  /** A request as the issuer answers it, in its process; `embeddedCpuMs` is the processor time of one. */
  readonly embedded: number
  readonly embeddedCpuMs: number
  /** The same, asked for over a nats-server. */
  readonly overNats: number
  /** A leaf by OpenBao: through our adapter, and called directly. */
  readonly engineThroughUs: number | null
  readonly engineDirectly: number | null
}

export interface Spread {
  readonly median: number | null
  readonly min: number | null
  readonly max: number | null
}

/** Design section 15, and issue 4 part 6. */
export const SIGNING_TARGET = { embedded: 1000, throughUsByDirectly: 0.9 } as const

export interface SigningSummary {
  readonly rates: Readonly<Record<keyof SigningRound, Spread>>
  readonly ratios: Readonly<Record<Ratio, Spread>>
  readonly target: typeof SIGNING_TARGET & { readonly met: boolean; readonly missed: readonly string[] }
}

const RATIOS = {
  'embedded by raw': ({ embedded, raw }) => embedded / raw,
  'embedded by raw on two threads': ({ embedded, raw2 }) => embedded / raw2,
  'over NATS by embedded': ({ overNats, embedded }) => overNats / embedded,
  'OpenBao through us by directly': ({ engineThroughUs, engineDirectly }) =>
    engineThroughUs === null || engineDirectly === null ? null : engineThroughUs / engineDirectly,
} as const satisfies Record<string, (round: SigningRound) => number | null>
type Ratio = keyof typeof RATIOS

const NAMES: Readonly<Record<keyof SigningRound, string>> = {
  raw: 'node:crypto, one thread',
  raw2: 'node:crypto, two threads',
  embedded: 'embedded, in the issuer',
  embeddedCpuMs: '  its processor time, ms each',
  overNats: 'embedded, over NATS',
  engineThroughUs: 'OpenBao through us',
  engineDirectly: 'OpenBao directly',
}

export function summariseSigning(rounds: readonly SigningRound[]): SigningSummary {
  const rates = mapped(NAMES, (_, key) => spreadOf(rounds.map((round) => round[key])))
  const ratios = mapped(RATIOS, (ratio) => spreadOf(rounds.map((round) => ratio(round))))
  const below = (found: number | null, wanted: number): boolean => found !== null && found < wanted
  const missed = [
    ...(below(rates.embedded.median, SIGNING_TARGET.embedded) ? ['embedded'] : []),
    ...(below(ratios['OpenBao through us by directly'].median, SIGNING_TARGET.throughUsByDirectly)
      ? ['throughUsByDirectly']
      : []),
  ]
  return { rates, ratios, target: { ...SIGNING_TARGET, met: missed.length === 0, missed } }
}

/** The table for people. */
export function renderSigning({ rates, ratios, target }: SigningSummary): string {
  const line = (name: string, { median, min, max }: Spread): string =>
    name.padEnd(36) + [median, min, max].map((value) => String(value ?? '-').padStart(10)).join('')
  return [
    'certificate requests per second'.padEnd(36) +
      ['median', 'min', 'max'].map((name) => name.padStart(10)).join(''),
    ...Object.entries(NAMES).map(([key, name]) => line(name, rates[key as keyof SigningRound])),
    '',
    ...Object.entries(ratios).map(([name, ratio]) => line(name, ratio)),
    '',
    `target: embedded >= ${target.embedded}/s, OpenBao through us >= ${target.throughUsByDirectly} of directly: ${
      target.met ? 'met' : `not met (${target.missed.join(', ')})`
    }`,
  ].join('\n')
}

function spreadOf(values: readonly (number | null)[]): Spread {
  const known = values.filter((value) => value !== null)
  const rounded = (value: number | null): number | null =>
    value === null ? null : Number(value.toPrecision(4))
  const [min, max] = known.length === 0 ? [null, null] : [Math.min(...known), Math.max(...known)]
  return { median: rounded(percentile(known, 50)), min: rounded(min), max: rounded(max) }
}

const mapped = <K extends string, V, T>(
  from: Readonly<Record<K, V>>,
  to: (value: V, key: K) => T,
): Record<K, T> =>
  Object.fromEntries(Object.entries<V>(from).map(([key, value]) => [key, to(value, key as K)])) as Record<
    K,
    T
  >
