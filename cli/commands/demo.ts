/** `rotor demo`: watch a live three-node cluster change its CA under traffic. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { ChildEvent } from '../../demo/child.ts'
import { type DemoSummary, runDemo } from '../../demo/demo.ts'
import { AUTHORITY_KINDS, type AuthorityKind } from '../../demo/domain.ts'
import type { Progress } from '../../demo/progress.ts'
import { RotorError } from '../../src/errors.ts'
import { signalOfProcess } from '../daemon.ts'
import { renderLine, renderScreen } from '../demo-view.ts'
import { colour, makeOutput, type Output, table } from '../output.ts'

interface DemoFlags {
  readonly epochs: number
  readonly epochSeconds: number
  readonly services: number
  readonly rate: number
  readonly authority: AuthorityKind
  readonly keep?: string
  readonly json: boolean
}

const whole =
  (least: number) =>
  (text: string): number => {
    const value = Number(text)
    if (!Number.isInteger(value) || value < least)
      throw new InvalidArgumentError(`expected a whole number, ${least} or more`)
    return value
  }

const REDRAW = 200

export function addDemo(program: Command): void {
  program
    .command('demo')
    .summary('watch a live three-node cluster change its CA under traffic')
    .description(
      `Starts three real nats-servers with TLS, an issuer, an agent beside each server, and services that exchange core and
JetStream messages; rotates the CA every few seconds; counts every message. Nothing is left behind.`,
    )
    .option('--epochs <n>', 'rotations to see; 0 runs until Ctrl-C', whole(0), 5)
    .option('--epoch-seconds <s>', 'length of an epoch', whole(3), 10)
    .option('--services <k>', 'services; every second one has its agent as a separate process', whole(2), 4)
    .option('--rate <msgs>', 'messages per second of all services together', whole(1), 2000)
    .addOption(
      new Option('--authority <kind>', 'where authorities are made: in the issuer, or in a real OpenBao')
        .choices(AUTHORITY_KINDS)
        .default('embedded'),
    )
    .option('--keep <dir>', 'keep all files and logs in this directory')
    .option('--json', 'one JSON object for each event, the summary last', false)
    .action(async (flags: DemoFlags) => {
      const output = makeOutput(flags.json)
      const { signal, forget } = signalOfProcess()
      const screen = new Screen(output, flags.epochs)
      try {
        const summary = await runDemo({
          ...flags,
          signal,
          onEvent: (event, progress) => screen.take(event, progress),
        })
        screen.end()
        output.event(summary, renderSummary(summary))
        process.exitCode = summary.ok ? 0 : 1
      } catch (cause) {
        screen.end()
        if (!signal.aborted) throw cause
        throw new RotorError('ERR_ABORTED', 'the demo was stopped; everything it started has ended')
      } finally {
        forget()
      }
    })
}

/** Draws on a terminal, prints lines elsewhere, JSON when asked. */
class Screen {
  readonly #output: Output
  readonly #goal: number
  readonly #live: boolean
  readonly #began = Date.now()
  #timer: NodeJS.Timeout | null = null
  #progress: Progress | null = null

  constructor(output: Output, goal: number) {
    this.#output = output
    this.#goal = goal
    this.#live = !output.json && process.stdout.isTTY === true
  }

  take(event: ChildEvent, progress: Progress): void {
    this.#progress = progress
    if (!this.#live) this.#output.event(event, renderLine(event, Date.now() - this.#began))
    if (!this.#live || this.#timer !== null) return
    process.stdout.write('\x1b[?1049h\x1b[?25l')
    this.#timer = setInterval(() => this.#draw(), REDRAW)
  }

  end(): void {
    if (this.#timer === null) return
    clearInterval(this.#timer)
    this.#timer = null
    process.stdout.write('\x1b[?25h\x1b[?1049l')
  }

  #draw(): void {
    if (this.#progress === null) return
    const text = renderScreen(this.#progress, this.#goal, Date.now() - this.#began)
    process.stdout.write(`\x1b[H${text.replaceAll('\n', '\x1b[K\n')}\x1b[K\x1b[J`)
  }
}

function renderSummary(summary: DemoSummary): string {
  const s = summary as unknown as {
    ok: boolean
    rotations: number
    bundleVersion: number
    jetstream: Record<string, number>
    core: Record<string, number>
    requests: Record<string, number>
    rotationMs: Record<string, number | null>
    servers: { name: string; version: string; servedEpoch: number | null }[]
  }
  const words = (counts: Record<string, number>) =>
    Object.entries(counts)
      .map(([name, n]) => `${name} ${n}`)
      .join(', ')
  return `${s.ok ? colour('green', 'ok') : colour('red', 'not ok')}: ${s.rotations} rotations, bundle ${s.bundleVersion}
${table([
  ['JetStream', words(s.jetstream)],
  ['core', words(s.core)],
  ['requests', words(s.requests)],
  [
    'published to proven',
    `p50 ${s.rotationMs.p50} ms, p99 ${s.rotationMs.p99} ms, max ${s.rotationMs.max} ms`,
  ],
  ...s.servers.map((server) => [
    server.name,
    `nats-server ${server.version} serves a leaf of epoch ${server.servedEpoch}`,
  ]),
])}`
}
