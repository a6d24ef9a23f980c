/** The port to the CA keys (`issuer/authority/authority.ts`) over the key store of the simulation, which takes its time. */
import type { Authority, LeafRequest } from '../../../issuer/authority/authority.ts'
import { RotorError } from '../../../src/errors.ts'
import type { HeldAuthority } from '../../../src/rotation/state.ts'
import type { Epoch } from '../../../src/schedule.ts'
import { sleep } from '../../../src/time.ts'
import type { WatchingIssuer } from './issuer-machine.ts'
import type { KeyStore } from './key-store.ts'
import { writeLeaf } from './leaf.ts'
import type { Network } from './network.ts'
import { outside } from './timeline.ts'

export interface SimulatedAuthorityParts {
  readonly keys: KeyStore
  readonly network: Network
  readonly watching: Pick<WatchingIssuer, 'deleting'>
}

export class SimulatedAuthority implements Authority {
  readonly #p: SimulatedAuthorityParts

  constructor(parts: SimulatedAuthorityParts) {
    this.#p = parts
  }

  async prepare(epoch: Epoch, { notBefore, notAfter }: { notBefore: number; notAfter: number }) {
    await sleep(this.#p.network.delay())
    return outside(this.#p.keys.prepare(epoch, notBefore, notAfter))
  }

  async list(): Promise<readonly HeldAuthority[]> {
    return this.#p.keys.list()
  }

  async sign(epoch: Epoch, { commonName: of, notBefore, notAfter }: LeafRequest): Promise<string> {
    const key = this.#p.keys.get(epoch)
    if (key === undefined) throw new RotorError('ERR_AUTHORITY_MISSING', `no key of epoch ${epoch}`)
    const window = { notBefore, notAfter: Math.min(notAfter, key.notAfter) }
    return writeLeaf({ of, serial: 0, epoch, issuer: key.sha256, ...window })
  }

  async activate(): Promise<void> {}

  async delete(epoch: Epoch): Promise<void> {
    await sleep(this.#p.network.delay())
    this.#p.watching.deleting(epoch)
    this.#p.keys.delete(epoch)
  }

  /** The only one: a change of the root is not simulated. */
  async roots(): Promise<readonly string[]> {
    return [this.#p.keys.root.certificate.pem]
  }
}
