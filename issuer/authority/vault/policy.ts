/** What may the issuer do in OpenBao or Vault? Exactly the calls of the adapter, and of its own token. Pure. */
import type { VaultConfig } from '../../../src/domain/vault-config.ts'
import { ROLE_ENDINGS } from './names.ts'

interface Rule {
  readonly path: string
  readonly may: readonly ('create' | 'read' | 'update' | 'delete' | 'list')[]
  readonly why: string
}

/** `update` is what the API calls POST and PUT; `+` is one segment of a path. */
export function issuerRules(config: VaultConfig, domain: string): Rule[] {
  const { root, authorities, kv } = config.mounts
  const bundles = `${config.kvPrefix}/${domain}`
  return [
    { path: `${root}/root/sign-intermediate`, may: ['update'], why: 'the root signs a new authority' },
    {
      path: `${root}/issuer/+/sign-intermediate`,
      may: ['update'],
      why: 'so does the old root while a new one is learned',
    },
    { path: `${root}/issuers`, may: ['list'], why: 'which roots there are' },
    { path: `${root}/issuer/+`, may: ['read'], why: 'their certificates' },
    {
      path: `${authorities}/issuers/generate/intermediate/internal`,
      may: ['update'],
      why: 'an authority is born here; its key never leaves',
    },
    { path: `${authorities}/intermediate/set-signed`, may: ['update'], why: 'it gets its certificate' },
    { path: `${authorities}/issuers`, may: ['list'], why: 'which authorities there are' },
    { path: `${authorities}/issuer/+`, may: ['read', 'update', 'delete'], why: 'its name, and its end' },
    { path: `${authorities}/keys`, may: ['list'], why: 'which keys there are' },
    { path: `${authorities}/key/+`, may: ['read', 'delete'], why: 'a retired authority loses its key' },
    {
      path: `${authorities}/config/issuers`,
      may: ['read', 'update'],
      why: 'the active authority is the default',
    },
    ...Object.values(ROLE_ENDINGS).map(
      (ending): Rule => ({
        path: `${authorities}/issuer/+/sign/${config.role}${ending}`,
        may: ['update'],
        why: 'leaves',
      }),
    ),
    { path: `${kv}/data/${bundles}/+`, may: ['create', 'read', 'update'], why: 'every bundle is kept, once' },
    { path: `${kv}/metadata/${bundles}`, may: ['list'], why: 'which versions are kept' },
    { path: `${kv}/metadata/${bundles}/+`, may: ['delete'], why: 'bundles of retired authorities go' },
    { path: 'auth/token/lookup-self', may: ['read'], why: 'is our token still there?' },
    { path: 'auth/token/renew-self', may: ['update'], why: 'it is renewed' },
    { path: 'auth/token/revoke-self', may: ['update'], why: 'it ends with the issuer' },
  ]
}

/** The policy as text, in HCL. */
export const issuerPolicy = (config: VaultConfig, domain: string): string =>
  `${[
    `# The issuer of the trust domain ${domain} (nats-rotor). Every path is one call it makes.`,
    ...issuerRules(config, domain).map(
      ({ path, may, why }) => `# ${why}
path ${JSON.stringify(path)} {
  capabilities = [${may.map((one) => JSON.stringify(one)).join(', ')}]
}`,
    ),
  ].join('\n\n')}\n`
