/** What agents say of themselves, as the watch of one issuer has told it: late, and again in full after it was cut off. */
import { Bell } from '../../../src/bell.ts'
import { RotorError } from '../../../src/errors.ts'
import { Backoff } from '../../../src/tasks.ts'
import { type AgentStatus, agentStatus } from '../../../src/wire/status.ts'
import type { Broker } from './broker.ts'
import type { Network } from './network.ts'
import { decodeRecord } from './remembered/record.ts'
import type { SimulatedProcess } from './timeline.ts'

const ASK = 3_000

export class IssuerStatuses {
  readonly #process: SimulatedProcess
  readonly #network: Network
  readonly #broker: Broker
  readonly #changed: () => void
  readonly #bell = new Bell()
  readonly #byAgent = new Map<string, { readonly status: AgentStatus; readonly revision: number }>()
  #stale = true

  constructor(
    process: SimulatedProcess,
    { network, broker }: { readonly network: Network; readonly broker: Broker },
    changed: () => void,
  ) {
    this.#process = process
    this.#network = network
    this.#broker = broker
    this.#changed = changed
  }

  get(agent: string): AgentStatus | null {
    return this.#byAgent.get(agent)?.status ?? null
  }

  /** Never an older record over a newer one. */
  take(agent: string): void {
    const stored = this.#broker.statuses.get(agent)
    const known = this.#byAgent.get(agent)
    if (stored === undefined || (known !== undefined && known.revision >= stored.revision)) return
    const status = decodeRecord(agentStatus, stored.status, agent)
    this.#byAgent.set(agent, { status, revision: stored.revision })
    this.#changed()
  }

  /** One was stored while nobody could tell us. */
  miss(): void {
    this.#stale = true
    this.#bell.ring()
  }

  /** Asks for all of them at the start, and after some were missed. */
  async follow(): Promise<never> {
    const backoff = new Backoff({ base: 100, max: 2_000 })
    for (;;) {
      if (!this.#stale) await this.#bell.wait(Number.POSITIVE_INFINITY, new AbortController().signal)
      try {
        this.#stale = false
        const names = await this.#network.ask(this.#process, 'statuses', ASK, () => [
          ...this.#broker.statuses.keys(),
        ])
        for (const name of names) this.take(name)
        backoff.reset()
      } catch (cause) {
        if (!RotorError.is(cause)) throw cause
        this.#stale = true
        await backoff.wait()
      }
    }
  }
}
