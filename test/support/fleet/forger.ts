/**
 * A thief who may publish to an agent and has a key: one of his own, or that of a signer that was retired. He makes a bundle
 * in which everything is right but who signed it. Only who has forgotten what it knew of the signers would take it.
 */
import { encodePayload, payloadDigest } from '../../../src/bundle/payload.ts'
import type { Signer } from '../../../src/bundle/signer.ts'
import { vouch } from '../../../src/bundle/succession.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import { bundlePayload } from '../../../src/wire/bundle.ts'
import type { Random } from '../random.ts'
import type { AgentMachine } from './agent-machine.ts'
import type { Broker } from './broker.ts'
import { DOMAIN, type KeyStore } from './key-store.ts'
import { generateSigner, openEnvelope, signBundle } from './remembered/envelope.ts'
import { decodeRecord } from './remembered/record.ts'
import { SimulatedProcess, type Timeline } from './timeline.ts'

export class Forger {
  readonly #broker: Broker
  readonly #keys: KeyStore
  readonly #random: Random
  readonly #process: SimulatedProcess
  /** Bundles on their way to an agent. */
  sent = 0

  constructor(
    {
      broker,
      keys,
      timeline,
    }: { readonly broker: Broker; readonly keys: KeyStore; readonly timeline: Timeline },
    random: Random,
  ) {
    this.#broker = broker
    this.#keys = keys
    this.#random = random
    this.#process = new SimulatedProcess({ name: 'a thief' }, timeline, { now: () => timeline.now })
  }

  /** Sends this agent a forged bundle; says with whose key. */
  forge(machine: AgentMachine): string {
    const known = new Set(machine.disk.accepted()?.signers.map(({ kid }) => kid))
    // who knows no later signer than that one is deceived by it: SPEC.md says so
    const { retired } = this.#keys
    const stolen = retired.slice(0, retired.findIndex(({ key }) => known.has(key.kid)) >>> 0)
    const former = this.#random.pick([null, ...stolen])
    this.#process.timeline.in(0, this.#process, '', () => {
      void this.#make(former).then((bytes) => {
        this.sent += 1
        this.#broker.play(machine.name, bytes)
      })
    })
    return `${former === null ? 'a stranger' : 'who has a former key'} signs one for ${machine.name}`
  }

  async #make(former: Signer | null): Promise<Uint8Array> {
    const newest = this.#broker.stream.at(-1)
    const text = Buffer.from(openEnvelope(newest?.bytes ?? new Uint8Array()).payload).toString()
    const payload = decodeRecord(bundlePayload, text, 'newest bundle')
    const thief = await generateSigner()
    const forged: BundlePayload = {
      ...payload,
      version: payload.version + 1,
      previous: payloadDigest(text),
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
