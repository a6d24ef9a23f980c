/** Where OpenBao or Vault is, what of it is ours, and how we log in: the block `vault` of issuer.json, or a file. */
import { z } from 'zod'
import { absolute, durationText, isLoopback, readConfig } from './values.ts'

/** `pki`, `team/pki`: no slash at either end, nothing that could lead a path elsewhere. */
const path = z
  .string()
  .regex(
    /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/,
    'expected a path such as "pki" or "team/pki"',
  )
const word = z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]*$/, 'expected letters, digits, "-", "_" and "."')

const auth = z.discriminatedUnion('method', [
  z.strictObject({
    method: z.literal('approle'),
    mount: path.default('approle'),
    /** Both are read for each login. */
    roleIdFile: z.string(),
    secretIdFile: z.string(),
    /**
     * `secretIdFile` holds a wrapping token that was made by a request to this path, such as
     * `auth/approle/role/rotor-prod/secret-id`: it is checked, unwrapped once, and the secret id stays in memory.
     */
    wrappedBy: path.optional(),
  }),
  z.strictObject({
    method: z.literal('token'),
    /** Read again when the token has ended. */
    tokenFile: z.string(),
  }),
  z.strictObject({
    method: z.literal('kubernetes'),
    mount: path.default('kubernetes'),
    role: word,
    /** Read for each login: the kubelet replaces it. */
    jwtFile: z.string().default('/var/run/secrets/kubernetes.io/serviceaccount/token'),
  }),
])

export const vaultBlock = z.strictObject({
  address: z.string().superRefine((text, context) => {
    const message = problemOfAddress(text)
    if (message !== null) context.addIssue({ code: 'custom', message })
  }),
  /** PEM to trust for https instead of the node's own trust. */
  caFile: z.string().optional(),
  namespace: path.optional(),
  mounts: z
    .strictObject({
      /** PKI engine with the root: it signs authorities only. */
      root: path.default('rotor-root'),
      /** PKI engine where authorities are made, stay and sign. */
      authorities: path.default('rotor-authorities'),
      /** KV engine, version 2. */
      kv: path.default('rotor-kv'),
    })
    .prefault({}),
  /** PKI role at the mount of the authorities that leaves are signed with. */
  role: word.default('rotor-leaf'),
  /** Path of the bundles at the KV engine; the domain comes below it. */
  kvPrefix: path.default('ca-bundles'),
  auth,
  /** How long one request may take. */
  timeout: durationText.prefault('10s'),
})
export type VaultConfig = z.infer<typeof vaultBlock>
export type VaultAuth = VaultConfig['auth']

function problemOfAddress(text: string): string | null {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return 'expected https://host:port'
  if (url.username !== '' || url.password !== '') return 'expected no user and password'
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    return 'expected nothing after the port: paths are settings of their own'
  }
  if (url.protocol === 'http:' && !isLoopback(url)) {
    return `http:// goes to 127.0.0.1 or [::1] only, because anybody on the way could read the token; use https:// for ${url.hostname}`
  }
  return null
}

/** Reads and checks a file with this block alone, for `rotor init` and `rotor vault setup`. Throws ERR_CONFIG_INVALID. */
export async function readVaultConfig(file: string): Promise<VaultConfig> {
  return absoluteVault(await readConfig(vaultBlock, file), absolute(file))
}

/** The same with absolute paths. */
export function absoluteVault(config: VaultConfig, at: (path: string) => string): VaultConfig {
  return {
    ...config,
    ...(config.caFile === undefined ? {} : { caFile: at(config.caFile) }),
    auth: absoluteAuth(config.auth, at),
  }
}

function absoluteAuth(auth: VaultAuth, at: (path: string) => string): VaultAuth {
  switch (auth.method) {
    case 'approle':
      return { ...auth, roleIdFile: at(auth.roleIdFile), secretIdFile: at(auth.secretIdFile) }
    case 'token':
      return { ...auth, tokenFile: at(auth.tokenFile) }
    case 'kubernetes':
      return { ...auth, jwtFile: at(auth.jwtFile) }
  }
}
