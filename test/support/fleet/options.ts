/** What a run of a fleet is asked for, and what comes out of it. */
import type { Lease } from '../../../issuer/lease/lease.ts'
import type { advance } from '../../../src/rotation/advance.ts'
import type { RotationPolicy } from '../../../src/rotation/state.ts'
import type { Duration } from '../../../src/time.ts'
import type { AgentMachine } from './agent-machine.ts'
import type { Broker } from './broker.ts'

/** Faults in the decisions themselves, to prove that a run finds them. */
export interface Sabotage {
  readonly decide?: (decide: typeof advance) => typeof advance
  /** Instead of the one by the seed. */
  readonly policy?: RotationPolicy
  /** Called with every machine of an agent before it starts. */
  readonly machine?: (machine: AgentMachine) => void
  readonly broker?: (broker: Broker) => void
  /** Called with the lease of every issuer when it starts. */
  readonly lease?: (lease: Lease) => void
}

export interface FleetOptions {
  readonly seed: number
  /** Besides the issuer's own and the servers'. @default by the seed, few */
  readonly agents?: number | undefined
  /** Epochs with trouble. @default by the seed, 1 to 3 */
  readonly epochs?: number | undefined
  readonly sabotage?: Sabotage
}

export interface FleetReport {
  readonly steps: number
  readonly asked: number
  readonly machines: number
  /** Virtual time, milliseconds. */
  readonly lasted: Duration
  /** Equal for equal runs. */
  readonly digest: string
  /** Moves and reasons to wait, with how often. */
  readonly seen: ReadonlyMap<string, number>
  readonly version: number
  /** How often an issuer began to lead. */
  readonly leaders: number
  /** Writes of the state that were refused, because another issuer had written. */
  readonly refused: number
  /** Bundles that somebody forged. */
  readonly forged: number
}

/** A promise was broken: says how to see it again, and what the last steps were. */
export class SimulationFailure extends Error {
  readonly seed: number

  constructor(options: FleetOptions, steps: readonly string[], cause: unknown) {
    const { seed, agents, epochs } = options
    const reason = cause instanceof Error ? cause.message : String(cause)
    const size = [
      ...(agents === undefined ? [] : ['--agents', agents]),
      ...(epochs === undefined ? [] : ['--epochs', epochs]),
    ]
    const again = ['npm run simulate -- --seed', seed, ...size].join(' ')
    super(`seed ${seed}: ${reason}\nagain with: ${again}\nlast steps:\n${steps.join('\n')}`, { cause })
    this.seed = seed
  }
}
