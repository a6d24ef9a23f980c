/**
 * `npm run bench:steady`: what does a connection of ours cost while nothing rotates, next to plain nats.js in the same
 * process and the same minute? `docs/benchmarks.md` says what is measured.
 */
import { connect as connectPlain, type NatsConnection } from '@nats-io/transport-node'
import { connect } from '../src/connection/connect.ts'
import { HeldIdentity } from '../src/identity/identity.ts'
import type { NatsBinary } from '../src/local/nats-server.ts'
import { natsTls } from '../src/nats/connect.ts'
import { formatInstant } from '../src/time.ts'
import { chooseServer, machine, note, parseFlags, runCommand, wholeNumber } from './command.ts'
import { type LoadCluster, startLoadCluster } from './load/cluster.ts'
import { CallThread } from './load/thread.ts'
import type { FarOptions } from './steady-far.ts'
import { MEASURING, type Measured, type Order, type Publish } from './steady-measure.ts'
import { renderSteady, type SteadyRound, summariseSteady, type Variant } from './steady-summary.ts'

const HELP = `npm run bench:steady -- [--json] [--rounds N] [--server-version V]

Throughput and latency of plain nats.js and of ours, before and after a handoff, in turn on one server.

  --json               one JSON object on stdout instead of a table
  --rounds N           rounds of all connections (default 100)
  --server-version V   newest, oldest, or a version such as 2.15.1 (default newest)

Exit code: 0 all rounds done, 1 a round failed, 64 wrong use, 130 stopped by a signal.
`
/** The first ones also warm up the code. */
const WARM_UP = 3
const PATIENCE = 10_000

interface Options {
  readonly json: boolean
  readonly rounds: number
  readonly server: NatsBinary
}

const FLAGS = {
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
  rounds: { type: 'string', default: '100' },
  'server-version': { type: 'string', default: 'newest' },
} as const

/** Null when help was asked for. */
function readOptions(): Options | null {
  const values = parseFlags(FLAGS)
  if (values.help) return null
  return {
    json: values.json,
    rounds: wholeNumber('rounds', values.rounds, 1),
    server: chooseServer(values['server-version']),
  }
}

/** Every connection with the same TLS options, to the same server. */
class Connections {
  readonly #servers: string[]
  readonly #cluster: LoadCluster
  readonly #opened: AsyncDisposableStack

  constructor(cluster: LoadCluster, opened: AsyncDisposableStack) {
    this.#servers = cluster.addresses.slice(0, 1)
    this.#cluster = cluster
    this.#opened = opened
  }

  async plain(): Promise<NatsConnection> {
    const tls = natsTls(new HeldIdentity(this.#cluster.generations[0]), this.#servers)
    return this.#kept(await connectPlain({ ...this.#options(), tls }))
  }

  async fresh(): Promise<NatsConnection> {
    const identity = new HeldIdentity(this.#cluster.generations[0])
    return this.#kept(await connect({ ...this.#options(), identity }))
  }

  /** Ours, on its second generation. */
  async moved(): Promise<NatsConnection> {
    const [first, second] = this.#cluster.generations
    const identity = new HeldIdentity(first)
    const nc = this.#kept(await connect({ ...this.#options(), identity }))
    identity.set(second)
    for (const follower of identity.followers()) await follower.follow(second, AbortSignal.timeout(PATIENCE))
    return nc
  }

  #options() {
    const { inboxPrefix } = this.#cluster
    // a trace for each request costs as much as the request, and ours leaves it out unless it is asked for
    return { servers: this.#servers, inboxPrefix, ignoreClusterUpdates: true, noAsyncTraces: true }
  }

  #kept(nc: NatsConnection): NatsConnection {
    this.#opened.defer(() => nc.close())
    return nc
  }
}

/** Every measure with every connection; whoever comes first is somebody else in each round. */
async function measureRound<V extends Variant>(
  connections: Readonly<Record<V, NatsConnection>>,
  round: number,
  publish: Publish,
  signal: AbortSignal,
): Promise<Record<V, Measured>> {
  const names = Object.keys(connections) as V[]
  const found = new Map(names.map((name): [V, Partial<Measured>] => [name, {}]))
  const begin = (round + WARM_UP) % names.length
  for (const part of MEASURING) {
    for (const name of [...names.slice(begin), ...names.slice(0, begin)]) {
      signal.throwIfAborted()
      found.set(name, { ...found.get(name), ...(await part(connections[name], publish)) })
    }
  }
  return Object.fromEntries(found) as Record<V, Measured>
}

async function main(signal: AbortSignal): Promise<number> {
  const options = readOptions()
  if (options === null) {
    process.stdout.write(HELP)
    return 0
  }
  note(`nats-server ${options.server.version}: starting`)
  await using opened = new AsyncDisposableStack()
  const cluster = opened.use(await startLoadCluster({ runs: [], binary: options.server }))
  const farOptions: FarOptions = { address: cluster.addresses[0] ?? '', access: cluster.peers }
  const far = opened.use(
    new CallThread('the far end', new URL('./steady-far.ts', import.meta.url), farOptions),
  )
  await far.call('open')
  opened.defer(async () => void (await far.call('close')))
  const publish: Publish = (order: Order) => far.call('publish', order)

  const connections = new Connections(cluster, opened)
  const plain = await connections.plain()
  const alone: Measured[] = []
  for (let i = 1 - WARM_UP; i <= Math.max(3, Math.ceil(options.rounds / 4)); i++) {
    const measured = await measureRound({ plain }, i, publish, signal)
    if (i > 0) alone.push(measured.plain)
  }
  note('plain alone: measured')
  const all: Readonly<Record<Variant, NatsConnection>> = {
    plain,
    fresh: await connections.fresh(),
    moved: await connections.moved(),
    plainAgain: await connections.plain(),
  }
  const rounds: SteadyRound[] = []
  for (let i = 1 - WARM_UP; i <= options.rounds; i++) {
    const round = await measureRound(all, i, publish, signal)
    if (i > 0) rounds.push(round)
    if (i % 10 === 0) note(i > 0 ? `round ${i}/${options.rounds}` : 'warm')
  }
  const summary = summariseSteady(alone, rounds)
  const head = {
    type: 'steady-benchmark',
    at: formatInstant(Date.now()),
    machine: machine(options.server.version),
    rounds: options.rounds,
  }
  process.stdout.write(
    options.json ? `${JSON.stringify({ ...head, ...summary })}\n` : `${renderSteady(summary)}\n`,
  )
  return 0
}

await runCommand(main)
