/** Which TLS settings does a generation give to a client, and which to a server that was made with settings of its own? */
import { createHash } from 'node:crypto'
import type { SecureContextOptions, Server } from 'node:tls'
import type { IdentitySnapshot } from '../identity/identity.ts'
import type { IdentityMaterial } from '../identity/material.ts'
import { decodePem, encodePem } from '../trust/pem.ts'

export const sameMaterial = (a: IdentityMaterial, b: IdentityMaterial): boolean =>
  a.key === b.key && a.certificate === b.certificate && a.ca === b.ca

export interface ClientTls {
  readonly key: string
  readonly cert: string
  readonly ca: string
  readonly allowPartialTrustChain: true
}

/** For `tls.connect` and all that is built on it. The trust file holds intermediates: Node wants to be told. */
export const clientTls = ({ key, certificate, ca }: IdentityMaterial): ClientTls => ({
  key,
  cert: certificate,
  ca,
  allowPartialTrustChain: true,
})

/** What `tls.Server` was made with and would forget: `setSecureContext` puts its default for all that is not given. */
const KEPT = [
  'ciphers',
  'crl',
  'dhparam',
  'ecdhCurve',
  'honorCipherOrder',
  'maxVersion',
  'minVersion',
  'secureOptions',
  'secureProtocol',
  'sessionIdContext',
  'sigalgs',
  'certificateCompression',
] as const satisfies readonly (keyof SecureContextOptions | 'certificateCompression')[]

export type ServerSettings = Readonly<Record<string, unknown>>

/** The settings that `server` has now; Node keeps them as properties of the server. */
export function settingsOf(server: Server): ServerSettings {
  const found: [string, unknown][] = KEPT.map((name) => [name, Reflect.get(server, name)])
  return Object.fromEntries(found.filter(([, value]) => value !== undefined))
}

/**
 * For `server.setSecureContext`. The session ID context is another one in each generation: OpenSSL resumes a session
 * only in the context it was made in, tickets and stored sessions alike (SSL_CTX_set_session_id_context). So nobody
 * comes back by resumption whose authority left the trust, also where `ticketKeys` were given or sessions are stored.
 */
export function serverTls(settings: ServerSettings, next: IdentitySnapshot): SecureContextOptions {
  const own = createHash('sha256').update(String(settings.sessionIdContext ?? ''))
  const sessionIdContext = own
    .update('\0')
    .update(next.certificate)
    .update('\0')
    .update(next.ca)
    .digest('hex')
  return {
    ...settings,
    key: next.key,
    cert: next.certificate,
    ca: clientAnchors(next.ca),
    sessionIdContext: sessionIdContext.slice(0, MAX_SESSION_ID_CONTEXT),
  }
}

/** Bytes (SSL_MAX_SID_CTX_LENGTH of OpenSSL). */
const MAX_SESSION_ID_CONTEXT = 32

/** X509_CERT_AUX of OpenSSL: SEQUENCE { trust SEQUENCE OF OBJECT IDENTIFIER }, with id-kp-clientAuth only. */
const TRUSTED_FOR_CLIENTS = Buffer.from('300c300a06082b06010505070302', 'hex')

/**
 * The same certificates, each as a trust anchor of its own. A Node server does not pass `allowPartialTrustChain` on
 * (24.21 tls.Server.setSecureContext), so an intermediate in `ca` verifies nobody. OpenSSL's own notation says it in
 * the file: a "TRUSTED CERTIFICATE" is an anchor for what it names, whoever issued it (openssl-x509(1), trust settings).
 */
function clientAnchors(ca: string): string {
  return decodePem(ca, 'CERTIFICATE', 'ca', 'ERR_IDENTITY_INVALID')
    .map((der) => encodePem('TRUSTED CERTIFICATE', Buffer.concat([der, TRUSTED_FOR_CLIENTS])))
    .join('')
}
