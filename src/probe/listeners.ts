/**
 * How does each kind of listener show that it took our certificate? Bytes from the server after the handshake prove
 * it. Where a server stays silent, its session ticket does: it is made after the client's certificate was verified
 * (RFC 8446 4.6.1 with client authentication).
 *
 * Each talk is the quietest one found on 2.9.10 and 2.15.1: nothing is registered in the server, and an accepted
 * probe leaves no [ERR] line in its log.
 *
 *   client      INFO | TLS | CONNECT, PING -> PONG or -ERR
 *   cluster     TLS | -> INFO                     a route is registered by CONNECT only
 *   gateway     TLS | -> INFO
 *   leafnode    INFO | TLS | -> ticket            PING before CONNECT is an [ERR] on 2.15
 *   websocket   TLS | GET with upgrade -> 101, INFO
 *   mqtt        TLS | -> ticket                   a CONNECT that is let in would create streams
 *   monitoring  TLS | GET /varz -> any HTTP answer
 *   tls         TLS | -> ticket, or no refusal    any service: we do not know its language
 */
import { RotorError } from '../errors.ts'
import { LISTENER_KINDS } from '../rotation/state.ts'
import type { Dial, Ending } from './dial.ts'
import { shown } from './dial.ts'
import { findServer, parseInfo, type ServerFacts, UNKNOWN_SERVER } from './server-facts.ts'

/** What can be probed: the listeners of a nats-server, and `tls`, a listener of any service that begins with TLS. */
export const PROBE_KINDS = [...LISTENER_KINDS, 'tls'] as const
export type ProbeKind = (typeof PROBE_KINDS)[number]

/** What a talk found out. */
export interface Finding {
  readonly accepted: boolean
  /** Why our certificate was not accepted. */
  readonly refused: string | null
  /**
   * What showed it: bytes after the handshake, a session ticket, or the handshake. With TLS 1.2 that ends with the
   * server's word; with TLS 1.3, for kind `tls` only, it says that no refusal came within `QUIET`. Null when refused.
   */
  readonly proof: 'data' | 'ticket' | 'handshake' | null
  /** Was a NATS user found for us? Null where it is not asked. */
  readonly authorized: boolean | null
  /** The server's words when `authorized` is false. */
  readonly denied: string | null
  readonly server: ServerFacts
}

export interface Talk {
  readonly kind: ProbeKind
  /** Host header and such. */
  readonly host: string
  readonly tls13: boolean
  /** Facts from the INFO before TLS. */
  readonly server: ServerFacts
  /** True when INFO comes after TLS only. */
  readonly infoAfterTls: boolean
}

/** Longest INFO: about 300 `connect_urls`. nats-server has 4 KiB for other control lines. */
const MAX_LINE = 64 * 1024
const MAX_HTTP = 256 * 1024

/** Milliseconds without ticket or refusal after which a silent listener is made to speak. */
const QUIET = 500
/** Milliseconds in which a server closes that refuses after the handshake: `pinned_certs` is checked there. */
const SETTLE = 100

/** Does this kind send INFO in plain text before TLS? Routes and gateways start TLS at once (route.go, gateway.go). */
export const startsPlain = (kind: ProbeKind): boolean => kind === 'client' || kind === 'leafnode'

/** INFO before TLS. Throws ERR_PROBE_PROTOCOL. */
export async function readPlainInfo(dial: Dial, label: string): Promise<ServerFacts> {
  const answer = await readInfo(dial, label)
  if ('ending' in answer) {
    throw new RotorError('ERR_PROBE_PROTOCOL', `${label}: expected INFO, found: ${answer.ending.reason}`)
  }
  if (!answer.value.tls) {
    throw new RotorError('ERR_PROBE_PROTOCOL', `${label}: the server offers no TLS on this listener`)
  }
  return answer.value
}

/** After the TLS handshake: was our certificate accepted? Throws ERR_PROBE_PROTOCOL. */
export async function talk(dial: Dial, label: string, about: Talk): Promise<Finding> {
  switch (about.kind) {
    case 'client':
      return await talkClient(dial, label, about)
    case 'cluster':
    case 'gateway':
      return await talkInfo(dial, label, about)
    case 'leafnode':
      return about.infoAfterTls
        ? await talkInfo(dial, label, about)
        : await talkQuietly(dial, about, 'PING\r\n')
    case 'mqtt':
      // CONNECT of a protocol level that does not exist (MQTT 3.1.1 section 3.1.2.2): CONNACK 1, nothing is created.
      return await talkQuietly(dial, about, Buffer.from('100c00044d5154547f0200050000', 'hex'))
    case 'websocket':
      return await talkWebsocket(dial, label, about)
    case 'monitoring':
      return await talkMonitoring(dial, label, about)
    case 'tls':
      return await talkQuietly(dial, about, null)
  }
}

async function talkClient(dial: Dial, label: string, about: Talk): Promise<Finding> {
  let { server } = about
  if (about.infoAfterTls) {
    const info = await readInfo(dial, label)
    if ('ending' in info) return refusedBy(info.ending, server)
    server = info.value
  }
  const hello = { verbose: false, pedantic: false, tls_required: true, lang: 'nats-rotor', protocol: 1 }
  dial.send(`CONNECT ${JSON.stringify({ ...hello, name: 'nats-rotor probe' })}\r\nPING\r\n`)
  for (;;) {
    const line = await readLine(dial, 'PONG')
    if ('ending' in line) {
      if (!about.infoAfterTls) return refusedBy(line.ending, server)
      return { ...accepted('data', server), authorized: false, denied: line.ending.reason }
    }
    const [verb = '', rest = ''] = split(line.value)
    if (verb === 'PONG') return { ...accepted('data', server), authorized: true }
    if (verb === '-ERR') {
      return { ...accepted('data', server), authorized: false, denied: printable(rest.replace(/^'|'$/g, '')) }
    }
    if (verb !== 'INFO' && verb !== 'PING' && verb !== '+OK') {
      throw new RotorError(
        'ERR_PROBE_PROTOCOL',
        `${label}: expected PONG, found ${shown(Buffer.from(line.value))}`,
      )
    }
  }
}

/** Listeners that send INFO by themselves after TLS. */
async function talkInfo(dial: Dial, label: string, about: Talk): Promise<Finding> {
  const info = await readInfo(dial, label)
  if ('ending' in info) return refusedBy(info.ending, about.server)
  if (about.kind !== 'leafnode' && info.value.gateway !== (about.kind === 'gateway')) {
    const found = info.value.gateway ? 'gateway' : 'other'
    throw new RotorError(
      'ERR_PROBE_PROTOCOL',
      `${label}: expected a ${about.kind} listener, found the INFO of a ${found} one`,
    )
  }
  return accepted('data', info.value)
}

/**
 * Listeners that wait for us. `nudge` makes them speak, at the price of an [ERR] line in their log; null where we have
 * nothing to say.
 */
async function talkQuietly(dial: Dial, about: Talk, nudge: string | Uint8Array | null): Promise<Finding> {
  let sign = about.tls13 ? await dial.sign('session ticket', QUIET, true) : null
  if (sign === 'ticket' || !about.tls13) {
    const proof = about.tls13 ? 'ticket' : 'handshake'
    const after = await dial.sign('end after handshake', SETTLE, false)
    if (after === null || after === 'data' || after === 'ticket') return accepted(proof, about.server)
    return refusedBy(after, about.server)
  }
  if (sign === null) {
    if (nudge === null) return accepted('handshake', about.server)
    dial.send(nudge)
    const answer = await dial.read(`answer of the ${about.kind} listener`, MAX_LINE, (bytes) =>
      bytes.length > 0 ? { value: true, used: bytes.length } : null,
    )
    sign = 'ending' in answer ? answer.ending : 'data'
  }
  return sign === 'data' ? accepted('data', about.server) : refusedBy(sign, about.server)
}

async function talkWebsocket(dial: Dial, label: string, about: Talk): Promise<Finding> {
  // RFC 6455 section 1.3; the key is any 16 bytes.
  dial.send(
    `GET / HTTP/1.1\r\nHost: ${about.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bmF0cy1yb3RvciBwcm9iZQ==\r\n\r\n',
  )
  const status = await readStatus(dial, label)
  if ('ending' in status) return refusedBy(status.ending, about.server)
  if (status.value !== 101) return accepted('data', about.server)
  // The INFO is one unmasked text or binary frame, possibly in two writes; its JSON is found without the framing.
  const info = await dial.read('INFO', MAX_LINE, (bytes) => {
    const start = bytes.indexOf('INFO {')
    const end = bytes.indexOf('\r\n', Math.max(start, 0))
    if (start < 0 || end < 0) return null
    return { value: parseInfo(bytes.toString('utf8', start + 5, end), label), used: end + 2 }
  })
  return accepted('data', 'ending' in info ? about.server : info.value)
}

async function talkMonitoring(dial: Dial, label: string, about: Talk): Promise<Finding> {
  dial.send(`GET /varz HTTP/1.1\r\nHost: ${about.host}\r\nConnection: close\r\n\r\n`)
  const status = await readStatus(dial, label)
  if ('ending' in status) return refusedBy(status.ending, about.server)
  if (status.value !== 200) return accepted('data', about.server)
  // Only the first fields are of interest: do not wait for the rest.
  const body = await dial.read('body of /varz', MAX_HTTP, (bytes) => {
    const value = findServer(bytes.toString('utf8'))
    return value === null ? null : { value, used: bytes.length }
  })
  return accepted('data', 'ending' in body ? about.server : body.value)
}

async function readInfo(dial: Dial, label: string): Promise<{ value: ServerFacts } | { ending: Ending }> {
  const line = await readLine(dial, 'INFO')
  if ('ending' in line) return line
  const [verb, rest = ''] = split(line.value)
  if (verb !== 'INFO') {
    throw new RotorError(
      'ERR_PROBE_PROTOCOL',
      `${label}: expected INFO, found ${shown(Buffer.from(line.value))}`,
    )
  }
  return { value: parseInfo(rest, label) }
}

const readLine = (dial: Dial, step: string): Promise<{ value: string } | { ending: Ending }> =>
  dial.read(step, MAX_LINE, (bytes) => {
    const end = bytes.indexOf('\r\n')
    return end < 0 ? null : { value: bytes.toString('utf8', 0, end), used: end + 2 }
  })

async function readStatus(dial: Dial, label: string): Promise<{ value: number } | { ending: Ending }> {
  const line = await readLine(dial, 'HTTP answer')
  if ('ending' in line) return line
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(line.value)?.[1]
  if (status === undefined) {
    throw new RotorError(
      'ERR_PROBE_PROTOCOL',
      `${label}: expected an HTTP answer, found ${shown(Buffer.from(line.value))}`,
    )
  }
  return { value: Number(status) }
}

/** The words of a stranger, fit for one line of a log. */
const printable = (text: string): string => text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')

const split = (line: string): [string, string] => {
  const space = line.search(/[ \t]/)
  return space < 0 ? [line, ''] : [line.slice(0, space), line.slice(space + 1).trim()]
}

const accepted = (proof: 'data' | 'ticket' | 'handshake', server: ServerFacts): Finding => ({
  accepted: true,
  refused: null,
  proof,
  authorized: null,
  denied: null,
  server,
})

/** The peer ended the connection without a word after TLS, or broke the handshake off: it refuses us. */
export const refusedBy = (ending: Ending, server: ServerFacts = UNKNOWN_SERVER): Finding => ({
  accepted: false,
  refused: ending.alert === null ? `${ending.reason} right after the handshake` : ending.reason,
  proof: null,
  authorized: null,
  denied: null,
  server,
})
