/**
 * `npm run bench:rotation`: how long from publishing a bundle until it is proven on all nodes, next to its floor in
 * the same run? `docs/benchmarks.md` says what is measured and how the processes are laid out.
 */
import { dirname, join } from 'node:path'
import { type LocalDomain, makeLocalDomain } from '../demo/domain.ts'
import { RotorError } from '../src/errors.ts'
import { formatInstant, sleep } from '../src/time.ts'
import { machine, note, parseFlags, runCommand, wholeNumber } from './command.ts'
import { cpuBetween, readCpu } from './cpu.ts'
import { FLOOR_STREAM, type FloorPlan, measureFloors } from './floors.ts'
import { orderRotation, startAll } from './group.ts'
import { type Measure, type Round, renderSummary, summarise } from './summary.ts'
import { type Measured, Timeline } from './timeline.ts'

const HELP = `npm run bench:rotation -- [--json] [--rounds N] [--servers N] [--services N]

Rotates the CA of a domain on this machine N times and measures each rotation next to its floor.

  --json          one JSON object on stdout instead of a table
  --rounds N      rotations to measure (default 20)
  --servers N     nats-servers, 3 or more (default 3)
  --services N    services with a live connection each (default 10)

Exit code: 0 all rounds done, 1 a round failed, 64 wrong use, 130 stopped by a signal.
`
/** Epochs never end by themselves during a run: every rotation is an order. */
const EPOCH = 6 * 3_600_000
/** The first rotations also warm up the code of every process. */
const WARM_UP = 2
const PATIENCE = 30_000
const ISSUER = 'issuer'

interface Options {
  readonly json: boolean
  readonly rounds: number
  readonly servers: number
  readonly services: number
}

const FLAGS = {
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
  rounds: { type: 'string', default: '20' },
  servers: { type: 'string', default: '3' },
  services: { type: 'string', default: '10' },
} as const

/** Null when help was asked for. */
function readOptions(): Options | null {
  const values = parseFlags(FLAGS)
  if (values.help) return null
  return {
    json: values.json,
    rounds: wholeNumber('rounds', values.rounds, 1),
    servers: wholeNumber('servers', values.servers, 3),
    services: wholeNumber('services', values.services, 1),
  }
}

const serviceNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `service-${i + 1}`)

class Rounds {
  readonly #domain: LocalDomain
  readonly #timeline: Timeline
  readonly #floors: FloorPlan
  readonly #signal: AbortSignal
  /** Name to process id. */
  readonly #processes: ReadonlyMap<string, number>

  constructor(domain: LocalDomain, timeline: Timeline, signal: AbortSignal) {
    const identityOf = (name: string) => join(dirname(domain.founded.agentConfigs[name] ?? ''), 'identity')
    this.#domain = domain
    this.#timeline = timeline
    this.#signal = signal
    const { children, servers } = domain
    this.#processes = new Map([...children.values(), ...servers].map(({ name, pid }) => [name, pid]))
    this.#floors = {
      domain: domain.name,
      servers: domain.plans.map(({ name, host, clientPort }) => ({
        name,
        identity: identityOf(name),
        address: `${host}:${clientPort}`,
      })),
      service: { name: 'service-1', identity: identityOf('service-1') },
    }
  }

  /** Floors, then one whole rotation. Throws when a node failed or something does not come. */
  async run(): Promise<Round> {
    await this.#until('the domain at rest', () => this.#timeline.quiet || null)
    const floors = await measureFloors(this.#floors)
    const cpu = await readCpu(this.#processes)
    const before = this.#timeline.versionOf('activate')
    await orderRotation(this.#domain)
    const signer = await this.#until('a rotation that is proven and decided', () => {
      const version = this.#timeline.versionOf('activate')
      return version === before || version === null ? null : this.#measured(version)
    })
    const prepared = this.#timeline.versionOf('prepare')
    const trust = prepared === null ? null : this.#measured(prepared)
    if (trust === null) throw new RotorError('ERR_INTERNAL', 'the signer moved, but trust was not proven')
    return { floors, measured: { trust, signer }, cpuMs: cpuBetween(cpu, await readCpu(this.#processes)) }
  }

  #measured(version: number): (Measured & { decidedMs: number }) | null {
    const measured = this.#timeline.measure(version)
    const decidedMs = this.#timeline.decidedMs(version)
    return measured === null || decidedMs === null ? null : { ...measured, decidedMs }
  }

  async #until<T>(what: string, look: () => T | null): Promise<T> {
    const deadline = Date.now() + PATIENCE
    for (;;) {
      const found = look()
      const ended = [...this.#domain.children.values()].find((child) => child.ended)
      const [failure] = this.#timeline.failures.splice(0)
      if (failure !== undefined) throw new RotorError('ERR_INTERNAL', failure)
      if (ended !== undefined) throw new RotorError('ERR_INTERNAL', `${ended.name} ended by itself`)
      if (found !== null) return found
      if (Date.now() > deadline) throw new RotorError('ERR_INTERNAL', `${what}: not within ${PATIENCE} ms`)
      await sleep(10, this.#signal)
    }
  }
}

async function main(signal: AbortSignal): Promise<number> {
  const options = readOptions()
  if (options === null) {
    process.stdout.write(HELP)
    return 0
  }
  const services = serviceNames(options.services)
  const serverNames = Array.from({ length: options.servers }, (_, i) => `nats-${i + 1}`)
  const timeline = new Timeline([ISSUER, ...serverNames, ...services])
  await using domain = await makeLocalDomain({
    epochDuration: EPOCH,
    servers: options.servers,
    services: services.map((name) => ({
      name,
      publish: ['bench.>'],
      subscribe: ['bench.>'],
      streams: name === 'service-1' ? [FLOOR_STREAM] : [],
    })),
    // an old authority leaves at once, so that the bundle does not grow from round to round
    policy: { retireAfter: '0s' },
    onEvent: (event) => timeline.take(event),
  })
  signal.throwIfAborted()
  note(`${options.servers} nats-servers, ${options.services} services: starting`)
  await startAll(domain, services, signal)
  const rounds = new Rounds(domain, timeline, signal)
  const done: Round[] = []
  const failures: string[] = []
  for (let i = 1 - WARM_UP; i <= options.rounds; i++) {
    try {
      const round = await rounds.run()
      if (i > 0) done.push(round)
      note(`${i > 0 ? `round ${i}/${options.rounds}` : 'warm-up'}: ${says(round)}`)
    } catch (cause) {
      signal.throwIfAborted()
      const { message } = RotorError.from(cause)
      failures.push(message)
      note(`round ${i} failed: ${message}`)
      // what follows would be measured on a domain that is not whole
      break
    }
  }
  const kinds = new Map([...serverNames.map((name) => [name, 'server'] as const), [ISSUER, ISSUER] as const])
  const summary = summarise(done, (node) => kinds.get(node) ?? 'service')
  const head = {
    type: 'rotation-benchmark',
    at: formatInstant(Date.now()),
    machine: machine(domain.servers[0]?.version ?? 'unknown'),
    ...options,
    failures,
  }
  process.stdout.write(
    options.json ? `${JSON.stringify({ ...head, ...summary })}\n` : `${renderSummary(summary)}\n`,
  )
  return failures.length === 0 ? 0 : 1
}

const says = ({ measured }: Round): string =>
  (['trust', 'signer'] as const)
    .map((name: Measure) => `${name} ${Math.round(measured[name].provenMs)} ms (${measured[name].slowest})`)
    .join(', ')

await runCommand(main)
