/**
 * Many rotations of a real domain under traffic, with a fault in each: does every one end, does every message arrive, and is
 * nothing left over? One seed chooses the faults, their moments and their targets.
 */
import { dirname } from 'node:path'
import type { AuthorityKind } from '../../demo/domain.ts'
import { percentile } from '../../demo/progress.ts'
import type { Overview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { type Duration, formatDuration, sleep } from '../../src/time.ts'
import { eventually } from '../support/eventually.ts'
import { Random } from '../support/random.ts'
import type { Closing, Counts } from './account.ts'
import { type FaultKind, faultKinds, type PlannedFault, planFaults } from './faults.ts'
import { Fleet } from './fleet.ts'
import { inject } from './inject.ts'
import { findLeftovers, processesOf } from './leftovers.ts'
import { type MachineFacts, MachineWatch, sayMachine } from './machine.ts'

export interface SoakOptions {
  readonly rotations: number
  readonly seed: number
  /** @default 'embedded' */
  readonly authority?: AuthorityKind
  /** @default 10 */
  readonly services?: number
  /** Messages per second of each service, half core and half JetStream. @default 40 */
  readonly rate?: number
  /** @default all that fit the authority */
  readonly faults?: readonly FaultKind[]
  /** In this rotation one message is counted as published and never sent: the soak has to find it. @default in none */
  readonly plant?: number
  /** Keeps every file and log there. @default a temporary one */
  readonly dir?: string
  readonly signal: AbortSignal
  /** A line of progress. */
  readonly note: (text: string) => void
}

export interface SoakReport extends Counts {
  readonly type: 'soak'
  /** Every promise held. */
  readonly ok: boolean
  readonly seed: number
  readonly authority: AuthorityKind
  readonly services: number
  readonly rotations: number
  /** Rotations that were taken back because of the fault, and ordered again. */
  readonly takenBack: number
  /** Core messages that arrived of services that were killed before they could tell of them. */
  readonly untold: number
  /** How often each happened. */
  readonly faults: Readonly<Record<string, number>>
  readonly rotationMs: { readonly p50: number | null; readonly max: number | null }
  readonly durationMs: number
  /** The longest stop of all rotations, and the mean of what was stolen in them. */
  readonly machine: MachineFacts
  /** Why requests failed. */
  readonly reasons: Readonly<Record<string, number>>
  /** What is missing, by name, with the fault that explains it. */
  readonly explained: readonly string[]
  /** Everything that broke a promise. */
  readonly problems: readonly string[]
}

/** After the fault is mended, until everybody stands on the new authority. */
const CONVERGES_WITHIN: Duration = 180_000
/** After the fault is mended and everybody has converged: what is on its way has this long. */
const ARRIVES_WITHIN: Duration = 60_000
/** The same, where a fault explains that it is missing, or nobody sent it. */
const LOST_AFTER: Duration = 2_000
/** Orders of one rotation, before it counts as one that does not end. */
const TRIES = 4

/** Runs it, and returns what became of it; it stops at the first rotation that does not end. Throws ERR_ABORTED. */
export async function runSoak(options: SoakOptions): Promise<SoakReport> {
  const { authority = 'embedded', services = 10, rate = 40, dir: keep, signal, note } = options
  note(`starting 3 nats-servers, 2 issuers, ${services} services (${authority})`)
  const fleet = await Fleet.start({
    services,
    rate,
    authority,
    signal,
    ...(keep === undefined ? {} : { dir: keep }),
  })
  using machine = await MachineWatch.start()
  const soak = new Soak(fleet, machine, options)
  const dir = dirname(fleet.domain.local.dir)
  try {
    await soak.run()
  } finally {
    await fleet[Symbol.asyncDispose]()
  }
  const left = await processesOf(dir)
  return soak.report(left.map((pid) => `the process ${pid} outlived the soak`))
}

class Soak {
  readonly #fleet: Fleet
  readonly #machine: MachineWatch
  readonly #options: SoakOptions
  readonly #faults = new Map<string, number>()
  readonly #rotationMs: number[] = []
  readonly #explained: string[] = []
  readonly #problems: string[] = []
  readonly #closings: (Closing & { readonly machine: MachineFacts })[] = []
  readonly #began = performance.now()
  #takenBack = 0

  constructor(fleet: Fleet, machine: MachineWatch, options: SoakOptions) {
    this.#fleet = fleet
    this.#machine = machine
    this.#options = options
  }

  async run(): Promise<void> {
    const { rotations, seed, authority = 'embedded', faults, signal, note } = this.#options
    const plan = planFaults(new Random(seed), faults ?? faultKinds(authority))
    for (let n = 1; n <= rotations; n++) {
      signal.throwIfAborted()
      const fault = plan.next().value
      try {
        note(`${n}/${rotations} ${await this.#rotation(n, fault)}`)
      } catch (cause) {
        signal.throwIfAborted()
        // what follows would be measured on a domain that is not whole
        return this.#fail(`rotation ${n}, ${describe(fault)}: ${RotorError.from(cause).message}`)
      }
    }
    try {
      const leftovers = await findLeftovers(this.#fleet)
      this.#fleet.stopPublishing()
      await this.#close('after the last rotation', false)
      this.#problems.push(...this.#fleet.account.atTheEnd().problems, ...leftovers)
    } catch (cause) {
      signal.throwIfAborted()
      await this.#fail(`after the last rotation: ${RotorError.from(cause).message}`)
    }
  }

  report(alsoProblems: readonly string[]): SoakReport {
    const { seed, authority = 'embedded', services = 10 } = this.#options
    const problems = [...this.#problems, ...alsoProblems]
    const reasons = new Map<string, number>()
    for (const told of this.#fleet.reasons.values()) {
      for (const [reason, count] of Object.entries(told))
        reasons.set(reason, (reasons.get(reason) ?? 0) + count)
    }
    return {
      type: 'soak',
      ok: problems.length === 0,
      seed,
      authority,
      services,
      rotations: this.#rotationMs.length,
      takenBack: this.#takenBack,
      faults: Object.fromEntries(this.#faults),
      ...sumOf(this.#closings.map(({ counts }) => counts)),
      untold: this.#fleet.account.atTheEnd().untold,
      rotationMs: { p50: percentile(this.#rotationMs, 50), max: percentile(this.#rotationMs, 100) },
      durationMs: Math.round(performance.now() - this.#began),
      machine: machineOf(this.#closings.map(({ machine }) => machine)),
      reasons: Object.fromEntries(reasons),
      explained: this.#explained,
      problems,
    }
  }

  /** From the order until everybody stands on the new authority, and the account is closed. Returns what to say of it. */
  async #rotation(n: number, fault: PlannedFault): Promise<string> {
    const { domain } = this.#fleet
    const before = (await domain.overview()).active
    const began = performance.now()
    const { signal } = this.#options
    const late = Math.max(0, -fault.at)
    const [, hit] = await joined([
      sleep(late, signal).then(() => domain.order(`soak ${n}`)),
      sleep(fault.at + late, signal).then(() => inject(this.#fleet, fault, signal)),
    ])
    this.#faults.set(fault.kind, (this.#faults.get(fault.kind) ?? 0) + 1)
    const now = await this.#converged(before, n)
    const tookMs = Math.round(performance.now() - began)
    this.#rotationMs.push(tookMs)
    if (n === this.#options.plant) this.#fleet.processOf(this.#fleet.services[0] ?? '').send('plant')
    const ended = this.#fleet.endedByThemselves()
    if (ended.length > 0) throw new RotorError('ERR_INTERNAL', `${ended.join(', ')} ended by itself`)

    const closing = await this.#close(`rotation ${n}, ${describe(fault)}`, n === this.#options.plant)
    const facts = `epoch ${now.active}, version ${now.version}, ${formatDuration(tookMs)}`
    return `${describe(fault)}, hit ${hit}: ${facts}; ${say(closing.counts)}; ${sayMachine(closing.machine)}`
  }

  /** The account of what was published until now. */
  async #close(what: string, planted: boolean): Promise<Closing & { readonly machine: MachineFacts }> {
    const { account } = this.#fleet
    const { signal, note } = this.#options
    const marks = await this.#fleet.marks()
    account.mark()
    const arrived = (explained: boolean, timeout: Duration) =>
      eventually(() => account.outstanding(marks, { explained }).length === 0, { timeout, signal })
        // what does not arrive is told by the closing
        .catch(() => signal.throwIfAborted())
    await arrived(true, LOST_AFTER)
    await arrived(false, planted ? LOST_AFTER : ARRIVES_WITHIN)
    const machine = await this.#machine.take()
    const closing = { ...account.close(marks), machine }
    this.#closings.push(closing)
    this.#explained.push(...closing.explained.map((text) => `${what}: ${text}`))
    this.#problems.push(...closing.problems.map((text) => `${what}: ${text} (${sayMachine(machine)})`))
    for (const problem of closing.problems) note(`  ${problem}`)
    return closing
  }

  /** A rotation that was taken back because servers refused it in trouble is ordered again: an operator would. */
  async #converged(before: number, n: number): Promise<Overview> {
    const { domain, nodes } = this.#fleet
    for (let left = TRIES; ; left--) {
      const now = await domain.settled(nodes, ({ authorities }) => authorities.length === 1, CONVERGES_WITHIN)
      if (now.active > before) return now
      if (left <= 1) throw new RotorError('ERR_INTERNAL', `taken back ${TRIES} times`)
      this.#takenBack += 1
      this.#options.note(`  rotation ${n} was taken back: ordered again`)
      await domain.order(`soak ${n}, again`)
    }
  }

  async #fail(problem: string): Promise<void> {
    const { nodes, domain } = this.#fleet
    this.#problems.push(problem)
    const overview = await domain.overview().catch(() => null)
    const late = nodes.filter((node) => {
      const status = overview?.agents.find(({ name }) => name === node)?.status
      return status?.version !== overview?.version || status?.leaf.issuerEpoch !== overview?.active
    })
    this.#options.note(
      `seed ${this.#options.seed}: ${problem}\nlate: ${late.join(', ') || 'nobody'}\n${await this.#fleet.lastLines(late)}`,
    )
  }
}

/** Both ends are awaited before the first failure is thrown. */
async function joined<A, B>([a, b]: [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled([a, b])
  return Promise.all([a, b])
}

const describe = ({ kind, at, lasts }: PlannedFault): string =>
  `${kind} ${formatDuration(Math.abs(at))} ${at < 0 ? 'before' : 'after'} the order, for ${formatDuration(lasts)}`

const say = ({ core, jetstream, requests }: Counts): string =>
  `core ${core.published}, lost ${core.lost}, twice ${core.duplicated}, reordered ${core.reordered}; ` +
  `jetstream ${jetstream.acknowledged}, lost ${jetstream.lost}, twice ${jetstream.duplicated}, redelivered ${jetstream.redelivered}; ` +
  `requests ${requests.sent}, failed ${requests.failed}`

function machineOf(all: readonly MachineFacts[]): MachineFacts {
  const stolen = all.flatMap((one) => one.stolen ?? [])
  return {
    stillMs: Math.max(0, ...all.map(({ stillMs }) => stillMs)),
    stolen: stolen.length === 0 ? null : stolen.reduce((sum, one) => sum + one, 0) / stolen.length,
  }
}

function sumOf(all: readonly Counts[]): Counts {
  const sum = (pick: (counts: Counts) => number): number =>
    all.reduce((total, counts) => total + pick(counts), 0)
  return {
    core: {
      published: sum(({ core }) => core.published),
      lost: sum(({ core }) => core.lost),
      duplicated: sum(({ core }) => core.duplicated),
      reordered: sum(({ core }) => core.reordered),
    },
    jetstream: {
      acknowledged: sum(({ jetstream }) => jetstream.acknowledged),
      lost: sum(({ jetstream }) => jetstream.lost),
      duplicated: sum(({ jetstream }) => jetstream.duplicated),
      redelivered: sum(({ jetstream }) => jetstream.redelivered),
    },
    requests: {
      sent: sum(({ requests }) => requests.sent),
      failed: sum(({ requests }) => requests.failed),
    },
  }
}
