/** Which fault comes in which rotation, when, and for how long? Pure: the same seed gives the same plan. */
import type { Duration } from '../../src/time.ts'
import type { Random } from '../support/random.ts'

/** Name to how long it lasts, milliseconds: from and to. */
export const FAULTS = {
  'issuer killed': [0, 3_000],
  'issuer frozen': [2_600, 5_000],
  'agent killed': [0, 3_000],
  'agent frozen': [500, 4_000],
  'server killed': [0, 3_000],
  'server stopped': [0, 3_000],
  'server frozen': [2_000, 3_000],
  'all servers down': [0, 2_000],
  'service killed': [0, 2_000],
  'service busy': [500, 500],
  'stream leader moved': [0, 0],
} as const satisfies Record<string, readonly [Duration, Duration]>

/** With OpenBao as the authority, and in turn with the others. */
export const ENGINE_FAULTS = {
  'engine sealed': [500, 3_000],
  'engine stopped': [500, 3_000],
  'engine frozen': [500, 3_000],
  'tokens revoked': [0, 0],
} as const satisfies Record<string, readonly [Duration, Duration]>

const ALL = { ...FAULTS, ...ENGINE_FAULTS }
export type FaultKind = keyof typeof ALL

export const faultKinds = (authority: 'embedded' | 'openbao'): FaultKind[] =>
  Object.keys(authority === 'openbao' ? ALL : FAULTS).filter(isFault)

export const isFault = (name: string): name is FaultKind => Object.hasOwn(ALL, name)

export interface PlannedFault {
  readonly kind: FaultKind
  /** Milliseconds after the order of the rotation; below 0 before it. */
  readonly at: Duration
  /** Milliseconds. */
  readonly lasts: Duration
  /** In [0, 1): which of those that it may hit. */
  readonly target: number
}

const EARLIEST: Duration = -300
/** A rotation takes about that long where nothing goes wrong. */
const LATEST: Duration = 2_500

/** One fault after the other; each kind comes once before any comes again. */
export function* planFaults(random: Random, kinds: readonly FaultKind[]): Generator<PlannedFault, never> {
  if (kinds.length === 0) throw new TypeError('expected at least one kind of fault')
  for (;;) {
    const left = [...kinds]
    while (left.length > 0) {
      const [kind] = left.splice(random.int(0, left.length - 1), 1)
      if (kind === undefined) break
      const [least, most] = ALL[kind]
      yield {
        kind,
        at: random.int(EARLIEST, LATEST),
        lasts: random.int(least, most),
        target: random.next(),
      }
    }
  }
}
