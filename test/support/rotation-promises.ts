/** The promises of SPEC.md as checks of what is true in a simulated domain, not of what its issuer was told. */
import assert from 'node:assert/strict'
import type { Decision, Move, Phase, RotationState } from '../../src/rotation/state.ts'
import { type Epoch, epochEnd, type Schedule } from '../../src/schedule.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import { type BundlePayload, bundlePayload } from '../../src/wire/bundle.ts'
import { SCHEDULE } from './rotation-world.ts'
import type { SimulatedAgent } from './simulated-agent.ts'

/** What the promises ask of a node. */
export type PromisedNode = Pick<SimulatedAgent, 'name' | 'leaf' | 'standing' | 'knows'>

const STAYS = [
  'steady steady',
  'distributing distributing',
  'converging converging',
  'withdrawing withdrawing',
  'introducing introducing',
] as const

/** From which phase to which one a move may lead. */
const WAYS: Record<Move, readonly `${Phase} ${Phase}`[]> = {
  prepare: ['steady distributing'],
  activate: ['distributing converging'],
  converge: ['converging steady', 'withdrawing steady', 'introducing steady'],
  withdraw: ['distributing withdrawing'],
  restart: ['steady converging', 'distributing converging'],
  introduce: ['steady introducing'],
  rollback: ['converging converging', 'steady converging'],
  distrust: ['steady steady'],
  taint: STAYS,
  retire: STAYS,
  refresh: STAYS,
  'introduce-signer': STAYS,
  'retire-signer': STAYS,
}

const epochsOf = (bundle: BundlePayload, status: string): Epoch[] =>
  bundle.authorities.filter((authority) => authority.status === status).map((authority) => authority.epoch)

export class Promises {
  /** Agents a rotation went on without, and the version they have to reach to count again. */
  readonly passedOver = new Map<string, number>()
  /** PEM of the root that signed an authority, by the SHA-256 of that. */
  readonly rootOf: (authority: string) => string
  /** Which certificate an epoch stands for, once it was in a bundle. */
  readonly #certificateOf = new Map<Epoch, string>()
  readonly #schedule: Schedule
  /** SHA-256 of authorities that were in a bundle and are not any more. */
  readonly #left = new Set<string>()
  /** SHA-256 of authorities that were tainted: their leaves are refused for good reason. */
  readonly tainted = new Set<string>()

  constructor(rootOf: (authority: string) => string, schedule: Schedule = SCHEDULE) {
    this.rootOf = rootOf
    this.#schedule = schedule
  }

  /** `latest`: the latest time that ever was. What ended stays ended although the clock is set back. */
  checkMove(
    from: RotationState,
    { move, to, effects }: Extract<Decision, { kind: 'move' }>,
    agents: readonly PromisedNode[],
    latest: Instant,
  ): void {
    assert.ok(
      WAYS[move].includes(`${from.phase} ${to.phase}`),
      `I5: ${move} from ${from.phase} to ${to.phase}`,
    )
    const before = bundlePayload.parse(JSON.parse(from.payload))
    const after = bundlePayload.parse(JSON.parse(to.payload))
    assert.ok(to.newest >= from.newest, 'E1: an epoch is never used again')
    assert.ok(
      to.active === from.active || to.tainted[to.active] === undefined,
      `S1: epoch ${to.active} is tainted and signs`,
    )
    if (move === 'distrust') {
      assert.equal(to.payload, from.payload)
      this.#checkDistrust(from, to, agents, latest)
    } else if (move === 'converge') {
      assert.equal(to.payload, from.payload)
      const done = from.phase !== 'introducing'
      assert.ok(!done || to.waivers.length === 0, 'O1: a finished rotation leaves nothing behind')
      assert.ok(!done || to.order?.kind !== 'rotate', 'O1: a rotation that was ordered ends with it')
    } else {
      assert.equal(to.version, from.version + 1, 'I4: a version follows its predecessor')
      assert.equal(after.previous, from.digest, 'I4: and names its digest')
      assert.deepEqual(effects[0], { kind: 'publish-bundle', version: to.version })
      this.#checkBundle(after, to)
      for (const { epoch, sha256 } of after.authorities) {
        assert.ok(!this.#left.has(sha256), `E1: epoch ${epoch} has left trust and comes back`)
      }
      for (const { sha256 } of before.authorities) {
        if (!after.authorities.some((authority) => authority.sha256 === sha256)) this.#left.add(sha256)
      }
      for (const { epoch, sha256 } of after.authorities) {
        if (to.tainted[epoch] !== undefined) this.tainted.add(sha256)
      }
      for (const { epoch, sha256 } of before.authorities) {
        if (from.tainted[epoch] !== undefined) this.tainted.add(sha256)
      }
      if (move === 'rollback') {
        const again = before.authorities.find(({ epoch }) => epoch === to.active)
        assert.ok(again?.status === 'retiring' && to.active < from.active, 'R3: back to one that was trusted')
      }
      checkDropped(before, after, to, agents, latest, this.#schedule)
      this.#checkRoots(before, after, agents, latest)
    }
    const names = to.waivers.slice(from.waivers.length).flatMap((waiver) => waiver.names)
    for (const { name } of agents) if (names.includes(name)) this.passedOver.set(name, to.version)
  }

  #checkBundle(bundle: BundlePayload, state: RotationState): void {
    const epochs = bundle.authorities.map((authority) => authority.epoch)
    assert.equal(new Set(epochs).size, epochs.length, 'B1: no epoch twice')
    assert.deepEqual(epochsOf(bundle, 'active'), [bundle.epoch], 'B1: one signs, and it is trusted')
    assert.equal(bundle.epoch, state.active)
    const next = state.phase === 'distributing' ? [state.next] : []
    assert.deepEqual(epochsOf(bundle, 'prepared'), next, 'I5: one rotation at a time')
    for (const { epoch, sha256 } of bundle.authorities) {
      assert.ok(epochEnd(this.#schedule, epoch) > Date.parse(bundle.issuedAt), `B1: epoch ${epoch} has ended`)
      assert.equal(this.#certificateOf.get(epoch) ?? sha256, sha256, `E1: epoch ${epoch} is two authorities`)
      this.#certificateOf.set(epoch, sha256)
    }
  }

  /** B1, I2: every authority has its root in the bundle, and a root that leaves takes no valid leaf with it. */
  #checkRoots(
    before: BundlePayload,
    after: BundlePayload,
    agents: readonly PromisedNode[],
    latest: Instant,
  ): void {
    for (const { epoch, sha256 } of after.authorities) {
      assert.ok(
        after.roots.includes(this.rootOf(sha256)),
        `B1: the root of epoch ${epoch} is not in the bundle`,
      )
    }
    const left = before.roots.filter((root) => !after.roots.includes(root))
    for (const { name, leaf, standing } of agents) {
      for (const { epoch, issuer, notAfter } of [leaf, ...standing]) {
        assert.ok(
          notAfter <= latest || this.tainted.has(issuer) || !left.includes(this.rootOf(issuer)),
          `I2: a root leaves trust, ${name} stands on a leaf of epoch ${epoch} under it`,
        )
      }
    }
  }

  /** S1: what is called proven is true: nobody who was not cut off has the authority in its trust file. */
  #checkDistrust(
    from: RotationState,
    to: RotationState,
    agents: readonly PromisedNode[],
    latest: Instant,
  ): void {
    for (const [key, { sha256, removed }] of Object.entries(from.tainted)) {
      const epoch = Number(key)
      if (to.tainted[key] !== undefined || epochEnd(this.#schedule, epoch) <= latest) continue
      assert.ok(removed !== null, `S1: epoch ${epoch} is still in trust`)
      for (const agent of agents) {
        const { name } = agent
        const stands = agent.standing.some((leaf) => leaf.issuer === sha256)
        assert.ok(
          removed.cutOff.includes(name) || !(agent.knows(sha256) || stands),
          `S1: ${name} trusts epoch ${epoch}`,
        )
      }
    }
  }

  /** I1: no key is made, and none is in a bundle, under a root that an agent lacks, unless a rotation has gone on without it. */
  checkCreation(root: string, agents: readonly SimulatedAgent[]): void {
    for (const { name, bundle } of agents) {
      if (this.#isPassedOver(name, bundle)) continue
      assert.ok(
        bundle.roots.includes(root),
        `I1: an authority is made under a root that ${name} does not have`,
      )
    }
  }

  #isPassedOver(name: string, bundle: BundlePayload): boolean {
    const awaited = this.passedOver.get(name)
    return awaited !== undefined && bundle.version < awaited
  }

  /** I1: a valid leaf is trusted by every registered agent that no rotation has gone on without. */
  checkTrust(agents: readonly SimulatedAgent[], latest: Instant): void {
    for (const verifier of agents) {
      if (this.#isPassedOver(verifier.name, verifier.bundle)) continue
      this.passedOver.delete(verifier.name)
      for (const { name, leaf } of agents) {
        assert.ok(
          leaf.notAfter <= latest || this.tainted.has(leaf.issuer) || verifier.trusts(leaf.issuer),
          `I1: ${verifier.name}, version ${verifier.bundle.version}, meets a leaf of ${leaf.epoch} from ${name}`,
        )
      }
    }
  }
}

/** I2: what leaves trust, nobody stands on with a leaf or a socket, but for those a taint has cut off by name. */
function checkDropped(
  before: BundlePayload,
  after: BundlePayload,
  to: RotationState,
  agents: readonly PromisedNode[],
  latest: Instant,
  schedule: Schedule,
): void {
  for (const { epoch, sha256 } of before.authorities) {
    const stays = after.authorities.some((authority) => authority.sha256 === sha256)
    if (stays || epochEnd(schedule, epoch) <= latest) continue
    const cutOff = to.tainted[epoch]?.removed?.cutOff ?? []
    for (const { name, leaf, standing } of agents) {
      for (const { issuer, notAfter } of [leaf, ...standing]) {
        assert.ok(
          issuer !== sha256 || notAfter <= latest || cutOff.includes(name),
          `I2: epoch ${epoch} leaves trust, ${name} stands on a leaf of it until ${formatInstant(notAfter)}`,
        )
      }
    }
  }
}
