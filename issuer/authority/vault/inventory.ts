/**
 * What of ours does the engine hold now? Two lists at each look. An entry is read once, because certificate, key and
 * key name never change; only an issuer that is not named yet is read again.
 */
import PQueue from 'p-queue'
import { RotorError } from '../../../src/errors.ts'
import { type Certificate, parseCertificate } from '../../../src/trust/certificate.ts'
import { checked, ids, issuerEntry, keyEntry } from './answers.ts'
import { problemOfAuthority } from './checks.ts'
import type { VaultClient } from './client.ts'
import { type Attempt, attemptOf, attemptOfKey, issuerName } from './names.ts'

export interface HeldIssuer extends Attempt {
  readonly id: string
  /** It has the one name of its epoch: it is the authority. */
  readonly isNamed: boolean
  /** null when the engine has no key for it: it can not sign. */
  readonly keyId: string | null
  readonly certificate: Certificate
}

export interface HeldKey extends Attempt {
  readonly id: string
}

export interface Holdings {
  /** Oldest epoch first, then in the order of their suffixes. */
  readonly issuers: readonly HeldIssuer[]
  readonly keys: readonly HeldKey[]
}

/** Reads at once when there is much to read: the first look. */
const CONCURRENCY = 8
/** Lists to ask for while entries go away in the middle of them. */
const LISTS = 5

export class Inventory {
  readonly #client: VaultClient
  readonly #mount: string
  readonly #domain: string
  /** By id; null: of somebody else. */
  readonly #issuers = new Map<string, HeldIssuer | null>()
  readonly #keys = new Map<string, HeldKey | null>()

  constructor(client: VaultClient, mount: string, domain: string) {
    this.#client = client
    this.#mount = mount
    this.#domain = domain
  }

  async look(): Promise<Holdings> {
    // The issuers first: a key that is missing in the later list was deleted, it is not one that is still to come.
    const issuers = await this.#list('issuers')
    const keys = await this.#list('keys')
    forget(this.#issuers, issuers)
    forget(this.#keys, keys)
    const queue = new PQueue({ concurrency: CONCURRENCY })
    const unknown = issuers.filter((id) => !this.#issuers.has(id) || this.#issuers.get(id)?.isNamed === false)
    const unknownKeys = keys.filter((id) => !this.#keys.has(id))
    await queue.addAll([
      ...unknown.map((id) => () => this.#readIssuer(id)),
      ...unknownKeys.map((id) => () => this.#readKey(id)),
    ])
    return {
      issuers: [...this.#issuers.values()]
        .filter((issuer) => issuer !== null)
        .map((issuer) => ({ ...issuer, keyId: keys.find((id) => id === issuer.keyId) ?? null }))
        .sort(byAge),
      keys: [...this.#keys.values()].filter((key) => key !== null).sort(byAge),
    }
  }

  /** The engine reads each entry for its list, and answers 500 when another issuer has just removed one of them. */
  async #list(what: 'issuers' | 'keys'): Promise<string[]> {
    const path = `${this.#mount}/${what}`
    for (let left = LISTS; ; left -= 1) {
      try {
        return checked(ids, await this.#client.list(path), path)
      } catch (cause) {
        const { message, details } = RotorError.from(cause)
        if (left <= 1 || details.status !== 500 || !message.includes('does not exist')) throw cause
      }
    }
  }

  async #readIssuer(id: string): Promise<void> {
    const path = `${this.#mount}/issuer/${id}`
    const data = await this.#read(path, 'issuers', id)
    if (data === null) return
    const entry = checked(issuerEntry, data, path)
    const certificate = authorityIn(entry.certificate, path)
    const attempt = certificate === null ? null : attemptOf(this.#domain, certificate)
    if (certificate === null || attempt === null) {
      this.#issuers.set(id, null)
      return
    }
    const isNamed = entry.issuer_name === issuerName(this.#domain, attempt.epoch)
    this.#issuers.set(id, { id, ...attempt, isNamed, keyId: entry.key_id, certificate })
  }

  async #readKey(id: string): Promise<void> {
    const path = `${this.#mount}/key/${id}`
    const data = await this.#read(path, 'keys', id)
    if (data === null) return
    const attempt = attemptOfKey(this.#domain, checked(keyEntry, data, path).key_name)
    this.#keys.set(id, attempt === null ? null : { id, ...attempt })
  }

  /**
   * null: it went since it was listed. The engine answers 500 for what it does not have, so only a second list tells
   * that from a failure, which must not look like a lost authority.
   */
  async #read(path: string, list: 'issuers' | 'keys', id: string): Promise<Record<string, unknown> | null> {
    try {
      return await this.#client.read(path)
    } catch (cause) {
      if ((await this.#list(list)).includes(id)) throw cause
      return null
    }
  }
}

/** null for what can be no authority of ours; others may also keep in the mount what we can not read. */
function authorityIn(pem: string, path: string): Certificate | null {
  try {
    const certificate = parseCertificate(pem, path)
    return problemOfAuthority(certificate) === null ? certificate : null
  } catch {
    return null
  }
}

function forget(known: Map<string, unknown>, present: readonly string[]): void {
  const all = new Set(present)
  for (const id of known.keys()) if (!all.has(id)) known.delete(id)
}

const byAge = (a: Attempt, b: Attempt): number => a.epoch - b.epoch || (a.suffix < b.suffix ? -1 : 1)
