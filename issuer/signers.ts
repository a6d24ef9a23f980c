/**
 * The keys that sign bundles, in the key store: `signer.key` of the founding, then `signer-2.key` and so on. A number is
 * used once, a file appears whole and is never replaced, so two issuers on one store can not make two of one.
 */
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  generateSigner,
  type Signer,
  type SignerKind,
  signerFromPem,
  signerToPem,
} from '../src/bundle/envelope.ts'
import { KIND_OF } from '../src/bundle/signer.ts'
import { formerSigners, type Succession, vouch } from '../src/bundle/succession.ts'
import { RotorError } from '../src/errors.ts'
import { createFile, errorCode, fsyncDir, writing } from '../src/identity/durable.ts'
import type { HeldSigner } from '../src/rotation/state.ts'
import type { BundlePayload, SignerKey } from '../src/wire/bundle.ts'

const FIRST = 'signer.key'
const LATER = /^signer-([1-9]\d{0,5})\.key$/

interface StoredSigner extends Signer {
  readonly number: number
}

export interface SignerStoreOptions {
  /** Directory of the key store. */
  readonly dir: string
  readonly passphrase?: string | undefined
}

export class SignerStore {
  readonly #dir: string
  readonly #passphrase: string | undefined
  #held: readonly StoredSigner[] = []
  /** The word for a key is given once: ML-DSA would make another one each time. */
  readonly #vouched = new Map<string, string>()

  constructor({ dir, passphrase }: SignerStoreOptions) {
    this.#dir = dir
    this.#passphrase = passphrase
  }

  /** As read last, lowest number first. */
  get held(): readonly StoredSigner[] {
    return this.#held
  }

  /**
   * Reads what is new in the store, and forgets what is gone. Throws ERR_AUTHORITY_MISSING when it has none,
   * ERR_AUTHORITY_LOCKED, ERR_IDENTITY_INVALID.
   */
  async refresh(): Promise<void> {
    const numbers = await this.#numbers()
    if (numbers.length === 0) {
      throw new RotorError(
        'ERR_AUTHORITY_MISSING',
        `${this.#dir}: expected ${FIRST}, or a later signer of bundles, found none`,
      )
    }
    const known = new Map(this.#held.map((signer) => [signer.number, signer]))
    const held: StoredSigner[] = []
    for (const number of numbers) {
      const signer = known.get(number) ?? (await this.#read(number))
      if (signer !== null) held.push(signer)
    }
    this.#held = held
  }

  /** Makes the key of this number, unless it is there. Throws ERR_IDENTITY_WRITE. */
  async create(number: number, kind: SignerKind): Promise<void> {
    const pem = signerToPem(await generateSigner(kind), this.#passphrase)
    await createFile(this.#file(number), pem, 0o600)
    await this.refresh()
  }

  async delete(number: number): Promise<void> {
    const file = this.#file(number)
    await writing(file, () => rm(file, { force: true }))
    await fsyncDir(this.#dir)
    await this.refresh()
  }

  /** Who signs this bundle: each of its signers that we hold. Throws ERR_AUTHORITY_MISSING without one. */
  of({ signers }: Pick<BundlePayload, 'signers'>): readonly Signer[] {
    const wanted = new Set(signers.map(({ kid }) => kid))
    const found = this.#held.filter(({ key }) => wanted.has(key.kid))
    if (found.length > 0) return found
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `${this.#dir}: expected the key of a signer of the bundle (${[...wanted].join(', ')}), found others only; copy signer-*.key from the issuer that made it`,
    )
  }

  /** Whose bundles are ours: the signers we hold, and those that were signers before, by a bundle of ours. */
  known(bundle: Succession | null): readonly { readonly key: SignerKey }[] {
    return [...this.#held, ...(bundle === null ? [] : formerSigners(bundle).map((key) => ({ key })))]
  }

  /** What the rotation sees of it, as read last. */
  async observe(bundle: BundlePayload): Promise<readonly HeldSigner[]> {
    const trusted = new Set(bundle.signers.map(({ kid }) => kid))
    const from = this.#held.find(({ key }) => trusted.has(key.kid))
    return Promise.all(
      this.#held.map(async (signer) => ({
        number: signer.number,
        kind: KIND_OF[signer.key.kty],
        key: signer.key,
        vouched:
          trusted.has(signer.key.kid) || from === undefined
            ? null
            : await this.#vouch(bundle.domain, from, signer),
      })),
    )
  }

  async #vouch(domain: string, from: Signer, to: Signer): Promise<string> {
    const id = `${from.key.kid} ${to.key.kid}`
    const word = this.#vouched.get(id) ?? (await vouch(domain, from, to))
    this.#vouched.set(id, word)
    return word
  }

  async #numbers(): Promise<number[]> {
    const names = await readdir(this.#dir).catch((cause) => {
      throw new RotorError('ERR_AUTHORITY_MISSING', `expected ${this.#dir}: ${cause.message}`, { cause })
    })
    return names
      .flatMap((name) => (name === FIRST ? [1] : [Number(LATER.exec(name)?.[1] ?? 0)]))
      .filter((number) => number > 0)
      .sort((a, b) => a - b)
  }

  /** Null when another issuer removed it just now. */
  async #read(number: number): Promise<StoredSigner | null> {
    const file = this.#file(number)
    try {
      return { number, ...signerFromPem(await readFile(file, 'utf8'), this.#passphrase, file) }
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return null
      throw RotorError.from(cause, 'ERR_AUTHORITY_MISSING', file)
    }
  }

  #file(number: number): string {
    return join(this.#dir, number === 1 ? FIRST : `signer-${number}.key`)
  }
}
