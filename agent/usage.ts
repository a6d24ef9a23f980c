/** What of this process still stands on another leaf than the current one? Told in the status, so that its authority stays. */
import type { Identity } from '../src/identity/identity.ts'
import { type Clock, type Duration, formatInstant, sleep } from '../src/time.ts'
import type { UsageStatus } from '../src/wire/status.ts'
import type { Reporter } from './reporter.ts'

/** Names told for each leaf; the others are counted together, so that the record stays small. */
const NAMES_TOLD = 20

/**
 * One entry for each follower and leaf, oldest sockets first. A generation with the current leaf and another trust file
 * holds nothing back: the status has that leaf already.
 */
export function usageStatusOf(identity: Identity): UsageStatus[] {
  const current = identity.current().leaf.sha256
  const entries = new Map<string, UsageStatus>()
  const namesOf = new Map<string, Set<string>>()
  const standing = identity.usage().filter(({ leaf, sockets }) => leaf !== current && sockets > 0)
  for (const { type, name, leaf, issuerEpoch, sockets, since } of standing.sort(
    (a, b) => a.since - b.since,
  )) {
    const names = namesOf.get(leaf) ?? new Set()
    const told = names.has(name) || names.size < NAMES_TOLD ? name : 'others'
    namesOf.set(leaf, names.add(told))
    const key = JSON.stringify([type, told, leaf])
    const known = entries.get(key)
    entries.set(key, {
      type,
      name: told,
      leaf,
      issuerEpoch,
      sockets: (known?.sockets ?? 0) + sockets,
      since: known?.since ?? formatInstant(since),
    })
  }
  return [...entries.values()]
}

/** How often what stands on an old leaf is looked at. */
const LOOK: Duration = 1_000

/**
 * Keeps the usage of the status true until `signal` aborts: what begins or ends to stand on an old leaf is told within a
 * second, other counts every `refresh` milliseconds.
 */
export async function watchUsage(
  identity: Identity,
  reporter: Reporter,
  refresh: Duration,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  let told = clock.now()
  for (;;) {
    await sleep(LOOK, signal)
    const next = usageStatusOf(identity)
    const { usage } = reporter.status
    const due = clock.now() - told >= refresh
    if (whoStands(next) === whoStands(usage) && (!due || JSON.stringify(next) === JSON.stringify(usage)))
      continue
    reporter.update({ usage: next })
    told = clock.now()
  }
}

const whoStands = (usage: readonly UsageStatus[]): string =>
  JSON.stringify(usage.map(({ type, name, leaf }) => [type, name, leaf]).sort())
