/** The keys that sign bundles in the simulation, as values: nothing is signed here, and a link is only its words. */
import assert from 'node:assert/strict'
import type { Effect, HeldSigner, Move, RotationState } from '../../src/rotation/state.ts'
import type { BundlePayload, SignerKey } from '../../src/wire/bundle.ts'
import { readBundle, type SimulatedAgent } from './simulated-agent.ts'

type Held = Omit<HeldSigner, 'vouched'>

export class SimulatedSigners {
  readonly #held = new Map<number, Held>()
  #made = 0

  constructor({ signers: [first] }: BundlePayload) {
    assert.ok(first !== undefined)
    this.#held.set(1, { number: 1, kind: 'ed25519', key: first })
  }

  observe({ signers }: BundlePayload): HeldSigner[] {
    const trusted = kidsOf(signers)
    const held = [...this.#held.values()]
    const from = held.find(({ key }) => trusted.has(key.kid))
    return held.map((one) => ({
      ...one,
      vouched: from === undefined || trusted.has(one.key.kid) ? null : linkOf(from.key, one.key),
    }))
  }

  create({ number, signer: kind }: Extract<Effect, { kind: 'create-signer' }>): void {
    if (this.#held.has(number)) return
    const name = String(++this.#made).padStart(43, '0')
    this.#held.set(number, { number, kind, key: { kty: 'OKP', crv: 'Ed25519', x: name, kid: name } })
  }

  /** `newest`: the bundle of the newest state. */
  delete(number: number, newest: BundlePayload): void {
    const gone = this.#held.get(number)
    const trusted = gone !== undefined && kidsOf(newest.signers).has(gone.key.kid)
    assert.ok(!trusted, `K1: the key of signer ${number} is deleted, and the bundle has it`)
    this.#held.delete(number)
  }

  /** K1: the old signer leaves when all know the new one, unless somebody said otherwise. */
  checkMove(move: Move, from: RotationState, to: RotationState, agents: readonly SimulatedAgent[]): void {
    const change = from.signer
    if (move !== 'retire-signer' || change === null || change.withdrawn || change.force) return
    const kids = [...kidsOf(readBundle(to.payload).signers)]
    for (const { name, bundle } of agents) {
      const known = kidsOf(bundle.signers)
      assert.ok(
        kids.some((kid) => known.has(kid)),
        `K1: the old signer leaves, and ${name}, on version ${bundle.version}, does not know the new one`,
      )
    }
  }

  /** K1: whoever slept finds the way, and nobody signs whom no signer of before vouched for. */
  checkPublished(
    before: BundlePayload,
    { version, signers, succession }: BundlePayload,
    agents: readonly SimulatedAgent[],
  ): void {
    const known = kidsOf(before.signers)
    assert.ok(signers.length <= 2, `K1: version ${version} has ${signers.length} signers`)
    assert.ok(
      signers.some(({ kid }) => known.has(kid)),
      `K1: version ${version} has no signer of the one before`,
    )
    for (const { name, bundle } of agents) {
      const followed = follow(kidsOf(bundle.signers), succession ?? [])
      assert.ok(
        signers.some(({ kid }) => followed.has(kid)),
        `K1: ${name}, on version ${bundle.version}, can not follow version ${version}`,
      )
    }
  }
}

const kidsOf = (signers: readonly SignerKey[]): Set<string> => new Set(signers.map(({ kid }) => kid))

const inBase64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** In the form of `src/bundle/succession.ts`, with a signature of zeros. */
function linkOf(from: SignerKey, key: SignerKey): string {
  const header = { alg: 'EdDSA', kid: from.kid, typ: 'rotor-signer+json' }
  const signatures = [{ protected: inBase64(header), signature: 'A'.repeat(86) }]
  return JSON.stringify({ payload: inBase64({ v: 1, domain: 'prod', from, key }), signatures })
}

function follow(kids: ReadonlySet<string>, links: readonly string[]): Set<string> {
  const trusted = new Set(kids)
  for (const link of links) {
    const { from, key } = JSON.parse(Buffer.from(JSON.parse(link).payload, 'base64url').toString())
    if (trusted.has(from.kid)) trusted.add(key.kid)
  }
  return trusted
}
