/** Requests of agents on their way: to one of the issuers, and back. */
import { RotorError } from '../../../src/errors.ts'
import { type Duration, formatInstant } from '../../../src/time.ts'
import { decodeRecord, encodeRecord } from '../../../src/wire/record.ts'
import { turnRequest } from '../../../src/wire/requests.ts'
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
  readonly failed: (error: unknown) => void
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
      const there = issuers.filter(({ running, name }) => running && !network.isCut(name))
      if (there.length === 0) return refuse(new Error('no responders'))
      const issuer = random.pick(there)
      const { process } = issuer
      if (process === null) return
      network.send(issuer.name, process, '', () =>
        this.#answer(issuer, process, subject, data).then(
          // to the servers, from where the answer goes to who asked
          (value) => network.send(issuer.name, null, '', () => answer(encodeRecord(value))),
          (cause) => {
            if (!RotorError.is(cause)) this.#p.failed(cause)
          },
        ),
      )
    })
  }

  store(from: SimulatedProcess, subject: string, data: Uint8Array): Promise<void> {
    const { network, broker } = this.#p
    return network.ask(from, subject, ASK, () => broker.storeStatus(subject.split('.').at(-1) ?? '', data))
  }

  async #answer(
    issuer: IssuerMachine,
    process: SimulatedProcess,
    subject: string,
    data: string | Uint8Array,
  ): Promise<object> {
    const [, , kind, agent = ''] = subject.split('.')
    if (kind === 'time') return { v: 1, serverTime: formatInstant(issuer.clock.now()) }
    if (kind === 'sign') return issuer.sign(agent, Buffer.from(data).toString())
    return await issuer.turn(process, decodeRecord(turnRequest, data, subject))
  }
}
