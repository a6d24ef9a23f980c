/** A client of OpenBao whose calls a test can break, before or after they reached the engine. */
import type { VaultClient } from '../../issuer/authority/vault/client.ts'
import { RotorError } from '../../src/errors.ts'

/** `before`: it never arrives. `after`: the engine does it, the answer is lost. */
export type Fault = 'before' | 'after'

export class FaultyClient implements VaultClient {
  /** What was asked, in order: `write pki/root/sign-intermediate`. */
  readonly calls: string[] = []
  /** Which calls break; asked with the number of the call, from 0, and its text. */
  faultOf: (index: number, call: string) => Fault | null = () => null
  readonly #client: VaultClient

  constructor(client: VaultClient) {
    this.#client = client
  }

  read(path: string): Promise<Record<string, unknown> | null> {
    return this.#pass(`read ${path}`, () => this.#client.read(path))
  }

  write(path: string, data?: Record<string, unknown>): Promise<Record<string, unknown>> {
    return this.#pass(`write ${path}`, () => this.#client.write(path, data))
  }

  list(path: string): Promise<string[]> {
    return this.#pass(`list ${path}`, () => this.#client.list(path))
  }

  remove(path: string): Promise<void> {
    return this.#pass(`remove ${path}`, () => this.#client.remove(path))
  }

  async #pass<T>(call: string, send: () => Promise<T>): Promise<T> {
    const fault = this.faultOf(this.calls.length, call)
    this.calls.push(call)
    if (fault === null) return send()
    if (fault === 'after') await send()
    throw new RotorError('ERR_AUTHORITY_UNAVAILABLE', `${call}: broken ${fault} it reached the engine`)
  }
}
