/** The servers of a simulated domain: each trusts and serves what its agent holds, unless nobody can reach it. */
import type { Observations } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import type { SimulatedAgent } from './simulated-agent.ts'

type Proof = NonNullable<Observations['servers'][number]['listeners'][number]['proof']>

export class SimulatedServers {
  readonly #servers: { readonly name: string; readonly agent: string; cut: boolean }[]
  readonly #proofs = new Map<string, Proof>()

  constructor(agents: readonly SimulatedAgent[]) {
    this.#servers = agents.map(({ name }) => ({ name: `server of ${name}`, agent: name, cut: false }))
  }

  isOf(agent: string): boolean {
    return this.#servers.some((server) => server.agent === agent)
  }

  cut(who: number, cut: boolean): void {
    const server = this.#servers[who % this.#servers.length]
    if (server !== undefined) server.cut = cut
  }

  heal(): void {
    for (const server of this.#servers) server.cut = false
  }

  observe(): Observations['servers'] {
    return this.#servers.map(({ name, agent }) => ({
      name,
      agent,
      listeners: [{ kind: 'client', address: name, proof: this.#proofs.get(name) ?? null }],
    }))
  }

  /** Dials these with a leaf of `issuer`, the authority of `epoch`. */
  probe(
    epoch: Epoch,
    issuer: string,
    servers: readonly string[],
    agents: readonly SimulatedAgent[],
    now: Instant,
  ): void {
    for (const { name, agent, cut } of this.#servers) {
      if (!servers.includes(name)) continue
      const node = agents.find((one) => one.name === agent)
      if (node === undefined || cut) {
        this.#proofs.set(name, { at: now, accepts: [], serves: null, error: 'connection refused' })
        continue
      }
      const before = this.#proofs.get(name)?.refuses
      const refuses = before?.epoch === epoch ? before : { epoch, since: now }
      const answer = node.trusts(issuer)
        ? { accepts: [epoch], error: null }
        : { accepts: [], refuses, error: 'unknown certificate authority' }
      this.#proofs.set(name, { at: now, serves: node.leaf.epoch, ...answer })
    }
  }
}
