/** From which version on are bundles kept? As long as one may still tell how the present came about. */
import type { Instant } from '../../src/time.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'

/**
 * The lowest version that is younger than the validity of an authority, or whose signer is still trusted. Of an
 * unreadable one (null) nothing is known but that it is not wanted. `versions`: lowest first.
 */
export async function keepFrom(
  versions: readonly number[],
  read: (version: number) => Promise<BundlePayload | null>,
  now: BundlePayload,
  at: Instant,
): Promise<number> {
  const trusted = new Set(now.authorities.map(({ epoch }) => epoch))
  for (const version of versions) {
    const bundle = await read(version)
    if (bundle === null) continue
    const young = Date.parse(bundle.issuedAt) > at - now.schedule.validity
    if (young || trusted.has(bundle.epoch)) return version
  }
  return now.version
}
