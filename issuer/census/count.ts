/** Who is connected to the servers of the domain now? One count over all of them, bounded, and honest about what is missing. */
import type { NatsConnection } from '@nats-io/transport-node'
import PQueue from 'p-queue'
import type { z } from 'zod'
import { RotorError } from '../../src/errors.ts'
import { askServer, type DiscoveredServer, discoverServers } from '../../src/nats/server-info.ts'
import type { Count, LiveConnection } from '../../src/rotation/census.ts'
import type { Duration, Instant } from '../../src/time.ts'
import { describeIssues } from '../../src/wire/record.ts'
import { clientOf, connz, gatewaysOf, gatewayz, leafnodesOf, leafz, routesOf, routez } from './answers.ts'
import { readAll } from './pages.ts'

export interface CountOptions {
  /** Names of the servers that should answer. */
  readonly expected: readonly string[]
  readonly now: Instant
  /** Connections asked for at once; a page of 256 is about 200 KiB. @default 256 */
  readonly page?: number
  /** Most connections of one server. @default 100000 */
  readonly max?: number
  /** Milliseconds for each answer. @default 2000 */
  readonly timeout?: Duration
}

export interface ServerCount extends Count {
  readonly servers: readonly DiscoveredServer[]
  /** How long it took to ask those that were found. */
  readonly took: Duration
}

/** Servers asked at the same time. */
const AT_ONCE = 4

/**
 * Never throws: what could not be asked is the `problem`. Needs the requests PING, CONNZ, ROUTEZ, GATEWAYZ and LEAFZ of
 * the servers, as the accounts block grants them to an issuer.
 */
export async function countConnections(nc: NatsConnection, options: CountOptions): Promise<ServerCount> {
  const { expected, now } = options
  try {
    const servers = await discoverServers(nc)
    const names = servers.map((server) => server.name)
    const missing = expected
      .filter((name) => !names.includes(name))
      .map((name) => `${name}: no answer to ${'$SYS.REQ.SERVER.PING'}`)
    const began = performance.now()
    const queue = new PQueue({ concurrency: AT_ONCE })
    const counts = await Promise.all(servers.map((server) => queue.add(() => countOne(nc, server, options))))
    const problems = [...missing, ...counts.flatMap((one) => one.problems)]
    return {
      at: now,
      connections: counts.flatMap((one) => one.connections),
      problem: problems.length === 0 ? null : problems.join('; '),
      servers,
      took: performance.now() - began,
    }
  } catch (cause) {
    return { at: now, connections: [], problem: inWords(cause), servers: [], took: 0 }
  }
}

interface One {
  readonly connections: readonly LiveConnection[]
  readonly problems: readonly string[]
}

async function countOne(nc: NatsConnection, server: DiscoveredServer, options: CountOptions): Promise<One> {
  const { page = 256, max = 100_000, timeout = 2000 } = options
  const began = performance.now()
  /** The answer, and the server with what its clock was behind ours when it was asked. */
  const ask = async <T extends z.ZodType<{ now: Instant | null }>>(
    what: string,
    schema: T,
    question: object,
  ): Promise<{
    readonly data: z.infer<T>
    readonly at: DiscoveredServer & { readonly offset: Duration }
  }> => {
    const asked = options.now + performance.now() - began
    const reply = await askServer(nc, server.id, what, question, timeout)
    if (reply === null) throw new RotorError('ERR_NATS_UNAVAILABLE', `${what}: nobody answers`)
    if (reply.error !== undefined)
      throw new RotorError('ERR_NATS_UNAVAILABLE', `${what}: ${reply.error.description}`)
    const parsed = schema.safeParse(reply.data)
    if (parsed.success) {
      const { now } = parsed.data
      return { data: parsed.data, at: { ...server, offset: now === null ? 0 : asked - now } }
    }
    throw new RotorError('ERR_RECORD_INVALID', `${what}: ${describeIssues(parsed.error)}`)
  }
  const parts: readonly (() => Promise<One>)[] = [
    async () => {
      const { found, complete } = await readAll(
        async (offset, limit) => {
          const { data, at } = await ask('CONNZ', connz, { auth: true, sort: 'cid', offset, limit })
          return data.connections.map((one) => clientOf(at, one))
        },
        { page, max },
      )
      const problems = complete ? [] : [`${server.name}: more than ${max} connections, or no end of the list`]
      return { connections: found, problems }
    },
    async () => told(routesOf, await ask('ROUTEZ', routez, {})),
    async () => told(gatewaysOf, await ask('GATEWAYZ', gatewayz, {})),
    async () => told(leafnodesOf, await ask('LEAFZ', leafz, {})),
  ]
  const all = await Promise.all(
    parts.map((part) =>
      part().catch((cause): One => ({ connections: [], problems: [`${server.name}: ${inWords(cause)}`] })),
    ),
  )
  return {
    connections: all.flatMap((one) => one.connections),
    problems: all.flatMap((one) => one.problems),
  }
}

const told = <S, T>(
  read: (server: S, data: T) => LiveConnection[],
  { at, data }: { readonly at: S; readonly data: T },
): One => ({ connections: read(at, data), problems: [] })

const inWords = (cause: unknown): string => RotorError.from(cause, 'ERR_NATS_UNAVAILABLE').message
