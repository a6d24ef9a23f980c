/** Does the state of the issuer fit the history? It is the newest bundle, or one that is not published yet. */
import { RotorError } from '../errors.ts'
import { bundleOf } from '../rotation/payloads.ts'
import type { RotationState } from '../rotation/state.ts'
import { problemOfSeal } from './seal.ts'
import type { Finding, HistoryEntry } from './verify.ts'

/**
 * `before` and `after`: as it was read before and after the stream, while the domain went on; null when there is none. `stored`: the
 * bytes of the later one, sealed by a signer of the newest bundle.
 */
export async function stateFindings(
  [before, after]: readonly [RotationState | null, RotationState | null],
  stored: { readonly data: Uint8Array; readonly repeated: boolean } | null,
  entries: readonly HistoryEntry[],
): Promise<Finding[]> {
  const newest = entries.findLast(({ verified }) => verified)
  if (before === null || after === null || stored === null || newest === undefined) return []
  const finding = (problem: string): Finding[] => [{ where: 'rotation state', problem }]
  const seal = await problemOfSeal(stored.data, newest.payload.signers)
  if (seal !== null) return finding(seal)
  if (stored.repeated) return finding('an earlier one was put back: it had the same bytes before')
  try {
    bundleOf(after)
  } catch (cause) {
    return finding(RotorError.from(cause).message)
  }
  const same = entries.find((entry) => entry.version === after.version)
  if (same !== undefined && same.digest !== after.digest) {
    return finding(`its version ${after.version} is another bundle in the history`)
  }
  if (after.version < newest.version || before.version > newest.version + 1) {
    return finding(`it is of version ${after.version}, the newest bundle of ${newest.version}`)
  }
  return []
}
