/**
 * What flows through the moved connection, under which subjects, and how much of it? Three publishers ("peers") stand
 * on three servers; the moved connection stands on the first.
 *
 *   plain      every peer  -> moved                    the main flow: all of the rate
 *   sole       every peer  -> queue group of moved only
 *   shared     every peer  -> queue group of moved and of the last peer
 *   out        moved       -> the last peer
 *   asking     moved       -> a service on the second peer, and back
 *   asked      every peer  -> a service on moved, and back
 *   jetstream  first peer  -> stream -> consume() with acks on moved
 *   kv         first peer  -> bucket -> watch on moved
 */
import type { FlowCounts } from './ledger.ts'

export const PEERS = 3
/** Indices of the peers with a part of their own. */
export const STORE_PEER = 0
export const SERVICE_PEER = 1
export const DISTANT_PEER = 2

export const FLOWS = ['plain', 'sole', 'shared', 'out', 'asking', 'asked', 'jetstream', 'kv'] as const
export type FlowName = (typeof FLOWS)[number]

export interface FlowReport extends FlowCounts {
  /** Requests without the right answer; messages that could not be published. */
  readonly failed: number
  /** Deliveries that the server marked as repeated. */
  readonly redelivered: number
  /** Why they failed, and how often. */
  readonly reasons: Readonly<Record<string, number>>
}

export type LoadReport = Readonly<Record<FlowName, FlowReport>>

/** Everything of one run of the load stands under its name, so that nothing of one run is counted in another. */
export const loadNames = (run: string) => ({
  plain: (publisher: number | '*') => `load.${run}.plain.${publisher}`,
  sole: `load.${run}.sole`,
  shared: `load.${run}.shared`,
  out: `load.${run}.out`,
  echo: (who: number | 'moved') => `load.${run}.echo.${who}`,
  queue: 'workers',
  stream: `LOAD_${run}`,
  stored: `load.${run}.stored`,
  durable: 'moved',
  bucket: `load_${run}`,
  key: 'state',
})
export type LoadNames = ReturnType<typeof loadNames>

/** What both users need besides their inboxes, for runs of these names. */
export function loadGrants(runs: readonly string[]) {
  const names = runs.map(loadNames)
  return {
    // the key-value library looks at the account first
    publish: ['load.>', '$JS.API.INFO', ...names.map(({ bucket }) => `$KV.${bucket}.>`)],
    subscribe: ['load.>'],
    streams: names.flatMap(({ stream, bucket }) => [stream, `KV_${bucket}`]),
  }
}

/** Messages per second of each flow, all publishers together; the small ones never so few that a gap hides in them. */
export const flowRates = (rate: number): Readonly<Record<FlowName, number>> => ({
  plain: rate,
  sole: Math.max(50, rate / 20),
  shared: Math.max(50, rate / 20),
  out: Math.max(50, rate / 10),
  asking: Math.max(50, rate / 100),
  asked: Math.max(50, rate / 100),
  jetstream: Math.max(50, rate / 50),
  kv: 50,
})

/** Milliseconds a request may take. */
export const REQUEST_PATIENCE = 2000
