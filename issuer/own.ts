/** Is this envelope a bundle of ours? What others put on the stream or into the history counts for nothing. */
import { openEnvelope, type Signer } from '../src/bundle/envelope.ts'
import { type BundlePayload, bundlePayload } from '../src/wire/bundle.ts'
import { decodeRecord } from '../src/wire/record.ts'

export interface OwnBundle {
  readonly envelope: Uint8Array
  /** The exact payload. */
  readonly text: string
  readonly bundle: BundlePayload
}

/** Null for what can not be opened, is not by one of `signers`, or is of another domain. */
export async function openOwn(
  envelope: Uint8Array,
  domain: string,
  signers: readonly Pick<Signer, 'key'>[],
): Promise<OwnBundle | null> {
  try {
    const opened = openEnvelope(envelope)
    const verdicts = await Promise.all(signers.map((signer) => opened.verify(signer.key)))
    if (!verdicts.includes(true)) return null
    const text = Buffer.from(opened.payload).toString('utf8')
    const bundle = decodeRecord(bundlePayload, text, 'bundle')
    return bundle.domain === domain ? { envelope, text, bundle } : null
  } catch {
    return null
  }
}
