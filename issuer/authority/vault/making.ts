/**
 * How is an authority made in the engine? Key, certificate, issuer; what the root signed is looked at before it goes any
 * further. Everything made here carries the names of its try, so that whatever is cut off in the middle is found again.
 */

import { RotorError } from '../../../src/errors.ts'
import type { Clock } from '../../../src/time.ts'
import type { Certificate } from '../../../src/trust/certificate.ts'
import type { Window } from '../../../src/trust/issue.ts'
import type { Permitted } from '../../../src/trust/name-constraints.ts'
import { NO_NAMES } from '../../../src/trust/names.ts'
import { checked, generated, ids, imported, rootEntry, signed } from './answers.ts'
import { assertAuthority, CLOCKS, certificateIn, rfc3339, windowOf } from './checks.ts'
import type { VaultClient } from './client.ts'
import { type Attempt, commonName, keyName } from './names.ts'

interface SigningRoot {
  readonly root: Certificate
  /** Of the call that signs with it. */
  readonly path: string
}

export interface MakingOptions {
  readonly client: VaultClient
  readonly domain: string
  readonly mounts: { readonly root: string; readonly authorities: string }
  /** @default every name */
  readonly permitted?: Permitted | undefined
}

export class Making {
  readonly #client: VaultClient
  readonly #domain: string
  readonly #root: string
  readonly #mount: string
  readonly #permitted: Permitted
  readonly #clock: Clock

  constructor({ client, domain, mounts, permitted = NO_NAMES }: MakingOptions, clock: Clock) {
    this.#client = client
    this.#domain = domain
    this.#root = mounts.root
    this.#mount = mounts.authorities
    this.#permitted = permitted
    this.#clock = clock
  }

  /** Id of a new issuer, with its key and without a name. `rootSha256`: who signs it. @default the mount's default */
  async issuer(attempt: Attempt, asked: Window, rootSha256: string | undefined): Promise<string> {
    // Before anything is made: without its root, or with nothing left of its window, nothing can come of it.
    const signer = await this.#rootFor(rootSha256)
    // The engine would sign beyond the end of the root.
    const window = windowOf({ ...asked, notAfter: Math.min(asked.notAfter, signer.root.notAfter) })
    const { keyId, csr } = await this.#generate(attempt)
    const certificate = await this.#signed(attempt, csr, signer, window)
    return this.#import(certificate, keyId)
  }

  async defaultRoot(): Promise<Certificate> {
    return this.#rootAt(`${this.#root}/issuer/default`)
  }

  /** The default of the mount, or the one asked for: the old one signs on until every node knows a new default. */
  async #rootFor(sha256: string | undefined): Promise<SigningRoot> {
    const first = await this.defaultRoot()
    if (sha256 === undefined || first.sha256 === sha256) {
      return { root: first, path: `${this.#root}/root/sign-intermediate` }
    }
    const list = `${this.#root}/issuers`
    for (const id of checked(ids, await this.#client.list(list), list)) {
      const path = `${this.#root}/issuer/${id}`
      const root = await this.#rootAt(path)
      if (root.sha256 === sha256) return { root, path: `${path}/sign-intermediate` }
    }
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `${this.#root}: expected the root ${sha256} of the bundle, the default is ${first.sha256}`,
    )
  }

  async #rootAt(path: string): Promise<Certificate> {
    return certificateIn(checked(rootEntry, await this.#client.read(path), path).certificate, path)
  }

  async #generate(attempt: Attempt): Promise<{ csr: string; keyId: string }> {
    const path = `${this.#mount}/issuers/generate/intermediate/internal`
    const answer = await this.#client.write(path, {
      key_name: keyName(this.#domain, attempt),
      key_type: 'ec',
      key_bits: 256,
      ...this.#subject(attempt),
    })
    const { csr, key_id } = checked(generated, answer, path)
    return { csr, keyId: key_id }
  }

  /** What the root signed, looked at: it goes no further when it is not what we asked for. */
  async #signed(attempt: Attempt, csr: string, { root, path }: SigningRoot, window: Window): Promise<string> {
    // This call knows no date for the start.
    const backDated = Math.max(0, Math.ceil((this.#clock.now() - window.notBefore + CLOCKS) / 1000))
    const answer = await this.#client.write(path, {
      csr,
      ...this.#subject(attempt),
      max_path_length: 0,
      use_csr_values: false,
      not_before_duration: `${backDated}s`,
      not_after: rfc3339(window.notAfter),
      ...this.#limits(),
    })
    const { certificate: pem } = checked(signed, answer, path)
    const certificate = certificateIn(pem, path)
    assertAuthority(
      certificate,
      { domain: this.#domain, permitted: this.#permitted, attempt, root, ...window },
      path,
    )
    return certificate.pem
  }

  /** The issuer that the engine made of certificate and key. */
  async #import(certificate: string, keyId: string): Promise<string> {
    const path = `${this.#mount}/intermediate/set-signed`
    const { mapping } = checked(imported, await this.#client.write(path, { certificate }), path)
    const found = Object.entries(mapping).find(([, key]) => key === keyId)
    if (found === undefined) {
      throw new RotorError('ERR_AUTHORITY_ANSWER', `${path}: expected an issuer with the key ${keyId}`)
    }
    return found[0]
  }

  /** OpenBao 2.7 knows DNS names only and passes over the others; Vault knows all since 1.19. */
  #limits(): Record<string, unknown> {
    const { dns, ip, uri } = this.#permitted
    return {
      ...(dns.length === 0 ? {} : { permitted_dns_domains: dns }),
      ...(ip.length === 0 ? {} : { permitted_ip_ranges: ip }),
      ...(uri.length === 0 ? {} : { permitted_uri_domains: uri }),
    }
  }

  #subject(attempt: Attempt): Record<string, unknown> {
    return {
      common_name: commonName(this.#domain, attempt),
      organization: this.#domain,
      exclude_cn_from_sans: true,
    }
  }
}
