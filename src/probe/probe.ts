/** What does a listener serve now, and does it take our certificate? Found out by a real connection. */
import { isIP } from 'node:net'
import { checkServerIdentity, createSecureContext, type SecureContext, type SecureVersion } from 'node:tls'
import { RotorError } from '../errors.ts'
import type { Duration } from '../time.ts'
import { type Certificate, parseCertificate, parseCertificates } from '../trust/certificate.ts'
import { assertIssuedBy, verifyLeaf } from '../trust/chain.ts'
import { parseAddress } from './address.ts'
import { Dial, type Handshake, type Verdict } from './dial.ts'
import { type ProbeKind, readPlainInfo, refusedBy, startsPlain, talk } from './listeners.ts'
import { UNKNOWN_SERVER } from './server-facts.ts'

export interface ProbeTarget {
  readonly kind: ProbeKind
  /** `host:port`. */
  readonly address: string
  /** TLS comes before INFO, for client and leafnode listeners with `handshake_first`. @default false */
  readonly handshakeFirst?: boolean | undefined
  /**
   * The name that is asked for (SNI) and must be in the certificate; null for none, where the fingerprint is compared.
   * @default the host of the address
   */
  readonly servername?: string | null | undefined
}

export interface ProbeMaterial {
  /** PEM, the trusted authorities. */
  readonly ca: string
  /** PEM; both or none. Without them the probe shows no client certificate. */
  readonly key?: string | undefined
  readonly certificate?: string | undefined
}

export interface ProbeOptions {
  /** Without it nothing is trusted and no client certificate is shown. */
  readonly material?: ProbeMaterial | undefined
  /** Milliseconds for the whole probe. @default 3000 */
  readonly timeout?: Duration | undefined
  readonly signal?: AbortSignal | undefined
  /** To see a listener as an older client does. @default TLSv1.3 */
  readonly maxVersion?: SecureVersion | undefined
}

export interface ProbeResult {
  readonly kind: ProbeKind
  readonly address: string
  /** The leaf that the server sent. */
  readonly served: Certificate
  /** Leaf first; OpenSSL may have added an issuer from the trust file. */
  readonly servedChain: readonly Certificate[]
  /** `TLSv1.3` or `TLSv1.2`; null when a refusal came too early to know. */
  readonly tlsVersion: string | null
  readonly cipher: string | null
  /** Key exchange group, such as `X25519MLKEM768`; null when OpenSSL does not tell. */
  readonly group: string | null
  /** The served chain leads to the trusted authorities, and the name fits. */
  readonly trusted: boolean
  /** Why not. */
  readonly untrusted: string | null
  /** The listener took our certificate (or does not ask for one). */
  readonly accepted: boolean
  /** Why not: `TLS alert: unknown ca`. */
  readonly refused: string | null
  /** What showed the acceptance, see `Finding`. */
  readonly proof: 'data' | 'ticket' | 'handshake' | null
  /** A NATS user was found for us; null for listeners other than `client`, and when refused. */
  readonly authorized: boolean | null
  /** The server's words when not, such as `Authorization Violation`. */
  readonly denied: string | null
  /** By the server's own word; absent where the listener does not tell (mqtt), and mostly when it refuses us. */
  readonly serverId?: string
  readonly serverName?: string
  readonly serverVersion?: string
  /** Milliseconds. */
  readonly tookMs: number
}

export const DEFAULT_TIMEOUT: Duration = 3000

/**
 * Dials, looks, closes. A certificate that does not verify and one of ours that is refused are results. Throws
 * ERR_PROBE_UNREACHABLE without a connection, ERR_PROBE_PROTOCOL when the other side speaks otherwise, breaks off
 * before it showed a certificate, or does not answer (the message names the step), ERR_IDENTITY_INVALID when the
 * material can not be loaded, ERR_CONFIG_INVALID for a bad address, and the reason of an aborted signal.
 */
export async function probeListener(target: ProbeTarget, options: ProbeOptions = {}): Promise<ProbeResult> {
  const started = performance.now()
  const address = parseAddress(target.address, `${target.kind} address`)
  const label = `${target.kind} listener ${target.address}`
  const name = target.servername === undefined ? address.host : target.servername
  const { secureContext, anchors } = loadMaterial(options)
  const dial = new Dial(label, address, {
    timeout: options.timeout ?? DEFAULT_TIMEOUT,
    signal: options.signal,
  })
  try {
    await dial.connect()
    const plain = startsPlain(target.kind) && target.handshakeFirst !== true
    const info = plain ? await readPlainInfo(dial, label) : UNKNOWN_SERVER
    // RFC 6066 section 3: no IP addresses in SNI
    const sni = name === null || isIP(name) !== 0 ? '' : name
    const outcome = await dial.startTls(secureContext, name, sni)
    const servedChain = readChain(outcome.handshake, label)
    const [served] = servedChain
    if (served === undefined) throw new RotorError('ERR_PROBE_PROTOCOL', `${label}: no certificate was sent`)
    const finding =
      outcome.ending === null
        ? await talk(dial, label, {
            kind: target.kind,
            host: target.address,
            tls13: outcome.handshake.tlsVersion === 'TLSv1.3',
            server: info,
            infoAfterTls: startsPlain(target.kind) && !plain,
          })
        : refusedBy(outcome.ending, info)
    const verdict = judge(anchors, outcome.verdict, servedChain, name)
    const { server, ...found } = finding
    return Object.freeze({
      kind: target.kind,
      address: target.address,
      served,
      servedChain,
      tlsVersion: outcome.handshake.tlsVersion,
      cipher: outcome.handshake.cipher,
      group: outcome.handshake.group,
      trusted: verdict.trusted,
      untrusted: verdict.trusted ? null : verdict.reason,
      ...found,
      ...(server.id === null ? {} : { serverId: server.id }),
      ...(server.name === null ? {} : { serverName: server.name }),
      ...(server.version === null ? {} : { serverVersion: server.version }),
      tookMs: performance.now() - started,
    })
  } finally {
    dial.destroy()
  }
}

export interface Expectation {
  /** SHA-256 of the leaf that must be served, in hex. */
  readonly fingerprint?: string | undefined
  /** The authority that must have issued the served leaf. */
  readonly issuer?: Certificate | undefined
}

/**
 * Throws unless the listener is trusted (ERR_PROBE_UNTRUSTED), took our certificate (ERR_PROBE_REFUSED) and serves
 * what is expected (ERR_PROOF_FAILED). That no NATS user is mapped to us is not looked at: see `authorized`.
 */
export function assertProven(result: ProbeResult, expected: Expectation = {}): void {
  const label = `${result.kind} listener ${result.address}`
  const { served } = result
  const details = { kind: result.kind, address: result.address, served: served.sha256 }
  const fail = (code: 'ERR_PROBE_UNTRUSTED' | 'ERR_PROBE_REFUSED' | 'ERR_PROOF_FAILED', text: string) =>
    new RotorError(code, `${label}: ${text}`, { details })
  if (!result.trusted) {
    throw fail('ERR_PROBE_UNTRUSTED', `"${served.subject}" (${served.sha256}): ${result.untrusted}`)
  }
  if (!result.accepted) throw fail('ERR_PROBE_REFUSED', `our certificate was refused: ${result.refused}`)
  if (expected.fingerprint !== undefined && served.sha256 !== expected.fingerprint.toLowerCase()) {
    throw fail(
      'ERR_PROOF_FAILED',
      `expected the leaf ${expected.fingerprint}, found ${served.sha256} ("${served.subject}" by "${served.issuer}")`,
    )
  }
  if (expected.issuer === undefined) return
  try {
    assertIssuedBy(served, expected.issuer)
  } catch (cause) {
    throw fail(
      'ERR_PROOF_FAILED',
      `expected a leaf by "${expected.issuer.subject}": ${cause instanceof Error ? cause.message : String(cause)}`,
    )
  }
}

interface Loaded {
  readonly secureContext: SecureContext
  /** Null without material. */
  readonly anchors: readonly Certificate[] | null
}

function loadMaterial({ material, maxVersion }: ProbeOptions): Loaded {
  // OpenSSL passes over what it can not read in a trust file.
  const anchors = material === undefined ? null : parseCertificates(material.ca, 'trust file for the probe')
  try {
    const secureContext = createSecureContext({
      allowPartialTrustChain: true,
      ...(maxVersion === undefined ? {} : { maxVersion }),
      ...(material === undefined ? {} : { ca: material.ca }),
      ...(material?.key === undefined ? {} : { key: material.key }),
      ...(material?.certificate === undefined ? {} : { cert: material.certificate }),
    })
    return { secureContext, anchors }
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_IDENTITY_INVALID', 'the material for the probe can not be loaded')
  }
}

const readChain = ({ chain }: Handshake, label: string): Certificate[] =>
  chain.map((der, i) => parseCertificate(der, `${label}, served certificate ${i + 1}`, 'ERR_PROBE_PROTOCOL'))

/** The verdict of OpenSSL; our own where a refusal under TLS 1.2 came before it. */
function judge(
  anchors: readonly Certificate[] | null,
  verdict: Verdict | null,
  chain: readonly Certificate[],
  name: string | null,
): Verdict {
  if (anchors === null) return { trusted: false, reason: 'no trust anchors were given' }
  if (verdict !== null) return verdict
  try {
    verifyLeaf(chain, anchors, Date.now(), { usage: 'serverAuth' })
    const leaf = chain[0]?.x509.toLegacyObject()
    const mismatch = leaf === undefined || name === null ? undefined : checkServerIdentity(name, leaf)
    return mismatch === undefined ? { trusted: true } : { trusted: false, reason: mismatch.message }
  } catch (error) {
    return { trusted: false, reason: error instanceof Error ? error.message : String(error) }
  }
}
