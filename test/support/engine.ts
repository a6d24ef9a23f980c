/**
 * A real OpenBao for tests: set up for a domain as `rotor vault setup --apply` does it, and the client that an issuer
 * of this domain has, with the rights of an issuer and no more.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VaultAuthority, type VaultAuthorityOptions } from '../../issuer/authority/vault/authority.ts'
import { Vault, type VaultClient } from '../../issuer/authority/vault/client.ts'
import { writeCredentials } from '../../issuer/authority/vault/credentials.ts'
import { applySetup, setupItems } from '../../issuer/authority/vault/setup.ts'
import { type VaultConfig, vaultBlock } from '../../src/domain/vault-config.ts'
import { type BaoOptions, type BaoServer, startBao } from '../../src/local/bao-server.ts'
import { silentLogger } from '../../src/log.ts'

const HOUR = 3_600_000
const CA_FILE = 'ca.pem'

export interface EngineDomain {
  readonly config: VaultConfig
  readonly client: Vault
  /** Another one, with these settings; closed with the engine, or before. */
  open(change?: Partial<VaultConfig>): Promise<Vault>
  /** An adapter of its own on this client, or on one around it. */
  authority(options?: Partial<VaultAuthorityOptions>): VaultAuthority
  /** What the engine holds of this domain, by the names in it. */
  contents(): Promise<Contents>
}

interface DomainOptions {
  readonly address?: string
  readonly timeout?: string
  readonly root?: string
}

export interface Contents {
  /** Names of issuers; "" for one without, which is nobody's authority. */
  readonly issuers: readonly string[]
  readonly keys: readonly string[]
}

export class TestEngine implements AsyncDisposable {
  readonly bao: BaoServer
  /** With the root token. */
  readonly root: Vault
  readonly #clients: Vault[] = []

  private constructor(bao: BaoServer, root: Vault) {
    this.bao = bao
    this.root = root
  }

  static async start(options: BaoOptions = { dev: true }): Promise<TestEngine> {
    const bao = await startBao(options)
    try {
      if (options.tls !== undefined) await writeFile(join(bao.dir, CA_FILE), options.tls.ca)
      const config = settings(bao, bao.address, {}, '10s', join(bao.dir, 'none'))
      const token = bao.rootToken
      return new TestEngine(bao, await Vault.open({ config, name: 'operator', token, logger: silentLogger }))
    } catch (cause) {
      await bao[Symbol.asyncDispose]()
      throw cause
    }
  }

  /** Sets the domain up. `address`: of a proxy in front of the engine; `timeout` of one call; `root`: a mount of its own. */
  async domain(
    domain: string,
    { address = this.bao.address, timeout = '20s', root = 'rotor-root' }: DomainOptions = {},
  ): Promise<EngineDomain> {
    const mounts = { root, authorities: `authorities-${domain}` }
    const config = settings(this.bao, address, mounts, timeout, join(this.bao.dir, domain))
    const life = { skew: 2 * HOUR, rootLife: 5000 * HOUR, authorityLife: 1000 * HOUR }
    await applySetup(this.root, setupItems({ config, domain, ...life }))
    await writeCredentials(this.root, config, domain)
    const open = async (change: Partial<VaultConfig> = {}) => {
      const client = await Vault.open({
        config: { ...config, ...change },
        name: 'issuer',
        logger: silentLogger,
      })
      this.#clients.push(client)
      return client
    }
    const client = await open()
    const { role } = config
    return {
      config,
      client,
      open,
      authority: (options = {}) => new VaultAuthority({ client, domain, mounts, role, ...options }),
      contents: () => contentsOf(this.root, mounts.authorities, domain),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of [...this.#clients, this.root]) await client.close()
    await this.bao[Symbol.asyncDispose]()
  }
}

/** One root for all, a mount of its own for the authorities of each domain. */
const settings = (
  bao: BaoServer,
  address: string,
  mounts: { readonly root?: string; readonly authorities?: string },
  timeout: string,
  dir: string,
): VaultConfig =>
  vaultBlock.parse({
    address,
    ...(bao.address.startsWith('https:') ? { caFile: join(bao.dir, CA_FILE) } : {}),
    timeout,
    mounts,
    auth: { method: 'approle', roleIdFile: join(dir, 'role-id'), secretIdFile: join(dir, 'secret-id') },
  })

export async function contentsOf(root: VaultClient, mount: string, domain: string): Promise<Contents> {
  const keys = new Map<string, string>()
  for (const id of await root.list(`${mount}/keys`)) {
    const name = String((await root.read(`${mount}/key/${id}`))?.key_name)
    if (name.startsWith(`rotor-${domain}-`)) keys.set(id, name)
  }
  const issuers: string[] = []
  for (const id of await root.list(`${mount}/issuers`)) {
    const issuer = await root.read(`${mount}/issuer/${id}`)
    const name = String(issuer?.issuer_name)
    if (name.startsWith(`rotor-${domain}-`) || keys.has(String(issuer?.key_id))) issuers.push(name)
  }
  return { issuers: issuers.sort(), keys: [...keys.values()].sort() }
}
