/** Whole fleets in virtual time: the promises hold after every step, and the simulation can tell when they do not. */
import '../support/fleet/redirect.ts'
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import type { FleetReport, SimulationFailure } from '../support/fleet/options.ts'

const { runFleet } = await import('../support/fleet/fleet.ts')
const { FAULTS } = await import('../support/fleet/sabotage.ts')

/** A long run is `npm run simulate -- --seeds 1..20000`. */
const SEEDS = 60
/** Seeds in which a planted fault has to show itself. */
const SEEDS_TO_FIND = 100

describe('a fleet in virtual time', () => {
  const reports: FleetReport[] = []
  before(async () => {
    for (let seed = 1; seed <= SEEDS; seed++) reports.push(await runFleet({ seed }))
  })

  it('keeps I1 to I6 and K1 after every step and comes back when all is repaired, whatever went wrong', () => {
    assert.equal(reports.length, SEEDS)
    const steps = reports.reduce((sum, report) => sum + report.steps, 0)
    assert.ok(steps > 1_000 * SEEDS, `only ${steps} steps`)
  })

  it('goes through every move of a rotation', () => {
    const seen = new Set(reports.flatMap((report) => [...report.seen.keys()]))
    for (const move of [
      'prepare',
      'activate',
      'converge',
      'withdraw',
      'retire',
      'restart',
      'rollback',
      'taint',
      'distrust',
      'introduce-signer',
      'retire-signer',
    ]) {
      assert.ok(seen.has(move), `${move} was not reached`)
    }
  })

  it('has leaders that lose the lease and write late, and thieves with the key of a former signer', () => {
    const sum = (of: 'leaders' | 'refused' | 'forged') => reports.reduce((all, report) => all + report[of], 0)
    assert.ok(sum('leaders') > 2 * SEEDS, `only ${sum('leaders')} times an issuer began to lead`)
    assert.ok(sum('refused') > 0, 'no late write')
    assert.ok(sum('forged') > SEEDS / 4, `only ${sum('forged')} forged bundles`)
  })

  it('does the same again with the same seed', async () => {
    for (const seed of [1, 2, 3]) assert.deepEqual(await runFleet({ seed }), reports[seed - 1])
  })

  it('keeps them with more than a hundred machines', async () => {
    const { machines } = await runFleet({ seed: 5, agents: 120, epochs: 1 })
    assert.ok(machines > 120)
  })
})

describe('a planted fault', () => {
  for (const [name, { sabotage, breaks }] of Object.entries(FAULTS)) {
    it(`is found: ${name}`, async () => {
      const failure = await firstFailure((seed) => runFleet({ seed, sabotage }))
      assert.ok(failure !== null, `not found with ${SEEDS_TO_FIND} seeds`)
      assert.match(failure.message, new RegExp(`^seed ${failure.seed}: (?:${breaks.join('|')}): `))
      assert.match(failure.message, new RegExp(`npm run simulate -- --seed ${failure.seed}\\nlast steps:\\n`))
    })
  }
})

async function firstFailure(run: (seed: number) => Promise<FleetReport>): Promise<SimulationFailure | null> {
  for (let seed = 1; seed <= SEEDS_TO_FIND; seed++) {
    try {
      await run(seed)
    } catch (error) {
      if (isFailure(error)) return error
      throw error
    }
  }
  return null
}

const isFailure = (error: unknown): error is SimulationFailure => error instanceof Error && 'seed' in error
