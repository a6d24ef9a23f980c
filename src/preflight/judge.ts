/** What would break before anything moves? Facts in, findings out. */

import type { Instant } from '../time.ts'
import type { Facts } from './facts.ts'
import { type Finding, finding, inOrder } from './findings.ts'
import { judgeNodes } from './nodes.ts'
import { judgeRotation } from './rotation.ts'
import { judgeServers } from './servers.ts'
import { judgeStreams } from './streams.ts'
import { judgeTrust } from './trust.ts'

/** The worst first. Throws as `situation` does, for records that contradict themselves. */
export function judge(facts: Facts, now: Instant): Finding[] {
  return inOrder([
    ...judgeRotation(facts, now),
    ...judgeNodes(facts, now),
    ...judgeServers(facts),
    ...judgeTrust(facts, now),
    ...judgeStreams(facts),
    ...facts.notSeen.map(({ what, why }) => finding('not-seen', 'domain', what, why)),
  ])
}
