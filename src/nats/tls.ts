/** TLS options of the NATS client that are always those of the identity of this moment. */
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import type { TlsOptions } from '@nats-io/transport-node'
import type { Identity } from '../identity/identity.ts'
import { parseAddress } from '../probe/address.ts'

export interface IdentityTlsOptions extends TlsOptions {
  readonly key: string
  readonly cert: string
  readonly ca: string
  /** The trust file holds intermediates; Node wants to be told that they are anchors. */
  readonly allowPartialTrustChain: true
  /** Undefined when the certificate is for this server. */
  readonly checkServerIdentity: (host: string, certificate: PeerCertificate) => Error | undefined
}

/**
 * The client reads `key`, `cert` and `ca` in one synchronous statement on each dial (transport-node
 * loadClientCerts), so it always has the three of one generation, and the newest. They are own enumerable getters
 * because it copies the options key by key.
 *
 * @param servers as given to `connect`: their IP addresses are looked for in the server's certificate. A function is
 *   asked at each dial, for servers that the cluster told of.
 */
export function natsTls(
  identity: Identity,
  servers: readonly string[] | (() => readonly string[]) = [],
): IdentityTlsOptions {
  return {
    get key() {
      return identity.current().key
    },
    get cert() {
      return identity.current().certificate
    },
    get ca() {
      return identity.current().ca
    },
    allowPartialTrustChain: true,
    checkServerIdentity: checkNames(typeof servers === 'function' ? servers : () => servers),
  }
}

/** What Node verifies when it was told neither server name nor host. */
const NODE_DEFAULT_NAME = 'localhost'

/**
 * Dialled by IP address, the client upgrades its socket without naming the server, and Node would look for
 * "localhost" in the certificate. So then any of the configured IP addresses is right. (`tls.host` would do for one
 * server, but with `handshakeFirst` it becomes the address that is dialled.)
 */
function checkNames(servers: () => readonly string[]): IdentityTlsOptions['checkServerIdentity'] {
  return (host, certificate) => {
    if (host !== NODE_DEFAULT_NAME) return checkServerIdentity(host, certificate)
    const addresses = servers().map((server) => parseAddress(server, 'servers', 4222))
    const names = addresses.filter(({ host, ip }) => ip || host === NODE_DEFAULT_NAME).map(({ host }) => host)
    if (names.length === 0) return checkServerIdentity(host, certificate)
    const mismatches = names.map((name) => checkServerIdentity(name, certificate))
    return mismatches.includes(undefined) ? undefined : mismatches[0]
  }
}
