/** Do authorities, bundle, roots and the key store last and suffice for one more rotation? */
import { signingRoot } from '../rotation/roots.ts'
import { endOf, keyOf, type Situation, situation } from '../rotation/situation.ts'
import { formatDuration, formatInstant, type Instant } from '../time.ts'
import type { Facts, KeyFacts } from './facts.ts'
import { type Finding, finding } from './findings.ts'

/** Roots live for years; with so many validities left there is time for a change in order. */
const ROOT_VALIDITIES = 10
/** A generation, a bundle and their copies take some kilobytes; logs and JetStream often share the disk. */
const FULL = 16 * 1024 * 1024
const LOW = 256 * 1024 * 1024

export function judgeTrust(facts: Facts, now: Instant): Finding[] {
  const s = situation(facts.state, facts.seen, facts.policy, now)
  return [
    ...judgeSigner(s),
    ...judgeBundle(s),
    ...judgeRoot(s, facts.rootEnds),
    ...judgeKeys(s, facts.keys),
    ...judgeFiles(facts.keys),
  ]
}

function judgeSigner(s: Situation): Finding[] {
  const { active } = s.state
  const end = endOf(s, active)
  const left = end - s.now
  const name = `epoch ${active}`
  const text = `it ends at ${formatInstant(end)}, in ${formatDuration(Math.max(0, left))}`
  // each of the two phases lasts at least `patience` for who is late
  if (left < 2 * s.policy.patience) return [finding('signer-ends', 'authority', name, text)]
  return left < s.policy.goOnBelow ? [finding('signer-short', 'authority', name, text)] : []
}

function judgeBundle({ bundle, schedule, now, state }: Situation): Finding[] {
  const left = Date.parse(bundle.expiresAt) - now
  const name = `bundle version ${state.version}`
  const text = `${name} is accepted until ${bundle.expiresAt}`
  if (left <= 0) return [finding('bundle-ended', 'domain', state.domain, text)]
  // the loop publishes it again one epoch before its end; the lead is for one that is about to
  return left < schedule.epochDuration - schedule.lead
    ? [finding('bundle-stale', 'domain', state.domain, text)]
    : []
}

/** Of the root that would sign the next authority. */
function judgeRoot(s: Situation, ends: Facts['rootEnds']): Finding[] {
  const sha256 = signingRoot(s)
  const end = ends[sha256]
  if (end === undefined) return []
  const name = `root ${sha256.slice(0, 8)}`
  const { validity, lead } = s.schedule
  const text = `it ends at ${formatInstant(end)}; an authority lasts ${formatDuration(validity)}`
  if (end < s.now + validity + lead) return [finding('root-too-short', 'root', name, text)]
  return end < s.now + ROOT_VALIDITIES * validity ? [finding('root-ends', 'root', name, text)] : []
}

function judgeKeys(s: Situation, { problem, history }: KeyFacts): Finding[] {
  const { active, domain } = s.state
  const found: Finding[] = []
  if (history !== null) found.push(finding('history-broken', 'domain', domain, history))
  // nothing is known of single keys then
  if (problem !== null) return [finding('keys-unusable', 'domain', domain, problem), ...found]
  if (keyOf(s, active) === undefined)
    found.push(
      finding('signer-key-missing', 'authority', `epoch ${active}`, 'not among the keys of the store'),
    )
  const root = signingRoot(s)
  if (!s.seen.roots.some(({ sha256 }) => sha256 === root))
    found.push(
      finding('root-key-missing', 'root', `root ${root.slice(0, 8)}`, 'not among the keys of the store'),
    )
  return found
}

function judgeFiles({ readable, disks }: KeyFacts): Finding[] {
  return [
    ...readable.map(({ file, mode }) =>
      finding('key-readable', 'file', file, `mode ${mode.toString(8)}, expected 600`),
    ),
    ...disks.flatMap(({ dir, free }) => {
      const text = `${Math.floor(free / 1024 / 1024)} MiB free`
      if (free < FULL) return [finding('disk-full', 'file', dir, text)]
      return free < LOW ? [finding('disk-low', 'file', dir, text)] : []
    }),
  ]
}
