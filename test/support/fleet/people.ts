/** What people do in a fleet: orders, joining, restarts of the servers, repair; and what a thief of an old key tries. */
import { RotorError } from '../../../src/errors.ts'
import { bundleOf } from '../../../src/rotation/payloads.ts'
import type { Epoch } from '../../../src/schedule.ts'
import { formatInstant } from '../../../src/time.ts'
import type { Order } from '../../../src/wire/requests.ts'
import type { Random } from '../random.ts'
import type { AgentMachine } from './agent-machine.ts'
import { canFollow, enrol } from './enrolment.ts'
import { Forger } from './forger.ts'
import type { Domain } from './founding.ts'

export class People {
  readonly #d: Domain
  readonly #random: Random
  readonly #forger: Forger
  #orders = 0

  constructor(domain: Domain, random: Random) {
    this.#d = domain
    this.#random = random
    this.#forger = new Forger(domain, random)
  }

  /** Bundles that somebody forged. */
  get forged(): number {
    return this.#forger.sent
  }

  /** To one of the issuers, whether it leads or not; says to which. */
  order(kind: Order['kind'], force = false): string {
    const { timeline, promises, issuers } = this.#d
    const issuer = this.#random.pick(issuers)
    const { name, process } = issuer
    if (process === null) return `${name}, which is away`
    this.#orders += 1
    const order: Order = {
      v: 1,
      kind,
      ...(kind === 'taint' ? { epoch: this.#random.pick(trusted(promises.state)) } : {}),
      crossSign: false,
      force,
      reason: `order ${this.#orders}`,
      by: 'operator',
      at: formatInstant(timeline.now),
    }
    timeline.in(0, process, '', () => issuer.order(order))
    return name
  }

  restartServers(): void {
    const { agents, broker, timeline } = this.#d
    for (const machine of agents) {
      broker.forget(machine.name)
      const { process } = machine
      const lost = [...machine.connections]
      if (process === null) continue
      timeline.in(this.#random.int(0, 200), process, '', () => {
        for (const connection of lost) void connection.close()
      })
    }
  }

  /** Somebody who may publish to agents plays this one an old bundle, or half of one; or all of them one of his own. */
  deceive(machine: AgentMachine): string {
    if (this.#random.chance(0.5)) return this.#forger.forge()
    const { bytes } = this.#random.pick(this.#d.broker.stream)
    const torn = this.#random.chance(0.3) ? bytes.subarray(0, this.#random.int(0, bytes.length)) : bytes
    this.#d.broker.play(machine.name, torn)
    return `an old one to ${machine.name}`
  }

  repair(): void {
    const { timeline, network, agents, issuers } = this.#d
    timeline.note('-- all is repaired')
    network.mend()
    network.quality = { loss: 0, twice: 0, delay: 5 }
    for (const machine of agents) {
      machine.clockOffset = 0
      machine.disk.full = false
      machine.refuses = false
      machine.deaf = false
      machine.stopAfter = null
      machine.letGo()
    }
    for (const issuer of issuers) issuer.clockOffset = 0
  }

  /** A node that can not ask for a leaf any more joins again with a token. */
  enrolWhoCanNotFollow(): void {
    const { promises, agents, timeline } = this.#d
    const { state } = promises
    if (state === null) return
    for (const machine of agents) {
      if (canFollow(machine, state.payload, timeline.now) || !this.enrol(machine)) continue
      timeline.note(`-- ${machine.name} joins again`)
      machine.crash(true, 10)
    }
  }

  enrol(machine: AgentMachine): boolean {
    const { broker, keys, schedule, timeline } = this.#d
    const serial = this.#random.int(0, 2 ** 31)
    return enrol(machine, { broker, keys, schedule, now: timeline.now, serial })
  }
}

function trusted(state: Domain['promises']['state']): Epoch[] {
  if (state === null) throw new RotorError('ERR_INTERNAL', 'the domain was not founded')
  return bundleOf(state).authorities.map(({ epoch }) => epoch)
}
