/** `npm run simulate -- --seed N`: one run again, or many: `--seeds A..B [--agents K] [--epochs S]`. */
import '../support/fleet/redirect.ts'
import { parseArgs } from 'node:util'

const { runFleet, SimulationFailure } = await import('../support/fleet/fleet.ts')
const { FAULTS } = await import('../support/fleet/sabotage.ts')

const HELP = `Runs fleets in virtual time and checks the promises I1 to I6 after every step.

  npm run simulate -- --seed 7                one run; the same seed gives the same run
  npm run simulate -- --seeds 1..5000         many; ends at the first broken promise
  npm run simulate -- --seeds 1..20 --agents 300

  --seed N        the run of this number
  --seeds A..B    the runs A to B, both included
  --agents K      services besides the issuer's own node and the servers (default: few, by the seed)
  --epochs S      epochs with trouble before all is repaired (default: 1 to 3, by the seed)
  --planted NAME  with a deliberate fault, to see what a failure looks like; a wrong name lists them
  --json          the report as JSON lines
`

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    agents: { type: 'string' },
    epochs: { type: 'string' },
    planted: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

function number(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  process.stderr.write(`--${name}: expected a whole number, found ${JSON.stringify(text)}\n`)
  process.exit(64)
}

if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const planted = Object.entries(FAULTS).find(([name]) => name === values.planted)?.[1]
if (values.planted !== undefined && planted === undefined) {
  process.stderr.write(`--planted: expected one of\n  ${Object.keys(FAULTS).join('\n  ')}\n`)
  process.exit(64)
}
const [from, to] = (values.seeds ?? `${values.seed ?? 1}..${values.seed ?? 1}`).split('..')
const first = number('seeds', from) ?? 1
const last = number('seeds', to) ?? first
const began = performance.now()
const total = { runs: 0, steps: 0, asked: 0 }
const seen = new Map<string, number>()
for (let seed = first; seed <= last; seed++) {
  try {
    const report = await runFleet({
      seed,
      agents: number('agents', values.agents),
      epochs: number('epochs', values.epochs),
      ...(planted === undefined ? {} : { sabotage: planted.sabotage }),
    })
    total.runs += 1
    total.steps += report.steps
    total.asked += report.asked
    for (const [what, count] of report.seen) seen.set(what, (seen.get(what) ?? 0) + count)
    if (values.json || first === last) {
      process.stdout.write(`${JSON.stringify({ seed, ...report, seen: Object.fromEntries(report.seen) })}\n`)
    }
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  }
}
const seconds = (performance.now() - began) / 1000
process.stderr.write(
  `${total.runs} runs, ${total.steps} steps, ${total.asked} looks at a machine, ${seconds.toFixed(1)} s: no promise was broken\n` +
    `${[...seen]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([what, count]) => `${what} ${count}`)
      .join(', ')}\n`,
)
