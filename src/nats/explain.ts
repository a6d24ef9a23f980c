/**
 * Why is there no connection? Under TLS 1.3 the NATS client sees a refused certificate only as a timeout, and of
 * several servers it tells the last error. So each server is probed, and says it itself.
 */
import { RotorError } from '../errors.ts'
import type { Identity } from '../identity/identity.ts'
import { parseAddress } from '../probe/address.ts'
import { probeListener } from '../probe/probe.ts'
import type { Duration } from '../time.ts'

export interface ExplainOptions {
  readonly servers: readonly string[]
  readonly identity: Identity
  readonly handshakeFirst: boolean
  readonly timeout: Duration
  readonly signal: AbortSignal
}

export interface Explanation {
  /** A server takes our certificate and shows a good one: the reason is another one, or it is over. */
  readonly reachable: boolean
  /** A server refuses our certificate. */
  readonly denied: boolean
  /** A server shows a certificate that we do not trust. */
  readonly untrusted: boolean
  /** One line, each server with its reason. */
  readonly text: string
  /** Words of a server that takes our certificate, and then does not let us in: an account that is full. Null for none. */
  readonly said: string | null
}

/** Servers that are asked; the others are mentioned by number. */
const MAX_SERVERS = 8

/** Probes the servers at the same time. Rejects only when `signal` aborts. */
export async function explain(options: ExplainOptions): Promise<Explanation> {
  const { servers } = options
  const findings = await Promise.all(servers.slice(0, MAX_SERVERS).map((server) => look(server, options)))
  const left = servers.length - findings.length
  return {
    reachable: findings.some((finding) => finding.state === 'reachable'),
    denied: findings.some((finding) => finding.state === 'denied'),
    said: findings.find(({ said }) => said !== undefined)?.said ?? null,
    untrusted: findings.some((finding) => finding.state === 'untrusted'),
    text: [...findings.map(({ text }) => text), ...(left > 0 ? [`${left} more not asked`] : [])].join('; '),
  }
}

interface Finding {
  readonly state: 'reachable' | 'denied' | 'untrusted' | 'unavailable'
  readonly text: string
  readonly said?: string
}

async function look(server: string, options: ExplainOptions): Promise<Finding> {
  const { identity, handshakeFirst, timeout, signal } = options
  const { host, port } = parseAddress(server, 'servers', 4222)
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  try {
    const result = await probeListener(
      { kind: 'client', address, handshakeFirst },
      { material: identity.current(), timeout, signal },
    )
    if (!result.trusted) {
      const text = `${address} shows a certificate that we do not trust ("${result.served.subject}": ${result.untrusted})`
      return { state: 'untrusted', text }
    }
    if (!result.accepted) {
      return { state: 'denied', text: `${address} refuses our certificate (${result.refused})` }
    }
    const said = result.denied === null ? {} : { said: `${address} says "${result.denied}"` }
    return { state: 'reachable', text: `${address} takes our certificate`, ...said }
  } catch (error) {
    if (signal.aborted) throw error
    return { state: 'unavailable', text: RotorError.from(error).message }
  }
}
