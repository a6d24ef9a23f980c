/**
 * A little of everything between a service's connection, which is to be moved or disturbed, and a peer on the same
 * servers: numbered messages both ways, plain and for a queue group, and requests both ways.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { type FlowCounts, Ledger, Requests, readLedgers } from '../../bench/load/ledger.ts'
import { take } from '../../bench/load/moved.ts'
import { keepPace } from '../../bench/load/pace.ts'
import { decodePayload, encodePayload } from '../../bench/load/payload.ts'
import { eventually } from './eventually.ts'

/** Plain messages per second; of the others a tenth of it each. */
export const RATE = 400

/** Milliseconds: an answer that is lost never comes; one that is late on a machine that does something else does. */
const REQUEST_TIMEOUT = 5_000

const FLOWS = ['plain', 'queue', 'out'] as const

export interface TrafficReport extends Readonly<Record<(typeof FLOWS)[number], FlowCounts>> {
  readonly failed: Readonly<Record<string, number>>
}

export interface TrafficOptions {
  /** Subjects begin with it. @default 'traffic' */
  readonly subject?: string
}

export class Traffic {
  readonly #service: NatsConnection
  readonly #peer: NatsConnection
  readonly #ledgers = { plain: new Ledger(1), queue: new Ledger(1), out: new Ledger(1) }
  readonly #published = { plain: 0, queue: 0, out: 0 }
  readonly #requests = new Requests()
  readonly #stop = new AbortController()
  #pace: Promise<void> = Promise.resolve()

  private constructor(service: NatsConnection, peer: NatsConnection) {
    this.#service = service
    this.#peer = peer
  }

  /** Returns when all of it flows. */
  static async start(service: NatsConnection, peer: NatsConnection, options: TrafficOptions = {}) {
    const traffic = new Traffic(service, peer)
    await traffic.#begin(options)
    return traffic
  }

  /** Ends it, and returns when everything has arrived, or nothing came for a while. */
  async finish(): Promise<TrafficReport> {
    this.#stop.abort()
    await this.#pace
    await this.#requests.settled()
    await Promise.all([this.#service.flush(), this.#peer.flush()])
    let last = -1
    await eventually(
      () => {
        const report = this.report()
        const arrived = FLOWS.reduce((sum, flow) => sum + this.#ledgers[flow].total, 0)
        const quiet = arrived === last
        last = arrived
        return quiet || FLOWS.every((flow) => report[flow].lost === 0)
      },
      { interval: 300 },
    )
    return this.report()
  }

  report(): TrafficReport {
    const counts = (flow: (typeof FLOWS)[number]) =>
      readLedgers([this.#ledgers[flow].notes()], [this.#published[flow]])
    return {
      plain: counts('plain'),
      queue: counts('queue'),
      out: counts('out'),
      failed: this.#requests.counts().reasons,
    }
  }

  async #begin({ subject = 'traffic' }: TrafficOptions): Promise<void> {
    const [service, peer] = [this.#service, this.#peer]
    const { plain, queue, out } = this.#ledgers
    service.subscribe(`${subject}.plain`, { callback: (_, m) => take(plain, m.data) })
    service.subscribe(`${subject}.queue`, { queue: 'q', callback: (_, m) => take(queue, m.data) })
    service.subscribe(`${subject}.here`, { callback: (_, m) => void m.respond(m.data) })
    peer.subscribe(`${subject}.out`, { callback: (_, m) => take(out, m.data) })
    peer.subscribe(`${subject}.there`, { callback: (_, m) => void m.respond(m.data) })
    await Promise.all([service.flush(), peer.flush()])
    const publish = (from: NatsConnection, flow: (typeof FLOWS)[number]) => () =>
      from.publish(`${subject}.${flow}`, encodePayload(0, this.#published[flow]++))
    const ask = (from: NatsConnection, where: string) => () =>
      this.#requests.start(async (sequence) => {
        const answer = await from.request(`${subject}.${where}`, encodePayload(0, sequence), {
          timeout: REQUEST_TIMEOUT,
        })
        return decodePayload(answer.data)?.sequence === sequence
      })
    const small = RATE / 10
    this.#pace = keepPace(
      [
        { rate: RATE, work: publish(peer, 'plain') },
        { rate: small, work: publish(peer, 'queue') },
        { rate: small, work: publish(service, 'out') },
        { rate: small, work: ask(service, 'there') },
        { rate: small, work: ask(peer, 'here') },
      ],
      this.#stop.signal,
    )
    await eventually(() => FLOWS.every((flow) => this.#ledgers[flow].total > 3) && this.#requests.sent > 6)
  }
}
