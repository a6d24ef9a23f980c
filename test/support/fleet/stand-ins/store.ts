/** What an issuer keeps on NATS: the state, and the stream of bundles. What leaves here may be late, lost, or come twice. */
import { openOwn } from '../../../../issuer/own.ts'
import type { PublishedBundle, StoredState } from '../../../../issuer/store.ts'
import type { Signer } from '../../../../src/bundle/envelope.ts'
import { type RotationState, rotationState } from '../../../../src/rotation/state.ts'
import { STATE_KEY } from '../broker.ts'
import { currentIssuer } from '../issuer-machine.ts'
import { DOMAIN } from '../key-store.ts'
import { decodeRecord } from '../remembered/record.ts'
import { currentProcess } from '../timeline.ts'

const ANSWER = 5_000

export const isStoreMissing = (): boolean => false

export async function readState(): Promise<StoredState | null> {
  const { network, broker } = currentIssuer().parts
  const record = await network.ask(currentProcess(), 'state', ANSWER, () => broker.read(STATE_KEY))
  if (record === null) return null
  return { state: decodeRecord(rotationState, record.text, STATE_KEY), revision: record.revision }
}

/** When the answer is lost the state may have been written. */
export async function writeState(_nc: unknown, _names: unknown, state: RotationState, revision: number) {
  const issuer = currentIssuer()
  const { network, broker, watching } = issuer.parts
  const text = JSON.stringify(state)
  const decision = issuer.decisionFor(state)
  return network.ask(currentProcess(), 'state', ANSWER, () => {
    if (broker.read(STATE_KEY)?.revision !== revision) watching.conflict()
    const written = broker.write(STATE_KEY, text, revision)
    watching.committed(revision, written, state, decision)
    return written
  })
}

export async function newestBundle(
  _nc: unknown,
  _names: unknown,
  signers: readonly Pick<Signer, 'key'>[],
): Promise<PublishedBundle | null> {
  const { network, broker } = currentIssuer().parts
  const { last, sequence } = await network.ask(currentProcess(), 'newest bundle', ANSWER, () => ({
    last: broker.stream.at(-1)?.bytes,
    sequence: broker.stream.length,
  }))
  if (last === undefined) return null
  const own = await openOwn(last, DOMAIN, signers)
  return { version: own?.bundle.version ?? 0, sequence, last, own }
}

export async function publishBundle(
  _nc: unknown,
  _names: unknown,
  bytes: Uint8Array,
  version: number,
  after: number,
): Promise<number> {
  const issuer = currentIssuer()
  const { network, broker, timeline } = issuer.parts
  timeline.note(`${issuer.name}: publishes version ${version}`)
  const message = { id: `${DOMAIN}-${version}`, version, bytes }
  return network.ask(currentProcess(), 'bundle', ANSWER, () => broker.publish(message, after))
}
