/** Where a bundle comes from that is given by hand: a file, or an https address. Bounded; nothing of it is believed here. */
import { RotorError } from '../src/errors.ts'
import { exchange } from '../src/http-exchange.ts'
import { readBounded } from '../src/identity/files.ts'
import type { Duration } from '../src/time.ts'
import { MAX_BUNDLE_BYTES } from '../src/wire/bundle.ts'

const ANSWER_TIME: Duration = 20_000

/**
 * The bytes of an envelope from a path or an `https://` address. The certificate of the server is not looked at: a node
 * that needs this can verify none, and whoever answers can only give a bundle that proves itself or one that is refused.
 * Throws ERR_BUNDLE_UNAVAILABLE, ERR_USAGE for another kind of address.
 */
export async function readBundle(source: string, signal?: AbortSignal): Promise<Uint8Array> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(source) && !source.startsWith('https://')) {
    throw new RotorError('ERR_USAGE', `bundle: expected a file or an https:// address, found ${source}`)
  }
  try {
    if (!source.startsWith('https://')) return await readBounded(source, MAX_BUNDLE_BYTES)
    const { status, text } = await exchange({
      url: source,
      method: 'GET',
      timeout: ANSWER_TIME,
      maxAnswer: MAX_BUNDLE_BYTES,
      tls: { rejectUnauthorized: false },
      ...(signal === undefined ? {} : { signal }),
    })
    if (status === 200) return Buffer.from(text, 'utf8')
    throw new Error(`expected status 200, found ${status}`)
  } catch (cause) {
    signal?.throwIfAborted()
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError('ERR_BUNDLE_UNAVAILABLE', `bundle ${source}: ${reason}`, { cause })
  }
}
