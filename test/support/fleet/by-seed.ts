/** What of a domain is left to the seed. */
import type { RotationPolicy } from '../../../src/rotation/state.ts'
import type { Schedule } from '../../../src/schedule.ts'
import type { Duration } from '../../../src/time.ts'
import type { Random } from '../random.ts'
import type { NetworkQuality } from './network.ts'

export function qualityBy(random: Random): NetworkQuality {
  return random.pick([
    { loss: 0, twice: 0, delay: 2 },
    { loss: 0.01, twice: 0.01, delay: 10 },
    { loss: 0.05, twice: 0.05, delay: 40 },
    { loss: 0.15, twice: 0.1, delay: 80 },
  ])
}

export const leaseBy = (random: Random): Duration => random.pick([2_000, 5_000, 10_000])

export function policyBy(random: Random, { epochDuration, lead }: Schedule): RotationPolicy {
  return {
    ...(random.chance(0.3) ? { goOnBelow: random.pick([0, epochDuration / 2, 2 * epochDuration]) } : {}),
    ...(random.chance(0.4) ? { retireAfter: random.pick([0, epochDuration / 3, epochDuration]) } : {}),
    ...(random.chance(0.2) ? { patience: random.pick([0, lead / 5, epochDuration]) } : {}),
    ...(random.chance(0.3) ? { taintPatience: random.pick([0, lead / 5, epochDuration]) } : {}),
    // most faults of a target would take the rotation back otherwise, and nothing after it would be seen
    ...(random.chance(0.6)
      ? {
          maxFailures: random.pick([
            { servers: 9, clients: 1 },
            { servers: 1, clients: 0.5 },
          ]),
        }
      : {}),
  }
}
