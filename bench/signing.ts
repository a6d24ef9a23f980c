/**
 * `npm run bench:signing`: how many certificates does an issuer sign in a second, next to what node:crypto can do and
 * to OpenBao, in one run? `docs/benchmarks.md` says what is measured.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import { startNatsServer } from '../src/local/nats-server.ts'
import { type Duration, formatInstant } from '../src/time.ts'
import { decodeRecord } from '../src/wire/record.ts'
import { signAnswer } from '../src/wire/requests.ts'
import { machine, note, parseFlags, runCommand, wholeNumber } from './command.ts'
import { CallThread } from './load/thread.ts'
import { type SigningEngine, startSigningEngine } from './signing-engine.ts'
import { leafRequestOf, makeSigningStage, type SigningStage } from './signing-stage.ts'
import { renderSigning, type SigningRound, summariseSigning } from './signing-summary.ts'
import type { Asked, Asking } from './signing-thread.ts'

const HELP = `npm run bench:signing -- [--json] [--rounds N] [--seconds N] [--agents N] [--no-openbao]

Signs certificate requests by the embedded authority, in the issuer and over a nats-server, and by a real OpenBao,
next to the bare signatures of node:crypto.

  --json          one JSON object on stdout instead of a table
  --rounds N      rounds, each with every measure (default 5)
  --seconds N     length of each measure (default 2)
  --agents N      nodes with a request of their own (default 1000)
  --no-openbao    without the measures of OpenBao

Exit code: 0 measured, 64 wrong use, 69 a server is missing, 130 stopped by a signal.
`
/** Requests under way at once: in the issuer as many as its line is wide, over NATS a crowd. */
const IN_PROCESS = 16
const OVER_NATS = 64
const ENGINE = 8

interface Options {
  readonly json: boolean
  readonly rounds: number
  readonly measure: Duration
  readonly agents: number
  readonly openbao: boolean
}

const FLAGS = {
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
  'no-openbao': { type: 'boolean', default: false },
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '2' },
  agents: { type: 'string', default: '1000' },
} as const

function readOptions(): Options | null {
  const values = parseFlags(FLAGS)
  if (values.help) return null
  return {
    json: values.json,
    openbao: !values['no-openbao'],
    rounds: wholeNumber('rounds', values.rounds, 1),
    measure: 1000 * wholeNumber('seconds', values.seconds, 1),
    agents: wholeNumber('agents', values.agents, 1),
  }
}

/** How many a second, with `inFlight` under way at once for `ms`. */
async function rateOf(ms: Duration, inFlight: number, one: (i: number) => Promise<void>): Promise<number> {
  const begin = performance.now()
  let begun = 0
  const loop = async (): Promise<void> => {
    while (performance.now() < begin + ms) await one(begun++)
  }
  await Promise.all(Array.from({ length: inFlight }, loop))
  return (1000 * begun) / (performance.now() - begin)
}

async function embedded({ signing, requests }: SigningStage, ms: Duration) {
  const cpu = process.cpuUsage()
  let done = 0
  const rate = await rateOf(ms, IN_PROCESS, async (i) => {
    const { subject, proof } = at(requests, i)
    let answer: Uint8Array = Buffer.alloc(0)
    const respond = (data: unknown): boolean => {
      answer = data as Uint8Array
      return true
    }
    await signing.handle({ subject, data: proof, respond })
    const read = decodeRecord(signAnswer, answer, subject)
    if (!read.ok) throw new RotorError(read.code, `${subject}: ${read.message}`)
    done += 1
  })
  const { user, system } = process.cpuUsage(cpu)
  return { embedded: rate, embeddedCpuMs: (user + system) / 1000 / done }
}

const at = <T>(list: readonly T[], i: number): T => {
  const found = list[i % list.length]
  if (found === undefined) throw new TypeError('expected at least one')
  return found
}

/** One thread, then two at once. */
async function raw(threads: readonly [CallThread, CallThread], ms: Duration) {
  const rate = async (thread: CallThread): Promise<number> =>
    (1000 * Number(await thread.call('raw', ms))) / ms
  const one = await rate(threads[0])
  const two = await Promise.all(threads.map(rate))
  return { raw: one, raw2: two.reduce((sum, each) => sum + each, 0) }
}

async function overNats(fleet: CallThread, ms: Duration): Promise<number> {
  const { signed, refused, took } = (await fleet.call('ask', { ms, inFlight: OVER_NATS })) as Asked
  if (refused > 0) note(`${refused} requests were asked to come back`)
  return (1000 * signed) / took
}

/** Through us and directly by turns, in slices, so that both see the same machine. */
async function engineRates(engine: SigningEngine | null, stage: SigningStage, ms: Duration) {
  if (engine === null) return { engineThroughUs: null, engineDirectly: null }
  const sums = { engineThroughUs: 0, engineDirectly: 0 }
  const slices = 4
  for (let slice = 0; slice < slices; slice++) {
    const request = (i: number) => leafRequestOf(at(stage.requests, i))
    const ways = [
      async () => {
        sums.engineThroughUs += await rateOf(ms / slices, ENGINE, (i) => engine.throughUs(request(i)))
      },
      async () => {
        sums.engineDirectly += await rateOf(ms / slices, ENGINE, (i) => engine.directly(request(i)))
      },
    ]
    for (const way of slice % 2 === 0 ? ways : ways.reverse()) await way()
  }
  return { engineThroughUs: sums.engineThroughUs / slices, engineDirectly: sums.engineDirectly / slices }
}

async function main(signal: AbortSignal): Promise<number> {
  const options = readOptions()
  if (options === null) {
    process.stdout.write(HELP)
    return 0
  }
  await using opened = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'rotor-bench-'))
  opened.defer(() => rm(dir, { recursive: true, force: true }))
  const args = ['-a', '127.0.0.1', '-p', '-1']
  const server = opened.use(await startNatsServer({ name: 'nats', cwd: dir, args, signal }))
  const address = server.addresses.client ?? ''
  const engine = options.openbao ? opened.use(await startSigningEngine()) : null
  note(`${options.agents} nodes make their requests`)
  const stage = opened.use(await makeSigningStage(options.agents))
  const nc = await connect({ servers: address })
  opened.defer(() => nc.close())
  nc.subscribe(stage.names.signSubject('*'), { callback: (_, message) => void stage.signing.handle(message) })
  await nc.flush()
  const thread = (what: string) =>
    opened.use(new CallThread(what, new URL('./signing-thread.ts', import.meta.url), null))
  const threads = [thread('the fleet'), thread('the second thread')] as const
  const asking: Asking = {
    server: address,
    requests: stage.requests.map(({ subject, proof }) => ({ subject, proof })),
  }
  await threads[0].call('open', asking)
  opened.defer(async () => void (await threads[0].call('close')))

  const rounds: SigningRound[] = []
  for (let i = 0; i <= options.rounds; i++) {
    signal.throwIfAborted()
    // the first one warms up the code and is short
    const ms = i === 0 ? 500 : options.measure
    const round = {
      ...(await raw(threads, ms)),
      ...(await embedded(stage, ms)),
      overNats: await overNats(threads[0], ms),
      ...(await engineRates(engine, stage, 2 * ms)),
    }
    if (i > 0) rounds.push(round)
    note(i > 0 ? `round ${i}/${options.rounds}: ${Math.round(round.embedded)}/s` : 'warm')
  }
  const summary = summariseSigning(rounds)
  const head = {
    type: 'signing-benchmark',
    at: formatInstant(Date.now()),
    machine: { ...machine(server.version), openbao: engine?.version ?? null },
    rounds: options.rounds,
    seconds: options.measure / 1000,
    agents: options.agents,
  }
  process.stdout.write(
    options.json ? `${JSON.stringify({ ...head, ...summary })}\n` : `${renderSigning(summary)}\n`,
  )
  return 0
}

await runCommand(main)
