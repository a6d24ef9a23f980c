/** What has this agent accepted so far? It must survive a restart, or an old bundle could be played to it again. */
import { join } from 'node:path'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { MAX_BUNDLE_BYTES, sha256Hex, signerKey } from '../wire/bundle.ts'
import { decodeRecord, describeIssues } from '../wire/record.ts'
import { replaceFile } from './durable.ts'
import { readBounded } from './files.ts'
import { STATE } from './layout.ts'
import type { Trace } from './steps.ts'

const accepted = z.object({
  version: z.int().positive(),
  /** SHA-256 of the payload. */
  digest: sha256Hex,
})

export const acceptedState = z.object({
  v: z.literal(1),
  domain: z.string(),
  agent: z.string(),
  /** The newest bundle ever accepted; null before the first. Nothing at or below it is accepted again. */
  highest: accepted.nullable(),
  /** Keys that may sign the next bundle: pinned at enrolment, then moved by accepted bundles only. */
  signers: z.array(signerKey).min(1),
  /** PEM, the roots we hold: a new one may not come back with the key of an old one. */
  roots: z.array(z.string()),
  /** The newest accepted bundle as it was received (JWS text); null before the first. */
  envelope: z.string().max(MAX_BUNDLE_BYTES).nullable(),
  /**
   * The generation that was proven last, to go back to when a restart finds another one in place that can not be
   * proven; null before the first.
   */
  proven: z.object({ ...accepted.shape, generation: z.string() }).nullable(),
})

export type AcceptedState = z.infer<typeof acceptedState>

/** Bytes: an envelope, JSON-escaped at worst, with signers and roots beside it. */
const MAX_STATE = 8 * MAX_BUNDLE_BYTES

/**
 * The stored state, null when there is none. A record that can not be read throws ERR_RECORD_INVALID and stays: to
 * begin again with nothing would accept bundles that were replaced long ago.
 */
export async function readState(dir: string): Promise<AcceptedState | null> {
  const path = join(dir, STATE)
  try {
    return decodeRecord(acceptedState, await readBounded(path, MAX_STATE), path)
  } catch (cause) {
    if (!RotorError.is(cause)) throw cause
    if (cause.code === 'ERR_IDENTITY_MISSING') return null
    if (cause.code !== 'ERR_IDENTITY_INVALID') throw cause
    throw new RotorError('ERR_RECORD_INVALID', cause.message, { cause, details: cause.details })
  }
}

/**
 * Replaces the state in one durable step. The highest version never goes down, and a version never gets another
 * digest: ERR_BUNDLE_REPLAYED or ERR_BUNDLE_FORKED. Throws ERR_IDENTITY_WRITE when the disk refuses; the old state
 * stays.
 */
export async function writeState(dir: string, state: AcceptedState, trace: Trace): Promise<void> {
  const path = join(dir, STATE)
  const parsed = acceptedState.safeParse(state)
  if (!parsed.success) throw new TypeError(`state: ${describeIssues(parsed.error)}`)
  assertNotLower((await readState(dir))?.highest ?? null, parsed.data.highest, path)
  const text = `${JSON.stringify(parsed.data, null, 2)}\n`
  if (Buffer.byteLength(text) > MAX_STATE) throw new TypeError(`state: expected at most ${MAX_STATE} bytes`)
  await replaceFile(path, text, 0o600, () => trace('state:written'))
  trace('state:replaced')
}

type Accepted = AcceptedState['highest']

function assertNotLower(stored: Accepted, next: Accepted, path: string): void {
  if (stored === null) return
  if (next === null || next.version < stored.version) {
    throw new RotorError(
      'ERR_BUNDLE_REPLAYED',
      `${path}: version ${stored.version} was accepted, it can not become ${next?.version ?? 'none'}`,
    )
  }
  if (next.version === stored.version && next.digest !== stored.digest) {
    throw new RotorError(
      'ERR_BUNDLE_FORKED',
      `${path}: version ${stored.version} was accepted with digest ${stored.digest}, not ${next.digest}`,
    )
  }
}
