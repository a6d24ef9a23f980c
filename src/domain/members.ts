/** Which agents make up the domain: entries of the configuration and what the records say of them. Pure. */
import type { MemberRecord } from '../wire/enrolment.ts'
import { type AgentEntry, entryFor, namedAgents } from './agents.ts'

/**
 * Every agent with an entry of its own, and every one that joined by a pattern; without those that were removed. A
 * record that no entry fits any more counts for nothing: the configuration decides who may be an agent.
 */
export function membersOf(
  entries: readonly AgentEntry[],
  records: readonly MemberRecord[],
): readonly AgentEntry[] {
  const removed = new Set(records.filter(({ state }) => state === 'removed').map(({ agent }) => agent))
  const joined = records.filter(({ state }) => state === 'joined').map(({ agent }) => agent)
  return [...new Set([...namedAgents(entries), ...joined.sort()])]
    .filter((name) => !removed.has(name))
    .flatMap((name) => entryFor(entries, name) ?? [])
}
