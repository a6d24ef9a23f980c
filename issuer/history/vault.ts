/**
 * Bundles in a KV engine (version 2) of OpenBao or Vault: `<mount>/data/<prefix>/<domain>/<version>`, one secret each,
 * written with `cas` 0, which the engine takes only when there is none yet.
 */
import { z } from 'zod'
import { RotorError } from '../../src/errors.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import type { VaultClient } from '../authority/vault/client.ts'
import { type BundleHistory, type KeptBundle, newestOf, versionsIn } from './history.ts'

export interface VaultHistoryOptions {
  /** Closed by its owner. */
  readonly client: VaultClient
  /** Of the KV engine, without a slash at the end. */
  readonly mount: string
  /** @default 'ca-bundles' */
  readonly prefix?: string
  readonly domain: string
}

/** `data` of a secret. Text: an envelope is JSON, and a person can read it there. */
const secret = z.object({ data: z.object({ envelope: z.string() }) })

export class VaultHistory implements BundleHistory {
  readonly #client: VaultClient
  readonly #mount: string
  readonly #folder: string

  constructor({ client, mount, prefix = 'ca-bundles', domain }: VaultHistoryOptions) {
    this.#client = client
    this.#mount = mount
    this.#folder = `${prefix}/${domain}`
  }

  async store(version: number, envelope: Uint8Array): Promise<Uint8Array> {
    try {
      const data = { envelope: Buffer.from(envelope).toString('utf8') }
      await this.#client.write(this.#path('data', version), { options: { cas: 0 }, data })
      return envelope
    } catch (cause) {
      // Refused because it is there, or for another reason: then there is nothing to read.
      const refused = RotorError.is(cause) && cause.code === 'ERR_AUTHORITY_REFUSED'
      const kept = refused ? await this.read(version) : null
      if (kept === null) throw cause
      return kept
    }
  }

  async read(version: number): Promise<Uint8Array | null> {
    const path = this.#path('data', version)
    const answer = await this.#client.read(path)
    if (answer === null) return null
    const { data } = decodeRecord(secret, JSON.stringify(answer), path)
    return Buffer.from(data.envelope, 'utf8')
  }

  newest(): Promise<KeptBundle | null> {
    return newestOf(this)
  }

  async list(): Promise<readonly number[]> {
    return versionsIn(await this.#client.list(`${this.#mount}/metadata/${this.#folder}`))
  }

  async prune(keepFrom: number): Promise<void> {
    for (const version of (await this.list()).slice(0, -1)) {
      if (version < keepFrom) await this.#client.remove(this.#path('metadata', version))
    }
  }

  #path(kind: 'data' | 'metadata', version: number): string {
    return `${this.#mount}/${kind}/${this.#folder}/${version}`
  }
}
