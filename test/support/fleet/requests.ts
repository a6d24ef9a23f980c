/** Requests of agents on their way: to one of the issuers, and back. */
import type { Duration } from '../../../src/time.ts'
import type { Random } from '../random.ts'
import type { Broker } from './broker.ts'
import type { Answering } from './connection.ts'
import type { IssuerMachine } from './issuer-machine.ts'
import type { Network } from './network.ts'
import type { SimulatedProcess } from './timeline.ts'

export interface RequestParts {
  readonly network: Network
  readonly broker: Broker
  readonly random: Random
  readonly issuers: readonly IssuerMachine[]
}

const ASK: Duration = 3_000

export class Requests implements Answering {
  readonly #p: RequestParts

  constructor(parts: RequestParts) {
    this.#p = parts
  }

  request(
    from: SimulatedProcess,
    subject: string,
    data: string | Uint8Array,
    timeout: Duration,
  ): Promise<Uint8Array> {
    const { network, issuers, random } = this.#p
    return network.askLater<Uint8Array>(from, subject, timeout, (answer, refuse) => {
      // one of the queue group, as the server sees it: it may be stopped
      const reached = issuers.filter(({ running, name }) => running && !network.isCut(name))
      // the time is asked of all of them, and the leader answers
      const leaders = subject.endsWith('.time') ? reached.filter(({ leads }) => leads) : []
      const there = leaders.length > 0 ? leaders : reached
      if (there.length === 0) return refuse(new Error('no responders'))
      const issuer = random.pick(there)
      const { process } = issuer
      if (process === null) return
      network.send(issuer.name, process, '', () =>
        // to the servers, from where the answer goes to who asked
        issuer.answer(subject, Buffer.from(data), (value) =>
          network.send(issuer.name, null, '', () => answer(value)),
        ),
      )
    })
  }

  store(from: SimulatedProcess, subject: string, data: Uint8Array): Promise<void> {
    const { network, broker } = this.#p
    return network.ask(from, subject, ASK, () => broker.storeStatus(subject.split('.').at(-1) ?? '', data))
  }
}
