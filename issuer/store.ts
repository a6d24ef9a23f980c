/** What the issuer keeps on NATS: the bundle stream, the state record, and the buckets. Idempotent; every write is fenced. */
import {
  JetStreamApiError,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import type { Signer } from '../src/bundle/envelope.ts'
import { RotorError } from '../src/errors.ts'
import { sealed } from '../src/history/seal.ts'
import { type RotationState, rotationState } from '../src/rotation/state.ts'
import { MAX_BUNDLE_BYTES } from '../src/wire/bundle.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord } from '../src/wire/record.ts'
import { type OwnBundle, openOwn } from './own.ts'

/** Of the rotation state in its bucket. */
export const STATE_KEY = 'rotation'
/** JetStream API error codes: wrong last sequence, with and without the sequence in the text. */
const CONFLICTS = new Set([10071, 10164])
const NO_MESSAGE = 10037
const NO_STREAM = 10059
const SECOND = 1_000_000_000

export interface StoredState {
  readonly state: RotationState
  readonly revision: number
}

export interface PublishedBundle {
  /** 0 when no bundle of ours is there. */
  readonly version: number
  /** Stream sequence of the last message on the subject. */
  readonly sequence: number
  /** The bytes of that message. */
  readonly last: Uint8Array
  /** The newest bundle of ours; it need not be the last message. */
  readonly own: OwnBundle | null
}

/** Makes stream and buckets as design section 6 names them; leaves existing ones as they are. */
export async function createStores(nc: NatsConnection, names: DomainNames, replicas: number): Promise<void> {
  const jsm = await jetstreamManager(nc, { timeout: 5000 })
  const config = {
    name: names.bundleStream,
    subjects: [names.bundleSubject],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    num_replicas: replicas,
    max_msgs: 4096,
    max_msg_size: MAX_BUNDLE_BYTES,
    duplicate_window: 120 * SECOND,
    deny_delete: true,
    deny_purge: true,
    allow_direct: true,
  }
  const exists = await jsm.streams.info(names.bundleStream).then(
    () => true,
    () => false,
  )
  if (!exists) await jsm.streams.add(config)
  const kvm = new Kvm(jetstream(nc, { timeout: 5000 }))
  await kvm.create(names.statusBucket, { history: 1, replicas, storage: StorageType.File })
  await kvm.create(names.stateBucket, { history: 16, replicas, storage: StorageType.File })
}

/** The stream, or the stream of a bucket, does not exist. */
export const isStoreMissing = (cause: unknown): boolean =>
  cause instanceof JetStreamApiError && cause.code === NO_STREAM

/** The rotation state and its revision, or null before the first issuer wrote it. Throws ERR_RECORD_INVALID. */
export async function readState(nc: NatsConnection, names: DomainNames): Promise<StoredState | null> {
  const kv = await new Kvm(jetstream(nc, { timeout: 5000 })).open(names.stateBucket)
  const entry = await kv.get(STATE_KEY)
  if (entry === null || entry.operation !== 'PUT') return null
  return {
    state: decodeRecord(rotationState, entry.value, `${names.stateBucket}/${STATE_KEY}`),
    revision: entry.revision,
  }
}

/**
 * The state as its bytes are stored, and whether an earlier revision had the same ones: no issuer writes a state twice.
 * Null before the first.
 */
export async function readSealed(
  nc: NatsConnection,
  names: DomainNames,
): Promise<{ readonly data: Uint8Array; readonly repeated: boolean } | null> {
  const kv = await new Kvm(jetstream(nc, { timeout: 5000 })).open(names.stateBucket)
  const revisions: Uint8Array[] = []
  for await (const entry of await kv.history({ key: STATE_KEY })) revisions.push(entry.value)
  const data = revisions.pop()
  if (data === undefined || data.length === 0) return null
  return { data, repeated: revisions.some((one) => Buffer.compare(one, data) === 0) }
}

/** Writes the state, sealed by `signers`, if nobody wrote it since `revision` (0: it must not exist). Throws ERR_STATE_CONFLICT. */
export async function writeState(
  nc: NatsConnection,
  names: DomainNames,
  state: RotationState,
  revision: number,
  signers: readonly Signer[],
): Promise<number> {
  const record = await sealed(state, signers)
  const kv = await new Kvm(jetstream(nc, { timeout: 5000 })).open(names.stateBucket)
  try {
    return revision === 0 ? await kv.create(STATE_KEY, record) : await kv.update(STATE_KEY, record, revision)
  } catch (cause) {
    throw conflictOr(
      cause,
      `${names.stateBucket}/${STATE_KEY}: another issuer wrote after revision ${revision}`,
    )
  }
}

/**
 * The newest bundle on the stream that one of `signers` signed, and the sequence of the last message of any kind;
 * null on an empty stream. Messages that are not ours are passed over: they must not stop the rotation. `known`, the
 * answer before, is given again while the last message is the same.
 */
export async function newestBundle(
  nc: NatsConnection,
  names: DomainNames,
  signers: readonly Pick<Signer, 'key'>[],
  known: PublishedBundle | null = null,
): Promise<PublishedBundle | null> {
  const jsm = await jetstreamManager(nc, { timeout: 5000, checkAPI: false })
  let last: Pick<PublishedBundle, 'sequence' | 'last'> | null = null
  try {
    let message = await jsm.streams.getMessage(names.bundleStream, { last_by_subj: names.bundleSubject })
    while (message !== null) {
      last ??= { sequence: message.seq, last: message.data }
      if (last.sequence === known?.sequence && Buffer.compare(last.last, known.last) === 0) return known
      const own = await openOwn(message.data, names.domain, signers)
      if (own !== null) return { version: own.bundle.version, ...last, own }
      message = await jsm.streams.getMessage(names.bundleStream, { seq: message.seq - 1 })
    }
  } catch (cause) {
    if (!(cause instanceof JetStreamApiError && cause.code === NO_MESSAGE)) throw cause
  }
  return last === null ? null : { version: 0, ...last, own: null }
}

/**
 * Publishes a bundle after the message at `afterSequence` (0: the first). Publishing the same twice is one message; if
 * anything else was published meanwhile, ERR_STATE_CONFLICT.
 */
export async function publishBundle(
  nc: NatsConnection,
  names: DomainNames,
  envelope: Uint8Array,
  version: number,
  afterSequence: number,
): Promise<number> {
  const put = (msgID: string) =>
    jetstream(nc, { timeout: 5000 }).publish(names.bundleSubject, envelope, {
      msgID,
      expect: { lastSubjectSequence: afterSequence },
      retries: 3,
    })
  try {
    const id = names.messageId(version)
    const ack = await put(id)
    // It is there, and somebody published an older one on top of it: who starts at the last message needs this one.
    if (ack.duplicate && ack.seq < afterSequence) return (await put(`${id}-after-${afterSequence}`)).seq
    return ack.seq
  } catch (cause) {
    throw conflictOr(
      cause,
      `${names.bundleSubject}: another bundle was published after sequence ${afterSequence}`,
    )
  }
}

export function conflictOr(cause: unknown, message: string): RotorError {
  if (cause instanceof JetStreamApiError && CONFLICTS.has(cause.code)) {
    return new RotorError('ERR_STATE_CONFLICT', message, { cause })
  }
  return RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
}
