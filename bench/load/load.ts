/**
 * A whole load around one connection that is to be moved, and what became of it. Benchmarks compare the ways of
 * moving with it, integration tests demand that nothing is lost.
 *
 *   const load = await startLoad({ run: 'a', rate: 20_000, addresses, access })
 *   await load.use(nc)           // subscribes and begins on the connection that is moved
 *   await load.begin()           // returns when everything flows
 *   ...                          // move it
 *   const report = await load.finish()
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../../src/errors.ts'
import { sleep } from '../../src/time.ts'
import { type LoadClient, type Stores, storesOf } from './client.ts'
import { FLOWS, type FlowReport, type LoadReport, loadNames, PEERS, REQUEST_PATIENCE } from './flows.ts'
import { type LedgerNotes, type RequestCounts, readLedgers } from './ledger.ts'
import { MovedSide } from './moved.ts'
import { type PeersOptions, type PeersReport, untilAnswered } from './peers.ts'
import { CallThread } from './thread.ts'

/** Nothing came for so long, milliseconds: with nothing missing only a late duplicate could, otherwise what is missing. */
const QUIET_COMPLETE = 500
const QUIET = 2000
const SETTLED_WITHIN = 60_000
const LOOK_EVERY = 50
const FLOWING_WITHIN = 15_000

export class Load implements AsyncDisposable {
  readonly #options: PeersOptions
  readonly #thread: CallThread
  readonly #moved: MovedSide
  #nc: LoadClient | null = null
  #began = 0
  #plainBefore = 0

  constructor(options: PeersOptions, thread: CallThread) {
    this.#options = options
    this.#thread = thread
    const { run, rate, patience = REQUEST_PATIENCE } = options
    this.#moved = new MovedSide({ names: loadNames(run), rate, patience })
  }

  /** As `Use` of a rebuilt connection: called for each connection that carries the service. */
  readonly use = (nc: NatsConnection): Promise<() => Promise<void>> => this.useClient(nc, storesOf(nc))

  /** For a connection of another client. */
  async useClient(nc: LoadClient, stores: Stores): Promise<() => Promise<void>> {
    this.#nc = nc
    return await this.#moved.use(nc, stores)
  }

  /** Returns when all flows run at both ends; gaps count from then on. */
  async begin(): Promise<void> {
    const nc = this.#connection()
    const names = loadNames(this.#options.run)
    await this.#thread.call('met')
    await Promise.all(Array.from({ length: PEERS }, (_, i) => untilAnswered(nc, names.echo(i))))
    await this.#thread.call('start')
    this.#moved.start()
    const flowing = () => Object.values(this.#moved.ledgers).every((ledger) => ledger.total > 20)
    await until('every flow arriving', FLOWING_WITHIN, () => flowing() && this.#moved.published.out > 20)
    this.#moved.restartGaps(performance.now())
    await this.#thread.call('restartGaps')
    this.#plainBefore = plainOf(await this.#report())
    this.#began = performance.now()
  }

  /** Ends all flows and waits until everything published has arrived, or nothing comes any more. */
  async finish(): Promise<LoadReport & { readonly plainPerSecond: number }> {
    const seconds = (performance.now() - this.#began) / 1000
    const plainPerSecond = Math.round((plainOf(await this.#report()) - this.#plainBefore) / seconds)
    await this.#moved.finish()
    await this.#thread.call('stop')
    await this.#connection().flush()
    return { ...(await this.#settled()), plainPerSecond }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#moved.finish()
    await this.#thread.call('close').catch(() => {})
    await this.#thread[Symbol.asyncDispose]()
  }

  async #settled(): Promise<LoadReport> {
    let last = -1
    let since = performance.now()
    const deadline = since + SETTLED_WITHIN
    for (;;) {
      const peers = await this.#report()
      const report = this.#read(peers)
      const now = performance.now()
      const arrived = this.#arrived(peers)
      if (arrived !== last) since = now
      last = arrived
      const quiet = Object.values(report).every(isComplete) ? QUIET_COMPLETE : QUIET
      if ((peers.unacknowledged === 0 && now - since > quiet) || now > deadline) return report
      await sleep(LOOK_EVERY)
    }
  }

  async #report(): Promise<PeersReport> {
    return (await this.#thread.call('report')) as PeersReport
  }

  #arrived({ received }: PeersReport): number {
    const all = [...Object.values(this.#moved.ledgers), ...Object.values(received)]
    return all.reduce((sum, { total }) => sum + total, 0)
  }

  #read(peers: PeersReport): LoadReport {
    const { ledgers, published: ours } = this.#moved
    const asking = this.#moved.asking.counts()
    const here = (flow: keyof typeof ledgers) => [ledgers[flow].notes()]
    const flow = (
      receivers: readonly LedgerNotes[],
      published: readonly number[],
      rest: Partial<FlowReport> = {},
    ): FlowReport => ({
      ...readLedgers(receivers, published),
      failed: 0,
      redelivered: 0,
      reasons: {},
      ...rest,
    })
    return {
      plain: flow(here('plain'), peers.published.plain),
      sole: flow(here('sole'), peers.published.sole),
      shared: flow([...here('shared'), peers.received.shared], peers.published.shared),
      out: flow([peers.received.out], [ours.out], { failed: ours.failed }),
      asking: flow([peers.received.asking], [asking.sent], failures(asking)),
      asked: flow(here('asked'), peers.published.asked, failures(peers.asked)),
      jetstream: flow(here('jetstream'), peers.published.jetstream, {
        failed: peers.refused.jetstream,
        redelivered: this.#moved.redelivered,
      }),
      kv: flow(here('kv'), peers.published.kv, { failed: peers.refused.kv }),
    }
  }

  #connection(): LoadClient {
    if (this.#nc === null) throw new TypeError('call use() with the connection first')
    return this.#nc
  }
}

/** Both ends are there; nothing flows yet. Throws when the peers can not connect. */
export async function startLoad(options: PeersOptions): Promise<Load> {
  const thread = new CallThread('the peers', new URL('./peer-thread.ts', import.meta.url), options)
  try {
    await thread.call('open')
    return new Load(options, thread)
  } catch (cause) {
    await thread[Symbol.asyncDispose]()
    throw cause
  }
}

/** Nothing missing, nothing too much. */
export const isClean = (flow: FlowReport): boolean =>
  isComplete(flow) && flow.duplicated + flow.reordered + flow.corrupt + flow.failed + flow.redelivered === 0

const plainOf = ({ published }: PeersReport): number => published.plain.reduce((a, b) => a + b, 0)

const isComplete = ({ lost }: FlowReport): boolean => lost === 0

const failures = ({ failed, reasons }: RequestCounts) => ({ failed, reasons })

/** Everything together; the gap is that of the main flow. */
export function sumOf(report: LoadReport): Omit<FlowReport, 'reasons'> {
  const sum = (key: Exclude<keyof FlowReport, 'reasons'>) =>
    FLOWS.reduce((total, flow) => total + report[flow][key], 0)
  return {
    published: sum('published'),
    received: sum('received'),
    lost: sum('lost'),
    duplicated: sum('duplicated'),
    reordered: sum('reordered'),
    corrupt: sum('corrupt'),
    failed: sum('failed'),
    redelivered: sum('redelivered'),
    longestGapMs: report.plain.longestGapMs,
  }
}

async function until(what: string, ms: number, look: () => boolean): Promise<void> {
  const deadline = performance.now() + ms
  while (!look()) {
    if (performance.now() > deadline) throw new RotorError('ERR_INTERNAL', `${what}: not within ${ms} ms`)
    await sleep(LOOK_EVERY)
  }
}
