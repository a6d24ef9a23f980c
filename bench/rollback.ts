/**
 * `npm run bench:rollback`: how long from the moment the issuer knows that a bundle is bad until the domain is back and
 * proven? A bad one is put in on purpose, before and after its authority signs. `docs/benchmarks.md` says what is measured.
 */
import type { ChildEvent } from '../demo/child.ts'
import { type LocalDomain, makeLocalDomain } from '../demo/domain.ts'
import { percentile } from '../demo/progress.ts'
import { RotorError } from '../src/errors.ts'
import { formatInstant, sleep } from '../src/time.ts'
import { machine, note, parseFlags, runCommand, wholeNumber } from './command.ts'
import { orderRotation, startAll } from './group.ts'
import { type PinnedFile, pinFiles } from './pin.ts'

const HELP = `npm run bench:rollback -- [--json] [--rounds N] [--services N]

Orders rotations that every server refuses, and measures how long the issuer takes to bring the domain back.

  --json          one JSON object on stdout instead of a table
  --rounds N      bad rotations of each kind (default 10)
  --services N    services with a live connection each (default 4)

Exit code: 0 all rounds done and only the first server was touched in each, 1 not so, 64 wrong use, 130 stopped.
`
/** Epochs never end by themselves during a run: every rotation is an order. */
const EPOCH = 6 * 3_600_000
const PATIENCE = 60_000
const SERVERS = 3
/** Design section 15. */
const TARGET = { provenMs: 1000 } as const

/** What every server refuses, and which move answers it. */
const KINDS = {
  /** No server takes a leaf of the new authority: seen by the issuer's handshake with the first one. */
  withdraw: ['ca.pem'],
  /** No server serves a leaf of the new authority: seen by the agent of the first one, after it signs. */
  rollback: ['tls.crt', 'tls.key'],
} as const satisfies Record<string, readonly PinnedFile[]>
type Kind = keyof typeof KINDS

interface Round {
  /** From publishing the bad bundle until the issuer knows. */
  readonly noticedMs: number
  /** From then until it is taken back, and proven on every node. */
  readonly provenMs: number
  /** Nodes that used the bad bundle. */
  readonly touched: readonly string[]
}

/** What happened in the round under way. */
class Watch {
  readonly #nodes = new Map<number, Set<string>>()
  readonly #published = new Map<number, number>()
  #bad: { readonly version: number; readonly at: number } | null = null
  #provenAt: number | null = null
  #idle = false

  take(event: ChildEvent): void {
    const at = typeof event.clock === 'number' ? event.clock : Date.parse(event.at ?? '')
    const { type, when } = event
    if (type === 'waiting') this.#idle = event.reason === 'not-due'
    if (type === 'step' && event.step === 'publish')
      this.#touched(Number(event.version)).add(event.node ?? '')
    if (type === 'effect' && when === 'before') {
      const effect = event.effect as { readonly kind: string; readonly version?: number }
      if (effect.kind === 'publish-bundle') this.#published.set(effect.version ?? 0, at)
    }
    if (type !== 'commit') return
    this.#idle = false
    const { move } = event
    // the version that is taken back is the one before
    if (when === 'before' && (move === 'withdraw' || move === 'rollback'))
      this.#bad = { version: Number(event.version) - 1, at }
    if (when === 'after' && move === 'converge' && this.#bad !== null) this.#provenAt ??= at
  }

  get idle(): boolean {
    return this.#idle
  }

  begin(): void {
    this.#bad = null
    this.#provenAt = null
  }

  /** Null while it is under way. */
  result(): Round | null {
    const bad = this.#bad
    const published = bad === null ? undefined : this.#published.get(bad.version)
    if (bad === null || published === undefined || this.#provenAt === null) return null
    return {
      noticedMs: bad.at - published,
      provenMs: this.#provenAt - bad.at,
      touched: [...this.#touched(bad.version)],
    }
  }

  #touched(version: number): Set<string> {
    const nodes = this.#nodes.get(version) ?? new Set()
    this.#nodes.set(version, nodes)
    return nodes
  }
}

async function until<T>(
  what: string,
  look: () => T | null,
  domain: LocalDomain,
  signal: AbortSignal,
): Promise<T> {
  const deadline = Date.now() + PATIENCE
  for (;;) {
    const found = look()
    if (found !== null) return found
    const ended = [...domain.children.values()].find((child) => child.ended)
    if (ended !== undefined) throw new RotorError('ERR_INTERNAL', `${ended.name} ended by itself`)
    if (Date.now() > deadline) throw new RotorError('ERR_INTERNAL', `${what}: not within ${PATIENCE} ms`)
    await sleep(10, signal)
  }
}

async function measure(kind: Kind, rounds: number, services: readonly string[], signal: AbortSignal) {
  const watch = new Watch()
  await using domain = await makeLocalDomain({
    epochDuration: EPOCH,
    servers: SERVERS,
    services: services.map((name) => ({ name, publish: ['bench.>'], subscribe: ['bench.>'] })),
    onEvent: (event) => watch.take(event),
  })
  note(`${kind}: ${SERVERS} nats-servers, ${services.length} services: starting`)
  await startAll(domain, services, signal)
  await until('the domain at rest', () => watch.idle || null, domain, signal)
  await pinFiles(domain, KINDS[kind])
  const done: Round[] = []
  for (let i = 1; i <= rounds; i++) {
    watch.begin()
    await orderRotation(domain)
    const round = await until('a bad rotation that is taken back', () => watch.result(), domain, signal)
    await until('the domain at rest', () => watch.idle || null, domain, signal)
    done.push(round)
    const { noticedMs, provenMs, touched } = round
    note(
      `${kind} ${i}/${rounds}: noticed after ${Math.round(noticedMs)} ms, proven ${Math.round(provenMs)} ms later, touched ${touched}`,
    )
  }
  const natsServer = domain.servers[0]?.version ?? 'unknown'
  return { natsServer, rounds: done }
}

function summarise(rounds: readonly Round[]) {
  const figures = (values: readonly number[]) => ({
    p50: percentile(values, 50),
    p99: percentile(values, 99),
    max: percentile(values, 100),
  })
  const provenMs = figures(rounds.map((round) => round.provenMs))
  return {
    noticedMs: figures(rounds.map((round) => round.noticedMs)),
    provenMs,
    mostTouched: Math.max(...rounds.map(({ touched }) => touched.length)),
    met: provenMs.max !== null && provenMs.max <= TARGET.provenMs,
  }
}

function render(results: Readonly<Record<Kind, ReturnType<typeof summarise>>>): string {
  const row = (name: string, cells: readonly (number | string | null)[]) =>
    name.padEnd(52) + cells.map((cell) => String(cell ?? '-').padStart(9)).join('')
  const lines = [row('milliseconds', ['p50', 'p99', 'max'])]
  for (const [kind, { noticedMs, provenMs, mostTouched }] of Object.entries(results)) {
    for (const [words, { p50, p99, max }] of [
      ['published -> the issuer knows that it is bad', noticedMs],
      ['known -> taken back and proven on every node', provenMs],
    ] as const) {
      lines.push(
        row(
          `${kind}: ${words}`,
          [p50, p99, max].map((value) => value && Math.round(value)),
        ),
      )
    }
    lines.push(row(`${kind}: nodes that used the bad bundle, at most`, ['', '', mostTouched]))
  }
  const met = Object.values(results).every((result) => result.met)
  lines.push('', `target: known -> proven <= ${TARGET.provenMs} ms: ${met ? 'met' : 'not met'}`)
  return lines.join('\n')
}

async function main(signal: AbortSignal): Promise<number> {
  const flags = parseFlags({
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '10' },
    services: { type: 'string', default: '4' },
  })
  if (flags.help) {
    process.stdout.write(HELP)
    return 0
  }
  const rounds = wholeNumber('rounds', flags.rounds, 1)
  const count = wholeNumber('services', flags.services, 1)
  const services = Array.from({ length: count }, (_, i) => `service-${i + 1}`)
  const withdraw = await measure('withdraw', rounds, services, signal)
  const rollback = await measure('rollback', rounds, services, signal)
  const results = { withdraw: summarise(withdraw.rounds), rollback: summarise(rollback.rounds) }
  const head = {
    type: 'rollback-benchmark',
    at: formatInstant(Date.now()),
    machine: machine(withdraw.natsServer),
    rounds,
    servers: SERVERS,
    services: count,
    target: TARGET,
  }
  process.stdout.write(flags.json ? `${JSON.stringify({ ...head, ...results })}\n` : `${render(results)}\n`)
  return Object.values(results).every(({ mostTouched }) => mostTouched === 1) ? 0 : 1
}

await runCommand(main)
