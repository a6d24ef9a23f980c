/** What is stored of the history of a domain, read and not judged: the stream, what is kept beside the keys, the first bundle. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { JetStreamApiError, type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { openEnvelope } from '../../src/bundle/envelope.ts'
import type { IssuerConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { HistoryMaterial, StreamMessage } from '../../src/history/verify.ts'
import { silentLogger } from '../../src/log.ts'
import { type RotationState, rotationState } from '../../src/rotation/state.ts'
import { bundlePayload } from '../../src/wire/bundle.ts'
import { type DomainNames, domainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { openAuthority } from '../authority/open.ts'
import { readSealed, readState } from '../store.ts'
import type { BundleHistory } from './history.ts'
import { historyOf } from './open.ts'

/** JetStream API error: no message at this sequence. */
const NO_MESSAGE = 10037
/** Requests at once. */
const AT_ONCE = 32

export interface Gathered extends Pick<HistoryMaterial, 'stream' | 'kept' | 'genesis'> {
  /** Before and after the stream was read; nulls without NATS, or before the first. */
  readonly states: readonly [RotationState | null, RotationState | null]
  /** The later one as its bytes are stored. */
  readonly sealed: { readonly data: Uint8Array; readonly repeated: boolean } | null
}

/**
 * Reads all of it while the domain goes on; in an order in which that looks like no damage. `nc` null: only what is kept.
 * Throws ERR_NATS_*, ERR_AUTHORITY_*, ERR_RECORD_INVALID.
 */
export async function gatherHistory(config: IssuerConfig, nc: NatsConnection | null): Promise<Gathered> {
  const genesis = await readGenesis(config)
  await using opened = await openAuthority({ ...config, permitted: undefined, logger: silentLogger })
  const history = historyOf(config, opened.vault)
  if (nc === null)
    return { stream: null, kept: await gatherKept(history), genesis, states: [null, null], sealed: null }
  const names = domainNames(config.domain)
  const read = async () => (await readState(nc, names))?.state ?? null
  const before = await read()
  const known = (await history.list()).at(-1) ?? 0
  const stream = await gatherStream(nc, names)
  const sealed = await readSealed(nc, names)
  const after = sealed === null ? null : decodeRecord(rotationState, sealed.data, names.stateBucket)
  // kept and published since then
  const kept = (await gatherKept(history)).filter(
    ({ version }) => version <= Math.max(known, newestIn(stream)),
  )
  return { stream, kept, genesis, states: [before, after], sealed }
}

/** By what the messages say of themselves. */
function newestIn({ messages }: NonNullable<HistoryMaterial['stream']>): number {
  const versions = messages.map(({ data }) => {
    try {
      return decodeRecord(bundlePayload, openEnvelope(data).payload, 'bundle').version
    } catch {
      return 0
    }
  })
  return Math.max(0, ...versions)
}

/** Every message of the bundle stream, also those that are no bundle. Throws ERR_NATS_*. */
async function gatherStream(
  nc: NatsConnection,
  names: DomainNames,
): Promise<NonNullable<HistoryMaterial['stream']>> {
  try {
    const jsm = await jetstreamManager(nc, { timeout: 5000, checkAPI: false })
    const { state, config } = await jsm.streams.info(names.bundleStream)
    const { first_seq: first, last_seq: last } = state
    const messages: StreamMessage[] = []
    for (let from = first; from <= last; from += AT_ONCE) {
      const sequences = Array.from({ length: Math.min(AT_ONCE, last - from + 1) }, (_, i) => from + i)
      const found = await Promise.all(sequences.map((sequence) => messageAt(jsm, names, sequence)))
      messages.push(...found.flatMap((one) => one ?? []))
    }
    return { messages, first, last, limit: config.max_msgs }
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_NATS_UNAVAILABLE', names.bundleStream)
  }
}

async function messageAt(
  jsm: JetStreamManager,
  { bundleStream }: DomainNames,
  sequence: number,
): Promise<StreamMessage | null> {
  try {
    const message = await jsm.streams.getMessage(bundleStream, { seq: sequence })
    return message === null || message.seq !== sequence ? null : { sequence, data: message.data }
  } catch (cause) {
    if (cause instanceof JetStreamApiError && cause.code === NO_MESSAGE) return null
    throw cause
  }
}

/** Bundles beside the keys. One that was forgotten since the list was made is left out. */
async function gatherKept(history: BundleHistory): Promise<NonNullable<HistoryMaterial['kept']>> {
  const kept: { version: number; data: Uint8Array }[] = []
  for (const version of await history.list()) {
    const data = await history.read(version)
    if (data !== null) kept.push({ version, data })
  }
  return kept
}

/** The bundle of the founding. Throws ERR_AUTHORITY_MISSING. */
async function readGenesis({ keys }: Pick<IssuerConfig, 'keys'>): Promise<Uint8Array> {
  const file = join(keys, 'genesis.jws')
  return readFile(file).catch((cause) => {
    throw new RotorError('ERR_AUTHORITY_MISSING', `expected ${file}: ${cause.message}`, { cause })
  })
}
