/** Clients of the simulation that no agent knows of: each dialled with a copy of some leaf and stays on it. */
import assert from 'node:assert/strict'
import { observed, placeAll } from '../../src/rotation/census.ts'
import type { ObservedConnections, RotationPolicy, RotationState } from '../../src/rotation/state.ts'
import { type Epoch, epochEnd } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import { client, knownIn } from './live-connections.ts'
import { bundleIn, hex, SCHEDULE } from './rotation-world.ts'
import type { SimulatedLeaf } from './simulated-agent.ts'

interface SimulatedClient {
  readonly leaf: SimulatedLeaf
  readonly start: Instant
  /** It sends the certificate of its authority too, as the files of an identity do. */
  readonly shows: boolean
}

const MAX_CLIENTS = 6

export class SimulatedClients {
  readonly #open: SimulatedClient[] = []
  /** The servers answer when they are asked who is connected. */
  answering = true

  dial(leaf: SimulatedLeaf, trusted: boolean, now: Instant, shows: boolean): void {
    if (!trusted || leaf.notAfter <= now || this.#open.length >= MAX_CLIENTS) return
    this.#open.push({ leaf, start: now, shows })
  }

  hangUp(who: number): void {
    this.#open.splice(who % Math.max(1, this.#open.length), 1)
  }

  count(state: RotationState, now: Instant): ObservedConnections {
    if (!this.answering) return observed({ at: now, problem: 'no answer' }, [])
    const connections = this.#open.map(({ leaf, start, shows }) => {
      const own = hex(`a client on ${leaf.issuer}`)
      return client(start, { certificates: shows ? [own, leaf.issuer] : [own] })
    })
    return observed({ at: now, problem: null }, placeAll(connections, knownIn(state)))
  }

  /**
   * I2: an authority does not leave trust under a client that was there when they were counted, unless its time has
   * ended, it is tainted, or they could not be counted and the policy does not ask for it.
   */
  checkDropped(
    [before, after]: readonly [RotationState, RotationState],
    counted: ObservedConnections,
    policy: RotationPolicy,
    latest: Instant,
  ): void {
    if (counted.problem !== null && policy.census !== 'required') return
    const stays = new Set(bundleIn(after).authorities.map(({ sha256 }) => sha256))
    const gone = bundleIn(before).authorities.filter(
      ({ epoch, sha256 }) =>
        !stays.has(sha256) && epochEnd(SCHEDULE, epoch) > latest && after.tainted[epoch] === undefined,
    )
    for (const { epoch, sha256 } of gone) {
      const left = this.#open.find(({ leaf, start }) => leaf.issuer === sha256 && start < counted.at)
      assert.equal(left, undefined, words(epoch))
    }
  }
}

const words = (epoch: Epoch): string => `I2: epoch ${epoch} leaves trust under a client that was counted`
