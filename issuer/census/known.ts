/** What a count is judged with: the leaves of the agents, and which user and which server belongs to one. */
import type { Known } from '../../src/rotation/census.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import type { AgentStatus } from '../../src/wire/status.ts'

/** As many leaves as ten thousand agents have in five epochs. */
const MAX_LEAVES = 50_000

/**
 * The leaves that agents told of, also those they have left since. Nothing is stored: a connection shows the certificate
 * of its authority as well, and what is not known after a restart is placed by when it began, which is never too late.
 */
export class Leaves {
  readonly #epochs = new Map<string, Epoch>()

  get epochs(): ReadonlyMap<string, Epoch> {
    return this.#epochs
  }

  learn(statuses: readonly AgentStatus[]): void {
    for (const { leaf, usage } of statuses) {
      for (const one of usage) if (one.issuerEpoch !== null) this.#remember(one.leaf, one.issuerEpoch)
      this.#remember(leaf.fingerprint, leaf.issuerEpoch)
    }
  }

  #remember(leaf: string, epoch: Epoch): void {
    this.#epochs.delete(leaf)
    this.#epochs.set(leaf, epoch)
    const oldest = this.#epochs.keys().next()
    if (this.#epochs.size > MAX_LEAVES && !oldest.done) this.#epochs.delete(oldest.value)
  }
}

export interface Domain {
  readonly names: DomainNames
  readonly state: RotationState
  readonly statuses: readonly AgentStatus[]
  readonly agents: readonly { readonly name: string; readonly role: string }[]
  /** Those that answered. */
  readonly servers: readonly { readonly id: string; readonly name: string }[]
  readonly cleared?: Known['cleared']
}

/** A server is taken for the one of the agent with its name. */
export function knownOf(
  { names, state, statuses, agents, servers, cleared = new Map() }: Domain,
  leaves: Leaves,
): Known {
  leaves.learn(statuses)
  const byUser = new Map<string, AgentStatus>(
    statuses.flatMap((status) => [
      [names.spiffeId(status.agent), status],
      [status.agent, status],
    ]),
  )
  const named = new Set(agents.filter((agent) => agent.role === 'server').map((agent) => agent.name))
  const ids = new Set(servers.filter((server) => named.has(server.name)).map((server) => server.id))
  return {
    state,
    leaves: leaves.epochs,
    cleared,
    agentOf: (user) => byUser.get(user),
    hasAgent: (server) => named.has(server) || ids.has(server),
  }
}
