/**
 * K1 as questions about what is true: of every bundle that is published, of what every agent has accepted, and of the key
 * store. Signatures are verified here, whatever anybody says of them.
 */
import assert from 'node:assert/strict'
import { followed } from '../../../src/bundle/succession.ts'
import { readHistory } from '../../../src/history/verify.ts'
import { bundleOf } from '../../../src/rotation/payloads.ts'
import type { Move, RotationState } from '../../../src/rotation/state.ts'
import type { Instant } from '../../../src/time.ts'
import { type BundlePayload, bundlePayload, type SignerKey } from '../../../src/wire/bundle.ts'
import type { AgentMachine } from './agent-machine.ts'
import type { Broker, StreamMessage } from './broker.ts'
import { DOMAIN, HISTORY_DIR, type KeyStore } from './key-store.ts'
import { openEnvelope } from './remembered/envelope.ts'
import { decodeRecord } from './remembered/record.ts'

export class SignerPromises {
  readonly #agents: readonly AgentMachine[]
  readonly #broker: Broker
  readonly #keys: KeyStore

  constructor(agents: readonly AgentMachine[], broker: Broker, keys: KeyStore) {
    this.#agents = agents
    this.#broker = broker
    this.#keys = keys
  }

  /** `before`: null for the first one. */
  async checkPublished(before: StreamMessage | null, message: StreamMessage): Promise<void> {
    const envelope = openEnvelope(message.bytes)
    const bundle = payloadOf(message)
    const { version, signers } = bundle
    const known = before === null ? signers : payloadOf(before).signers
    const kids = kidsOf(signers)
    for (const kid of envelope.kids)
      assert.ok(kids.includes(kid), `K1: ${kid} signs version ${version} as no signer`)
    assert.ok(
      signers.length === 1 || (signers.length === 2 && kidsOf(known).some((kid) => kids.includes(kid))),
      `K1: version ${version} has ${signers.length} signers, and none of before`,
    )
    const bySigner = await Promise.all(known.map((key) => envelope.verify(key)))
    assert.ok(
      bySigner.includes(true),
      `K1: no signer of version ${version - 1} has signed version ${version}`,
    )
    for (const key of signers) {
      const isNew = !kidsOf(known).includes(key.kid)
      assert.ok(
        !isNew || (await envelope.verify(key)),
        `K1: ${key.kid} is new in version ${version} and did not sign it`,
      )
    }
    for (const machine of this.#agents) await this.#checkFollows(machine, message, bundle)
  }

  /** Whatever it slept through, one of the signers it knows leads to one that signed this. */
  async #checkFollows(
    { name, disk }: AgentMachine,
    message: StreamMessage,
    bundle: BundlePayload,
  ): Promise<void> {
    const state = disk.accepted()
    if (state === null) return
    const { verify } = openEnvelope(message.bytes)
    const verdicts = await Promise.all((await followed(bundle, state.signers)).map(verify))
    const { version } = bundle
    assert.ok(
      verdicts.includes(true),
      `K1: ${name}, which accepted version ${state.highest?.version}, can not follow version ${version}`,
    )
  }

  /** What an agent has accepted was published, byte by byte: nobody else can make it take anything. */
  checkAccepted({ name, disk }: AgentMachine): void {
    const state = disk.accepted()
    if (state?.highest == null) return
    const { version } = state.highest
    const published = this.#broker.stream[version - 1]
    const same = published !== undefined && Buffer.from(published.bytes).toString() === state.envelope
    assert.ok(same, `K1: ${name} has accepted a version ${version} that no issuer published`)
  }

  /** The old signer leaves when every agent knows the new one, unless the operator said so, or took the new one back. */
  checkMove(move: Move, from: RotationState, to: RotationState): void {
    const change = from.signer
    if (move !== 'retire-signer' || change === null || change.withdrawn || change.force) return
    const [{ kid } = { kid: '' }] = bundleOf(to).signers
    for (const { name, disk } of this.#agents) {
      const knows = disk.accepted()?.signers.some((key) => key.kid === kid)
      assert.ok(knows, `K1: the old signer leaves, and ${name} does not know the new one`)
    }
  }

  checkDeleted(kid: string, state: RotationState | null): void {
    const there = state !== null && kidsOf(bundleOf(state).signers).includes(kid)
    assert.ok(!there, `K1: the key of ${kid} is deleted, and the newest bundle has it`)
  }

  /** The whole history, on the stream and beside the keys, as `rotor history --verify` looks at it. */
  async checkHistory(now: Instant): Promise<void> {
    const { stream } = this.#broker
    const kept = [...this.#keys.files]
      .filter(([path]) => path.startsWith(HISTORY_DIR))
      .map(([path, text]) => ({
        version: Number.parseInt(path.slice(HISTORY_DIR.length + 1), 10),
        data: Buffer.from(text),
      }))
      .sort((a, b) => a.version - b.version)
    const messages = stream.map(({ bytes }, i) => ({ sequence: i + 1, data: bytes }))
    const { findings } = await readHistory({
      domain: DOMAIN,
      stream: { messages, first: 1, last: messages.length, limit: 4096 },
      kept,
      genesis: stream[0]?.bytes ?? new Uint8Array(),
      now,
    })
    assert.deepEqual(findings, [], `K1: the history is not whole: ${JSON.stringify(findings)}`)
  }
}

const kidsOf = (signers: readonly SignerKey[]): string[] => signers.map(({ kid }) => kid)

/** Of a message on the stream, parsed. */
export const payloadOf = ({ bytes, version }: StreamMessage): BundlePayload =>
  decodeRecord(bundlePayload, Buffer.from(openEnvelope(bytes).payload).toString(), `version ${version}`)
