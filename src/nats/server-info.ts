/**
 * What do the servers say of themselves, and how is one told to reload? Requests to the system services of
 * nats-server (events.go), on a connection whose account imports them. The reply of `$SYS.REQ.SERVER.PING` comes from
 * every server, so its export needs `response_type: stream`.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import type { Duration } from '../time.ts'
import { isNoResponders, natsFailure } from './failure.ts'

export interface DiscoveredServer {
  readonly id: string
  readonly name: string
  readonly version: string
  /** Name of its cluster; null for a single server. */
  readonly cluster: string | null
}

export interface DiscoverOptions {
  /** Ends as soon as so many servers answered. @default until it is quiet */
  readonly expected?: number | undefined
  /** Milliseconds in all. @default 1000 */
  readonly timeout?: Duration | undefined
}

/** Milliseconds without another answer after which no more is expected: more than a round trip around the world. */
const QUIET: Duration = 300
const DEFAULT_TIMEOUT: Duration = 1000

const serverInfo = z.object({
  id: z.string().min(1),
  name: z.string(),
  ver: z.string(),
  cluster: z.string().optional(),
})

const serverError = z.object({ code: z.int(), description: z.string() })
const ping = z.object({ server: serverInfo })
const answer = z.object({
  server: serverInfo,
  data: z.unknown().optional(),
  error: serverError.optional(),
})
const varz = z.object({ config_load_time: z.iso.datetime({ offset: true }) })

/**
 * Tells the server with this id to read its configuration again, and waits until it did. `'unsupported'`: the server
 * is older than 2.10, or its RELOAD is not imported. Throws ERR_RELOAD_REFUSED with the server's own text when it
 * keeps the old configuration, ERR_NATS_UNAVAILABLE when no answer comes in `timeout` ms (the reload may have
 * happened), ERR_NATS_DENIED when this user may not ask.
 */
export async function reloadServer(
  nc: NatsConnection,
  serverId: string,
  timeout: Duration = 5000,
): Promise<'reloaded' | 'unsupported'> {
  // Through a service import, a 2.9 server is silent where there is no responder: its version is asked first.
  const known = await askServer(nc, serverId, 'VARZ', {}, timeout)
  if (known === null) {
    throw new RotorError('ERR_NATS_UNAVAILABLE', `no server with the id ${serverId} answers`)
  }
  if (!hasControlRequests(known.server.ver)) return 'unsupported'
  const reply = await askServer(nc, serverId, 'RELOAD', {}, timeout)
  if (reply === null) return 'unsupported'
  if (reply.error === undefined) return 'reloaded'
  throw new RotorError('ERR_RELOAD_REFUSED', `${reply.server.name}: ${reply.error.description}`, {
    details: { serverId, server: reply.server.name, text: reply.error.description },
  })
}

/**
 * When the server last loaded its configuration, as it writes it (RFC 3339); changes with each successful reload
 * and only then. Null when nobody answers for this server (before 2.10 that is ERR_NATS_UNAVAILABLE, after
 * `timeout` ms). Throws as `reloadServer`.
 */
export async function configLoadTime(
  nc: NatsConnection,
  serverId: string,
  timeout: Duration = 2000,
): Promise<string | null> {
  const reply = await askServer(nc, serverId, 'VARZ', {}, timeout)
  if (reply === null) return null
  return check(varz, reply.data, `VARZ of ${serverId}`).config_load_time
}

/**
 * All servers that answer, each once, by name. A server that is down or partitioned is silently missing: compare with
 * what is configured. Throws ERR_NATS_UNAVAILABLE when none answers, ERR_NATS_DENIED when this user may not ask.
 */
export async function discoverServers(
  nc: NatsConnection,
  { expected, timeout = DEFAULT_TIMEOUT }: DiscoverOptions = {},
): Promise<DiscoveredServer[]> {
  const subject = '$SYS.REQ.SERVER.PING'
  const found = new Map<string, DiscoveredServer>()
  try {
    const replies = await nc.requestMany(subject, '', {
      maxWait: timeout,
      ...(expected === undefined
        ? { strategy: 'stall', stall: Math.min(QUIET, timeout) }
        : { strategy: 'count', maxMessages: expected }),
    })
    for await (const message of replies) {
      const { server } = check(ping, parse(message, subject), subject)
      const { id, name, ver: version, cluster } = server
      found.set(id, { id, name, version, cluster: cluster ?? null })
    }
  } catch (error) {
    throw natsFailure(error, `${subject}: expected the servers to answer`)
  }
  if (found.size === 0) {
    throw new RotorError('ERR_NATS_UNAVAILABLE', `${subject}: no server answered within ${timeout} ms`)
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

/** RELOAD, LDM and KICK came with 2.10. A version that we can not read is a newer one. */
export function hasControlRequests(version: string): boolean {
  const [major = 0, minor = 0] = (/^v?(\d+)\.(\d+)/.exec(version)?.slice(1) ?? ['99', '0']).map(Number)
  return major > 2 || (major === 2 && minor >= 10)
}

/**
 * One request to one server, `what` in upper case. Null when there are no responders. Throws ERR_NATS_UNAVAILABLE when no
 * answer comes in `timeout` ms, ERR_NATS_DENIED when this user may not ask, ERR_RECORD_INVALID for an answer that is none.
 */
export async function askServer(
  nc: NatsConnection,
  serverId: string,
  what: string,
  question: object,
  timeout: Duration,
): Promise<z.infer<typeof answer> | null> {
  const subject = serverSubject(serverId, what)
  try {
    const message = await nc.request(subject, JSON.stringify(question), { timeout })
    return check(answer, parse(message, subject), subject)
  } catch (error) {
    if (isNoResponders(error)) return null
    throw natsFailure(error, `${subject}: expected an answer within ${timeout} ms`)
  }
}

function serverSubject(serverId: string, what: string): string {
  // It becomes one token of a subject.
  if (!/^[A-Z0-9]{1,64}$/.test(serverId)) {
    throw new RotorError(
      'ERR_RECORD_INVALID',
      `server id: expected letters and digits, found ${JSON.stringify(serverId)}`,
    )
  }
  return `$SYS.REQ.SERVER.${serverId}.${what}`
}

function parse(message: { json(): unknown }, subject: string): unknown {
  try {
    return message.json()
  } catch (cause) {
    throw new RotorError('ERR_RECORD_INVALID', `${subject}: expected JSON in the answer`, { cause })
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, subject: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new RotorError('ERR_RECORD_INVALID', `${subject}: ${z.prettifyError(parsed.error)}`)
}
