/**
 * The port to a memory of all bundles that outlives the stream. A bundle is kept before it is published, so what agents
 * have seen is always in it; they refuse lower versions, and an issuer that lost everything else goes on from here.
 */

export interface KeptBundle {
  readonly version: number
  readonly envelope: Uint8Array
}

/** Every call may be repeated. Adapters pass one contract test. */
export interface BundleHistory {
  /**
   * Keeps the envelope of a version and returns what is kept for it: another one when there was one before, because
   * that may have been published already.
   */
  store(version: number, envelope: Uint8Array): Promise<Uint8Array>
  /** Null when there is none. */
  read(version: number): Promise<Uint8Array | null>
  /** The highest version and its envelope; null when nothing is kept. */
  newest(): Promise<KeptBundle | null>
  /** Versions, lowest first. */
  list(): Promise<readonly number[]>
  /** Forgets the versions below `keepFrom`; the newest stays in any case. */
  prune(keepFrom: number): Promise<void>
}

/** The highest of `history.list()` with its envelope. */
export async function newestOf(history: Pick<BundleHistory, 'list' | 'read'>): Promise<KeptBundle | null> {
  for (;;) {
    const version = (await history.list()).at(-1)
    if (version === undefined) return null
    const envelope = await history.read(version)
    if (envelope !== null) return { version, envelope }
    // Pruned by another issuer just now, so there is a newer one.
  }
}

/** The versions among these names, lowest first. */
export const versionsIn = (names: readonly string[]): number[] =>
  names
    .filter((name) => /^[1-9]\d{0,14}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b)
