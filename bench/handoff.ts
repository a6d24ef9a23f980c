/**
 * `npm run bench:handoff`: what happens to the traffic of a connection that moves to new TLS material, by each of the
 * ways there are, under the same load? `docs/benchmarks.md` says what is measured.
 */
import { RotorError } from '../src/errors.ts'
import type { NatsBinary } from '../src/local/nats-server.ts'
import { formatInstant, sleep } from '../src/time.ts'
import { chooseServer, machine, note, parseFlags, runCommand, wholeNumber } from './command.ts'
import { parseWays, renderHandoff, summariseWay, type WayRun, type WaySummary } from './handoff-summary.ts'
import { type LoadCluster, startLoadCluster } from './load/cluster.ts'
import { startLoad } from './load/load.ts'
import { type MoveTimes, openWay, WAYS, type WayName } from './ways.ts'

const HELP = `npm run bench:handoff -- [--json] [--rate R] [--rounds N] [--server-version V] [--ways W]

Moves a service's connection to new TLS material N times under load, by each way, and counts what became of every
message. Three publishers stand on three servers.

  --json               one JSON object on stdout instead of a table
  --rate R             plain messages per second in all (default 20000); other flows come on top
  --rounds N           moves for each way (default 50)
  --server-version V   newest, oldest, or a version such as 2.15.1 (default newest)
  --ways W             of ${WAYS.join(',')} (default all)

Exit code: 0 all moves done and ours is clean, 1 not so, 64 wrong use, 130 stopped by a signal.
`
/** From the end of a move to the begin of the next one, milliseconds: part of the load, not a wait. */
const PAUSE = 100

interface Options {
  readonly json: boolean
  readonly rate: number
  readonly rounds: number
  readonly server: NatsBinary
  readonly ways: readonly WayName[]
}

const FLAGS = {
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
  rate: { type: 'string', default: '20000' },
  rounds: { type: 'string', default: '50' },
  'server-version': { type: 'string', default: 'newest' },
  ways: { type: 'string', default: WAYS.join(',') },
} as const

/** Null when help was asked for. */
function readOptions(): Options | null {
  const values = parseFlags(FLAGS)
  if (values.help) return null
  const ways = parseWays(values.ways)
  if (ways === null) {
    throw new RotorError('ERR_USAGE', `--ways: expected some of ${WAYS.join(',')}, found ${values.ways}`)
  }
  return {
    json: values.json,
    rate: wholeNumber('rate', values.rate, 100),
    rounds: wholeNumber('rounds', values.rounds, 1),
    server: chooseServer(values['server-version']),
    ways,
  }
}

async function runWay(
  cluster: LoadCluster,
  way: WayName,
  { rate, rounds }: Options,
  signal: AbortSignal,
): Promise<WayRun> {
  const { addresses, peers: access, inboxPrefix, generations } = cluster
  await using load = await startLoad({ run: way, rate, addresses, access })
  await using moving = await openWay[way]({
    servers: addresses,
    first: generations[0],
    inboxPrefix,
    use: load.use,
  })
  await load.begin()
  const moves: MoveTimes[] = []
  const failures: string[] = []
  for (let round = 1; round <= rounds; round++) {
    await sleep(PAUSE, signal)
    try {
      moves.push(await moving.move(generations[round % 2 === 0 ? 0 : 1]))
    } catch (cause) {
      failures.push(`round ${round}: ${RotorError.from(cause).message}`)
      note(`${way}, round ${round} failed: ${RotorError.from(cause).message}`)
    }
  }
  const { plainPerSecond, ...flows } = await load.finish()
  return { way, moves, failures, plainPerSecond, flows }
}

async function main(signal: AbortSignal): Promise<number> {
  const options = readOptions()
  if (options === null) {
    process.stdout.write(HELP)
    return 0
  }
  note(`three nats-servers ${options.server.version}: starting`)
  await using cluster = await startLoadCluster({ runs: WAYS, binary: options.server })
  const runs: WaySummary[] = []
  for (const way of options.ways) {
    const began = performance.now()
    const run = summariseWay(await runWay(cluster, way, options, signal))
    runs.push(run)
    const { sum } = run
    note(
      `${way}: ${run.rounds} moves in ${Math.round((performance.now() - began) / 1000)} s, ${run.plainPerSecond}/s, ` +
        `lost ${sum.lost}, duplicated ${sum.duplicated}, reordered ${sum.reordered}, failed ${sum.failed}`,
    )
  }
  const ours = runs.find(({ way }) => way === 'handoff')
  const head = {
    type: 'handoff-benchmark',
    at: formatInstant(Date.now()),
    machine: machine(options.server.version),
    rate: options.rate,
    rounds: options.rounds,
  }
  process.stdout.write(options.json ? `${JSON.stringify({ ...head, runs })}\n` : `${renderHandoff(runs)}\n`)
  return runs.every(({ failures }) => failures.length === 0) && ours?.clean !== false ? 0 : 1
}

await runCommand(main)
