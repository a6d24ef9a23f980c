/** What this issuer knows when an agent asks for its turn: of the bundle in force, of the other agents, of its own handshakes. */
import { isVerdict } from '../src/rotation/budget.ts'
import type { Clock, Duration, Instant } from '../src/time.ts'
import { type AgentStatus, SILENT } from '../src/wire/status.ts'
import type { Loop } from './loop/loop.ts'
import type { Registry } from './registry.ts'
import type { Statuses } from './statuses.ts'
import { type TurnFacts, turnTime } from './turns.ts'
import type { StateView } from './view.ts'

/** Who stands by does not see what the leader proves of the first server, and gives it this time. */
const LEADER_LOOKS: Duration = 1_000

export interface TurnFactsOptions {
  readonly view: Pick<StateView, 'bundle'>
  readonly registry: Pick<Registry, 'members'>
  readonly statuses: Pick<Statuses, 'get'>
  readonly loop: Pick<Loop, 'tolerates' | 'confirms'>
  readonly clock: Clock
}

export function turnFacts({
  view,
  registry,
  statuses,
  loop,
  clock,
}: TurnFactsOptions): Omit<TurnFacts, 'now'> {
  const { bundle } = view
  const time = turnTime(bundle?.schedule.epochDuration ?? 0)
  /** Of a version that is not known here yet: now. */
  const issuedAt = (version: number): Instant =>
    bundle === null || bundle.version < version ? clock.now() : Date.parse(bundle.issuedAt)
  /** An agent that said nothing for long will not be the first to change; one that never did may be about to start. */
  const isSilent = (status: AgentStatus | null): boolean =>
    status !== null && clock.now() - Date.parse(status.at) >= SILENT
  const serverIsExpected = (): boolean =>
    registry.members().some(({ name, role }) => role === 'server' && !isSilent(statuses.get(name)))
  const servers = (): AgentStatus[] =>
    registry.members().flatMap(({ name, role }) => (role === 'server' ? (statuses.get(name) ?? []) : []))
  return {
    turnTime: time,
    newest: bundle?.version ?? 0,
    hasEnded: ({ agent, version }) => hasEnded(statuses.get(agent), version),
    tolerates: (agent) => loop.tolerates(agent),
    appliedBy: (version) => {
      const first = servers().find((one) => one.state === 'applied' && one.version === version)
      return first === undefined ? null : { agent: first.agent, version, at: Date.parse(first.at) }
    },
    refusedBy: (version) =>
      servers().flatMap((one) =>
        hasPutBack(one, version) && isVerdict(one.lastError.code) ? one.agent : [],
      ),
    confirms: ({ agent, at }) => loop.confirms(agent) ?? clock.now() - at > LEADER_LOOKS,
    canaryUntil: (version) => (serverIsExpected() ? issuedAt(version) + time : 0),
  }
}

/** Has this agent proven the version, or put it back? */
function hasEnded(status: AgentStatus | null, version: number): boolean {
  if (status === null || status.state === 'applying') return false
  return status.version >= version || hasPutBack(status, version)
}

type PutBack = AgentStatus & { readonly lastError: NonNullable<AgentStatus['lastError']> }

const hasPutBack = (status: AgentStatus, version: number): status is PutBack =>
  status.state === 'rolled-back' && status.lastError?.version === version
