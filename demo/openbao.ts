/** A real OpenBao for a domain on this machine, set up with what `rotor vault setup --apply` makes and no more. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Vault } from '../issuer/authority/vault/client.ts'
import { writeCredentials } from '../issuer/authority/vault/credentials.ts'
import { applySetup, setupItems } from '../issuer/authority/vault/setup.ts'
import { readVaultConfig, type VaultConfig } from '../src/domain/vault-config.ts'
import { type BaoServer, ensureBao, startBao } from '../src/local/bao-server.ts'
import { silentLogger } from '../src/log.ts'
import type { Duration } from '../src/time.ts'

export interface LocalOpenBaoOptions {
  readonly domain: string
  /** For its data, `vault.json` and the files the issuer logs in with. */
  readonly dir: string
  /** How far back certificates may begin. */
  readonly skew: Duration
}

export interface LocalOpenBao extends AsyncDisposable {
  readonly bao: BaoServer
  readonly config: VaultConfig
}

const DAY: Duration = 86_400_000

/** Starts and sets it up. The root token is used here only; an issuer logs in by AppRole, with its own policy. */
export async function startLocalOpenBao({ domain, dir, skew }: LocalOpenBaoOptions): Promise<LocalOpenBao> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  ensureBao()
  const bao = await startBao({ dir })
  try {
    const file = join(dir, 'vault.json')
    const auth = { method: 'approle', roleIdFile: './role-id', secretIdFile: './secret-id' }
    await writeFile(file, `${JSON.stringify({ address: bao.address, auth }, null, 2)}\n`)
    const config = await readVaultConfig(file)
    const token = bao.rootToken
    await using operator = await Vault.open({ config, name: 'operator', token, logger: silentLogger })
    const items = setupItems({ config, domain, skew, rootLife: 3650 * DAY, authorityLife: 365 * DAY })
    await applySetup(operator, items)
    await writeCredentials(operator, config, domain)
    return { bao, config, [Symbol.asyncDispose]: () => bao[Symbol.asyncDispose]() }
  } catch (cause) {
    await bao[Symbol.asyncDispose]()
    throw cause
  }
}
