/** Which authority does the configuration name? The one place that knows both. */
import type { VaultConfig } from '../../src/domain/vault-config.ts'
import type { Logger } from '../../src/log.ts'
import type { Clock } from '../../src/time.ts'
import type { Permitted } from '../../src/trust/name-constraints.ts'
import type { Authority } from './authority.ts'
import { EmbeddedAuthority } from './embedded.ts'
import { VaultAuthority } from './vault/authority.ts'
import { Vault } from './vault/client.ts'

export interface AuthorityPlace {
  readonly domain: string
  /** Of the issuer. */
  readonly name: string
  /** Key store of the embedded authority. */
  readonly keys: string
  /** Opens the key store. */
  readonly passphrase?: string | undefined
  /** @default the embedded authority */
  readonly vault?: VaultConfig | undefined
  /** What new authorities may certify (name constraints). @default every name */
  readonly permitted?: Permitted | undefined
  /** Half made authorities in the engine are mended when they are seen. @default true */
  readonly mends?: boolean | undefined
  readonly logger: Logger
  /** @default the system's */
  readonly clock?: Clock | undefined
}

export interface OpenAuthority extends AsyncDisposable {
  readonly authority: Authority
  /** The engine behind it; null for the embedded one. Closed with this. */
  readonly vault: Vault | null
}

/** Reads and sends nothing yet, but for the trust file. Throws ERR_CONFIG_INVALID. */
export async function openAuthority(place: AuthorityPlace): Promise<OpenAuthority> {
  const { domain, keys, passphrase, permitted, logger } = place
  if (place.vault === undefined) {
    return {
      authority: new EmbeddedAuthority({ domain, dir: keys, passphrase, permitted }),
      vault: null,
      [Symbol.asyncDispose]: async () => {},
    }
  }
  const { mounts, role } = place.vault
  const { mends } = place
  const clock = place.clock === undefined ? {} : { clock: place.clock }
  const vault = await Vault.open({ config: place.vault, name: place.name, logger, ...clock })
  return {
    authority: new VaultAuthority({
      client: vault,
      domain,
      mounts,
      role,
      permitted,
      mends,
      logger,
      ...clock,
    }),
    vault,
    [Symbol.asyncDispose]: () => vault.close(),
  }
}
