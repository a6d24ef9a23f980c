/** The newest bundle as an envelope, for nodes that join and for whoever asks: signed once, however often it is asked for. */
import type { NatsConnection } from '@nats-io/transport-node'
import { signBundle } from '../../src/bundle/envelope.ts'
import { RotorError } from '../../src/errors.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import { bundlePayload } from '../../src/wire/bundle.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import type { SignerStore } from '../signers.ts'
import { readState } from '../store.ts'

export class NewestBundle {
  readonly #names: DomainNames
  readonly #signers: SignerStore
  #digest = ''
  #envelope: Promise<Uint8Array> = Promise.resolve(new Uint8Array())

  constructor(names: DomainNames, signers: SignerStore) {
    this.#names = names
    this.#signers = signers
  }

  /** The state and its bundle. Throws ERR_SIGN_BUSY before there is one. */
  async read(nc: NatsConnection): Promise<{ state: RotationState; envelope: Uint8Array }> {
    const stored = await readState(nc, this.#names)
    if (stored === null) throw new RotorError('ERR_SIGN_BUSY', 'the issuer is starting')
    const { state } = stored
    if (this.#digest !== state.digest) {
      const bundle = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
      this.#envelope = signBundle(state.payload, this.#signers.of(bundle))
      this.#digest = state.digest
    }
    return { state, envelope: await this.#envelope }
  }
}
