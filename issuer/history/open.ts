/** Where are the bundles of this domain kept? Where the keys are, there the bundles are. */
import { join } from 'node:path'
import type { IssuerConfig } from '../../src/domain/config.ts'
import type { Vault } from '../authority/vault/client.ts'
import { FileHistory } from './files.ts'
import type { BundleHistory } from './history.ts'
import { VaultHistory } from './vault.ts'

export function historyOf(
  config: Pick<IssuerConfig, 'domain' | 'keys' | 'vault'>,
  vault: Vault | null,
): BundleHistory {
  if (config.vault === undefined || vault === null) return new FileHistory(join(config.keys, 'bundles'))
  const { mounts, kvPrefix: prefix } = config.vault
  return new VaultHistory({ client: vault, mount: mounts.kv, prefix, domain: config.domain })
}
