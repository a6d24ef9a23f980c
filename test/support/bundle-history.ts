/** The bundles on the stream of a domain, and what is wrong with their chain. */
import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { openEnvelope } from '../../src/bundle/envelope.ts'
import { payloadDigest } from '../../src/bundle/payload.ts'
import { type BundlePayload, bundlePayload } from '../../src/wire/bundle.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'

export interface StreamBundle {
  readonly sequence: number
  readonly envelope: Uint8Array
  readonly payload: BundlePayload
  readonly digest: string
}

/** Every bundle of the issuer on the stream, oldest first; what others wrote is not among them. */
export async function readHistory(nc: NatsConnection, names: DomainNames): Promise<StreamBundle[]> {
  const jsm = await jetstreamManager(nc)
  const { state } = await jsm.streams.info(names.bundleStream)
  const found: StreamBundle[] = []
  for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
    const message = await jsm.streams.getMessage(names.bundleStream, { seq })
    if (message === null) continue
    const bundle = asBundle(seq, message.data)
    if (bundle !== null) found.push(bundle)
  }
  return found
}

function asBundle(sequence: number, envelope: Uint8Array): StreamBundle | null {
  try {
    const { payload } = openEnvelope(envelope)
    return {
      sequence,
      envelope,
      payload: decodeRecord(bundlePayload, payload, 'bundle'),
      digest: payloadDigest(payload),
    }
  } catch {
    return null
  }
}

/** What is wrong with the chain of versions: expects each number once, and each bundle to name its predecessor. */
export function chainProblems(history: readonly StreamBundle[]): string[] {
  return history.flatMap((bundle, i) => {
    const { version, previous } = bundle.payload
    const before = history[i - 1]
    const problems: string[] = []
    if (version !== (before?.payload.version ?? 0) + 1) {
      problems.push(`version ${version} follows ${before?.payload.version ?? 'nothing'}`)
    }
    if (previous !== (before?.digest ?? null)) problems.push(`version ${version} names another predecessor`)
    return problems
  })
}
