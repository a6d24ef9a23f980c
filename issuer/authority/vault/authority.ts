/**
 * The authority whose keys stay in OpenBao or HashiCorp Vault. How one is made (steps 1 to 3 in making.ts):
 *
 *   1. POST <authorities>/issuers/generate/intermediate/internal   a key that is born there and never leaves it
 *   2. POST <root>/root/sign-intermediate                          path length 0, explicit window
 *   3. POST <authorities>/intermediate/set-signed                  after we looked at what the root signed
 *   4. POST <authorities>/issuer/<id>                              the name of the epoch: from here on it is there
 *   5. POST <authorities>/config/issuers                           the mount's default, once it signs by our bundle
 *
 * Before step 4 it is nothing to anybody. A name is unique in the mount and given atomically, so of two issuers that
 * make the same epoch one wins. Whatever step fails, the next look mends it (tidy.ts).
 */
import { RotorError } from '../../../src/errors.ts'
import { type Logger, silentLogger } from '../../../src/log.ts'
import type { HeldAuthority } from '../../../src/rotation/state.ts'
import type { Epoch } from '../../../src/schedule.ts'
import { type Clock, type Duration, type Instant, systemClock } from '../../../src/time.ts'
import type { Window } from '../../../src/trust/issue.ts'
import { assertPermitted, type Permitted } from '../../../src/trust/name-constraints.ts'
import type { Authority, LeafRequest } from '../authority.ts'
import { checked, issuersConfig, signed } from './answers.ts'
import { assertLeaf, CLOCKS, rfc3339, windowOf } from './checks.ts'
import type { VaultClient } from './client.ts'
import { type HeldIssuer, type Holdings, Inventory } from './inventory.ts'
import { Making } from './making.ts'
import { issuerName, madeAt, newAttempt, ROLE_ENDINGS } from './names.ts'
import { mending } from './tidy.ts'

export interface VaultAuthorityOptions {
  /** Closed by its owner. */
  readonly client: VaultClient
  readonly domain: string
  /** PKI mounts, without a slash at the end. */
  readonly mounts: { readonly root: string; readonly authorities: string }
  /** PKI role at the mount of the authorities that leaves are signed with; see ROLE_ENDINGS. */
  readonly role: string
  /** What new authorities may certify (name constraints). @default every name */
  readonly permitted?: Permitted | undefined
  /** @default the system's */
  readonly clock?: Clock
  /** @default none */
  readonly logger?: Logger
  /** How long `list` answers from memory, milliseconds: others may make and delete, too. @default 5000 */
  readonly freshFor?: Duration
  /** Mends what is half made whenever it looks; false for who only wants to see. @default true */
  readonly mends?: boolean | undefined
  /** From what age on half made things of others are mended, milliseconds: nobody works that long. @default 2 minutes */
  readonly margin?: Duration
}

/** An authority: it has its name and its key. */
type Usable = HeldIssuer & { readonly keyId: string }

/**
 * One of so many signatures of the engine is verified here. Whoever uses a leaf verifies its own: an agent before it is
 * staged, a rehearsal before a bundle is published. Here it would be a fifth of the processor time of a call.
 */
const SAMPLE = 32

export class VaultAuthority implements Authority {
  readonly #client: VaultClient
  readonly #domain: string
  readonly #mount: string
  readonly #role: string
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #freshFor: Duration
  readonly #margin: Duration
  readonly #mends: boolean
  readonly #inventory: Inventory
  readonly #making: Making
  /** Leaves since one was verified, by id of the issuer. */
  readonly #sinceVerified = new Map<string, number>()
  /** Suffixes of our tries that are over and not known to be an authority. */
  readonly #leftovers = new Set<string>()
  #held: readonly Usable[] = []
  #lookedAt: Instant | null = null
  /** Id of the issuer that we made the default of the mount. */
  #default: string | null = null
  /** What mending failed with: said once. */
  #trouble = ''
  /** Looks and changes, one after the other. */
  #work: Promise<unknown> = Promise.resolve()

  constructor(options: VaultAuthorityOptions) {
    this.#client = options.client
    this.#domain = options.domain
    this.#mount = options.mounts.authorities
    this.#role = options.role
    this.#clock = options.clock ?? systemClock
    this.#logger = options.logger ?? silentLogger
    this.#freshFor = options.freshFor ?? 5_000
    this.#margin = options.margin ?? 120_000
    this.#mends = options.mends ?? true
    this.#inventory = new Inventory(this.#client, this.#mount, this.#domain)
    this.#making = new Making(options, this.#clock)
  }

  prepare(epoch: Epoch, window: Window, root?: string): Promise<HeldAuthority> {
    return this.#inTurn(async () => {
      const { issuers } = await this.#look()
      const there = issuers.filter((issuer) => issuer.epoch === epoch)
      if (!there.some((issuer) => issuer.isNamed)) {
        const half = there.find((issuer) => issuer.keyId !== null)
        if (half === undefined) await this.#make(epoch, window, root)
        else await this.#name(half.id, epoch)
        await this.#look()
      }
      const made = this.#find(epoch)
      if (made !== undefined) return held(made)
      throw new RotorError(
        'ERR_AUTHORITY_ANSWER',
        `${this.#mount}: expected the issuer ${issuerName(this.#domain, epoch)} to have its key, found none; remove that issuer`,
      )
    })
  }

  list(): Promise<readonly HeldAuthority[]> {
    return this.#inTurn(async () => {
      const age = this.#lookedAt === null ? Number.NaN : this.#clock.now() - this.#lookedAt
      if (!(age >= 0 && age < this.#freshFor)) await this.#look()
      return this.#held.map(held)
    })
  }

  doubt(): void {
    // after the look that may be under way
    void this.#inTurn(async () => {
      this.#lookedAt = null
    })
  }

  async sign(epoch: Epoch, request: LeafRequest): Promise<string> {
    if (this.#find(epoch) === undefined) await this.list()
    const authority = this.#find(epoch)
    if (authority === undefined) {
      throw new RotorError(
        'ERR_AUTHORITY_MISSING',
        `${this.#mount}: no issuer ${issuerName(this.#domain, epoch)} with a key`,
      )
    }
    const { certificate } = authority
    const { csr, commonName, names, usages } = request
    assertPermitted(names, certificate)
    const window = windowOf({
      notBefore: Math.max(request.notBefore, certificate.notBefore),
      notAfter: Math.min(request.notAfter, certificate.notAfter),
    })
    const [only = 'both', ...more] = usages ?? []
    const ending = ROLE_ENDINGS[more.length === 0 ? only : 'both']
    const path = `${this.#mount}/issuer/${authority.id}/sign/${this.#role}${ending}`
    const answer = await this.#client
      .write(path, {
        csr: csr.pem,
        common_name: commonName,
        exclude_cn_from_sans: true,
        alt_names: names.dns.join(','),
        ip_sans: names.ip,
        uri_sans: names.uri,
        // It begins by the `not_before_duration` of the role; no request can say otherwise.
        not_after: rfc3339(window.notAfter),
      })
      .catch((cause) => {
        // Somebody may have removed it: the next `list` looks.
        this.#lookedAt = null
        throw cause
      })
    const notBefore = Math.min(window.notBefore + CLOCKS, this.#clock.now())
    const { notAfter } = window
    const verify = this.#isSample(authority.id)
    const asked = { csr, commonName, names, usages, notBefore, notAfter, authority: certificate, verify }
    try {
      return assertLeaf(checked(signed, answer, path).certificate, asked, path) + certificate.pem
    } catch (cause) {
      this.#sinceVerified.delete(authority.id)
      throw cause
    }
  }

  /** The first leaf of an issuer is, and the first after one that was wrong. */
  #isSample(id: string): boolean {
    const count = this.#sinceVerified.get(id) ?? 0
    this.#sinceVerified.set(id, (count + 1) % SAMPLE)
    return count === 0
  }

  async activate(epoch: Epoch): Promise<void> {
    const id = this.#find(epoch)?.id
    if (id === undefined || id === this.#default) return
    const path = `${this.#mount}/config/issuers`
    const found = checked(issuersConfig, await this.#client.read(path), path)
    // The default would follow each new issuer at once, before anybody trusts it.
    if (found.default !== id || found.default_follows_latest_issuer) {
      await this.#client.write(path, { default: id, default_follows_latest_issuer: false })
    }
    this.#default = id
  }

  delete(epoch: Epoch): Promise<void> {
    return this.#inTurn(async () => {
      const { issuers, keys } = await this.#look()
      const mine = issuers.filter((issuer) => issuer.epoch === epoch)
      // When a call below fails, the next look goes on with it.
      for (const { suffix } of mine) this.#leftovers.add(suffix)
      this.#held = this.#held.filter((each) => each.epoch !== epoch)
      for (const { id } of mine) await this.#client.remove(`${this.#mount}/issuer/${id}`)
      for (const { id } of keys.filter((key) => key.epoch === epoch)) {
        await this.#client.remove(`${this.#mount}/key/${id}`)
      }
    })
  }

  async roots(): Promise<readonly string[]> {
    return [(await this.#making.defaultRoot()).pem]
  }

  // ---- making one

  async #make(epoch: Epoch, window: Window, root: string | undefined): Promise<void> {
    const attempt = newAttempt(epoch, this.#clock.now())
    try {
      await this.#name(await this.#making.issuer(attempt, window, root), epoch)
    } finally {
      this.#leftovers.add(attempt.suffix)
    }
  }

  /** The last step. No error when another issuer was first: its authority is the one of the epoch then. */
  async #name(id: string, epoch: Epoch): Promise<void> {
    const name = issuerName(this.#domain, epoch)
    try {
      await this.#client.write(`${this.#mount}/issuer/${id}`, {
        issuer_name: name,
        leaf_not_after_behavior: 'truncate',
      })
    } catch (cause) {
      // 400: the name is in use. 500: this issuer was removed, because the name is in use.
      const isAnswer = RotorError.is(cause) && [400, 500].includes(Number(cause.details.status))
      const { issuers } = isAnswer ? await this.#inventory.look() : { issuers: [] }
      if (!issuers.some((issuer) => issuer.isNamed && issuer.epoch === epoch)) throw cause
      this.#logger.info({ epoch }, 'another issuer has made the authority of this epoch')
    }
  }

  // ---- looking

  /** What the engine holds, after mending. */
  async #look(): Promise<Holdings> {
    const seen = await this.#inventory.look()
    const holdings = this.#mends && (await this.#mend(seen)) ? await this.#inventory.look() : seen
    this.#held = holdings.issuers.filter(isUsable)
    this.#lookedAt = this.#clock.now()
    for (const { suffix } of this.#held) this.#leftovers.delete(suffix)
    for (const suffix of this.#leftovers) {
      // From then on its age says that nobody works on it.
      if (madeAt({ suffix }) + this.#margin < this.#clock.now()) this.#leftovers.delete(suffix)
    }
    return holdings
  }

  /** True when something was changed. What can not be mended now has time: nothing of it is used. */
  async #mend(seen: Holdings): Promise<boolean> {
    const { name, removeIssuers, removeKeys } = mending(seen, {
      now: this.#clock.now(),
      margin: this.#margin,
      ours: this.#leftovers,
    })
    const all = [...name, ...removeIssuers, ...removeKeys]
    if (all.length === 0) return false
    const epochs = [...new Set(all.map(({ epoch }) => epoch))]
    try {
      for (const { id, epoch } of name) await this.#name(id, epoch)
      for (const { id } of removeIssuers) await this.#client.remove(`${this.#mount}/issuer/${id}`)
      for (const { id } of removeKeys) await this.#client.remove(`${this.#mount}/key/${id}`)
      this.#logger.info({ epochs, named: name.length }, 'half made authorities were mended')
      this.#trouble = ''
    } catch (cause) {
      const { code, message } = RotorError.from(cause)
      if (message !== this.#trouble) {
        this.#logger.warn({ code, epochs, err: message }, 'half made authorities stay in the engine for now')
      }
      this.#trouble = message
    }
    return true
  }

  #find(epoch: Epoch): Usable | undefined {
    return this.#held.find((each) => each.epoch === epoch)
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work)
    this.#work = done.catch(() => {})
    return done
  }
}

const isUsable = (issuer: HeldIssuer): issuer is Usable => issuer.isNamed && issuer.keyId !== null

const held = ({ epoch, certificate }: HeldIssuer): HeldAuthority => ({
  epoch,
  certificate: certificate.pem,
  sha256: certificate.sha256,
  notBefore: certificate.notBefore,
  notAfter: certificate.notAfter,
})
