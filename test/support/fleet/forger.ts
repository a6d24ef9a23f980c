/**
 * A thief who may publish to an agent and has a key: one of his own, or that of a signer that was retired. He makes a bundle
 * in which everything is right but who signed it. Only who has forgotten what it knew of the signers would take it.
 */
import { encodePayload, payloadDigest } from '../../../src/bundle/payload.ts'
import type { Signer } from '../../../src/bundle/signer.ts'
import { vouch } from '../../../src/bundle/succession.ts'
import type { BundlePayload, SignerKey } from '../../../src/wire/bundle.ts'
import type { Random } from '../random.ts'
import type { AgentMachine } from './agent-machine.ts'
import type { Broker } from './broker.ts'
import type { Domain } from './founding.ts'
import { DOMAIN, type KeyStore } from './key-store.ts'
import { generateSigner, openEnvelope, signBundle } from './remembered/envelope.ts'
import { payloadOf } from './signer-promises.ts'
import { SimulatedProcess } from './timeline.ts'

export class Forger {
  readonly #broker: Broker
  readonly #keys: KeyStore
  readonly #agents: readonly AgentMachine[]
  readonly #random: Random
  readonly #process: SimulatedProcess
  /** Bundles. */
  sent = 0

  constructor(
    { broker, keys, agents, timeline }: Pick<Domain, 'broker' | 'keys' | 'agents' | 'timeline'>,
    random: Random,
  ) {
    this.#broker = broker
    this.#keys = keys
    this.#agents = agents
    this.#random = random
    this.#process = new SimulatedProcess({ name: 'a thief' }, timeline, { now: () => timeline.now })
  }

  /** Sends every agent a forged bundle that is not to take it; says with whose key. */
  forge(): string {
    const { retired } = this.#keys
    const former = retired.length > 0 && this.#random.chance(0.7) ? this.#random.pick(retired) : null
    const targets = this.#agents.filter((machine) => former === null || this.#knowsLater(machine, former))
    this.#process.timeline.in(0, this.#process, '', () => {
      void this.#make(former).then((bytes) => {
        this.sent += 1
        for (const { name } of targets) this.#broker.play(name, bytes)
      })
    })
    const names = targets.map(({ name }) => name).join(', ')
    return `${former === null ? 'a stranger' : 'who has a former key'} signs one for ${names}`
  }

  /** Who knows no later signer than the one whose key was stolen is deceived by it: SPEC.md says so. */
  #knowsLater(machine: AgentMachine, stolen: Signer): boolean {
    const kids = this.#learned(machine).map(({ kid }) => kid)
    const { retired } = this.#keys
    return !retired.slice(0, retired.indexOf(stolen) + 1).some(({ key }) => kids.includes(key.kid))
  }

  /** What the bundle told it that it accepted last, whether it remembers or not. */
  #learned({ disk }: AgentMachine): readonly SignerKey[] {
    const accepted = this.#broker.stream[(disk.accepted()?.highest?.version ?? 0) - 1]
    return accepted === undefined ? [] : payloadOf(accepted).signers
  }

  async #make(former: Signer | null): Promise<Uint8Array> {
    const newest = this.#broker.stream.at(-1)
    if (newest === undefined) throw new TypeError('expected a domain that was founded')
    const payload = payloadOf(newest)
    const thief = await generateSigner()
    const forged: BundlePayload = {
      ...payload,
      version: payload.version + 1,
      previous: payloadDigest(openEnvelope(newest.bytes).payload),
      reason: 'forged',
      signers: [thief.key],
      succession:
        former === null
          ? payload.succession
          : [...(payload.succession ?? []), await vouch(DOMAIN, former, thief)],
    }
    return signBundle(encodePayload(forged), former === null ? [thief] : [thief, former])
  }
}
