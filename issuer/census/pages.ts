/** Everything of a list that changes while it is read page by page. */

interface Listed {
  readonly cid: number
}

export interface PagesOptions {
  /** Entries of a page, 2 or more. */
  readonly page: number
  /** Entries after which it is given up. */
  readonly max: number
}

/**
 * Reads a list that is sorted by `cid`, of which each new entry has a higher one. An entry that goes away moves the ones
 * behind it forward, so the next page could begin behind one that was never seen. Therefore every page begins with the
 * last entry of the one before, and when it begins behind that, we go back. Whoever was there all the time is found;
 * one that came or went meanwhile may be. `complete` is false when there are more than `max`, or no end was found.
 */
export async function readAll<T extends Listed>(
  fetch: (offset: number, limit: number) => Promise<readonly T[]>,
  { page, max }: PagesOptions,
): Promise<{ readonly found: readonly T[]; readonly complete: boolean }> {
  const found = new Map<number, T>()
  let last = -1
  let offset = 0
  for (let requests = 4 * Math.ceil(max / (page - 1)) + 8; requests > 0; requests--) {
    const entries = await fetch(offset, page)
    const first = entries[0]
    if (offset > 0 && (first === undefined || first.cid > last)) {
      offset = Math.max(0, offset - page)
      continue
    }
    for (const entry of entries) found.set(entry.cid, entry)
    last = Math.max(last, ...entries.map(({ cid }) => cid))
    if (entries.length < page) return { found: [...found.values()], complete: true }
    if (found.size > max) break
    offset += entries.length - 1
  }
  return { found: [...found.values()].slice(0, max), complete: false }
}
