/** What do the servers tell of their limits, their mode and their streams, and what do their listeners show? Reads only. */
import type { NatsConnection } from '@nats-io/transport-node'
import { z } from 'zod'
import type { AgentEntry } from '../../src/domain/agents.ts'
import { RotorError } from '../../src/errors.ts'
import { askServer, type DiscoveredServer } from '../../src/nats/server-info.ts'
import type { ConsumerFacts, ListenerFacts, ServerFacts, StreamFacts } from '../../src/preflight/facts.ts'
import { type ProbeMaterial, probeListener } from '../../src/probe/probe.ts'
import type { Duration } from '../../src/time.ts'
import { isFor } from '../../src/trust/chain.ts'
import { describeIssues } from '../../src/wire/record.ts'

const TIMEOUT: Duration = 3000
/** Consumers and streams that are looked at; a domain with more is told so. */
const MAX_STREAMS = 10_000
const NANOSECONDS = 1_000_000

const list = <T extends z.ZodType>(entry: T) =>
  z
    .array(entry)
    .nullish()
    .transform((value) => value ?? [])
const text = z
  .string()
  .default('')
  .transform((value) => value.slice(0, 300))

const varz = z.object({
  connections: z.int().default(0),
  max_connections: z.int().default(0),
  trusted_operators_jwt: list(z.unknown()),
  trusted_operators_claim: list(z.unknown()),
  cluster: z.object({ cluster_port: z.int().optional() }).default({}),
  gateway: z.object({ name: z.string().optional() }).default({}),
  leaf: z.object({ remotes: list(z.unknown()) }).default({ remotes: [] }),
})

const consumer = z.object({
  name: text,
  config: z.object({
    durable_name: z.string().optional(),
    deliver_subject: z.string().optional(),
    flow_control: z.boolean().default(false),
    ack_policy: z.string().default('none'),
    /** Nanoseconds. */
    ack_wait: z.number().default(0),
    max_deliver: z.number().default(-1),
    inactive_threshold: z.number().default(0),
  }),
})

const jsz = z.object({
  account_details: list(
    z.object({
      name: text,
      stream_detail: list(
        z.object({
          name: text,
          config: z.object({ storage: text, num_replicas: z.int().default(1) }),
          consumer_detail: list(consumer),
        }),
      ),
    }),
  ),
})

export interface ServersView {
  readonly servers: readonly ServerFacts[]
  readonly streams: readonly StreamFacts[]
  readonly notSeen: readonly { readonly what: string; readonly why: string }[]
}

/** Never throws: what could not be asked is in `notSeen`. `own`: streams that are not looked at. */
export async function viewServers(
  nc: NatsConnection,
  servers: readonly DiscoveredServer[],
  own: ReadonlySet<string>,
): Promise<ServersView> {
  const notSeen: { what: string; why: string }[] = []
  const streams = new Map<string, StreamFacts>()
  const asked = await Promise.all(
    servers.map(async (server): Promise<ServerFacts> => {
      const [facts, found] = await Promise.allSettled([
        ask(nc, server, 'VARZ', varz, {}),
        ask(nc, server, 'JSZ', jsz, { accounts: true, streams: true, consumer: true, config: true }),
      ])
      for (const [what, result] of [['VARZ', facts] as const, ['JSZ', found] as const])
        if (result.status === 'rejected')
          notSeen.push({ what: `${what} of ${server.name}`, why: RotorError.from(result.reason).message })
      if (found.status === 'fulfilled') for (const one of streamsOf(found.value)) merge(streams, one)
      return serverFacts(server, facts.status === 'fulfilled' ? facts.value : null)
    }),
  )
  if (streams.size > MAX_STREAMS)
    notSeen.push({
      what: 'streams',
      why: `there are ${streams.size}, the first ${MAX_STREAMS} were looked at`,
    })
  const others = [...streams.values()].filter(({ name }) => !own.has(name.slice(name.indexOf('/') + 1)))
  return { servers: asked, streams: others.slice(0, MAX_STREAMS), notSeen }
}

async function ask<T extends z.ZodType>(
  nc: NatsConnection,
  { id, name }: DiscoveredServer,
  what: string,
  schema: T,
  question: object,
): Promise<z.infer<T>> {
  const reply = await askServer(nc, id, what, question, TIMEOUT)
  if (reply === null) throw new RotorError('ERR_NATS_UNAVAILABLE', `${name}: ${what}: nobody answers`)
  // a server without JetStream has nothing to say of streams
  const parsed = schema.safeParse(reply.data ?? {})
  if (reply.error === undefined && parsed.success) return parsed.data
  const why = reply.error?.description ?? describeIssues(parsed.error ?? new z.ZodError([]))
  throw new RotorError('ERR_RECORD_INVALID', `${name}: ${what}: ${why}`)
}

function serverFacts({ name, version }: DiscoveredServer, told: z.infer<typeof varz> | null): ServerFacts {
  if (told === null) return { name, version, connections: null, operatorMode: false, links: [] }
  const { connections, max_connections: max, cluster, gateway, leaf } = told
  return {
    name,
    version,
    connections: { now: connections, max },
    operatorMode: told.trusted_operators_jwt.length + told.trusted_operators_claim.length > 0,
    links: [
      ...((cluster.cluster_port ?? 0) > 0 ? (['cluster'] as const) : []),
      ...(gateway.name === undefined ? [] : (['gateway'] as const)),
      ...(leaf.remotes.length === 0 ? [] : (['leafnode'] as const)),
    ],
  }
}

const streamsOf = ({ account_details }: z.infer<typeof jsz>): StreamFacts[] =>
  account_details.flatMap((account) =>
    account.stream_detail.map(({ name, config, consumer_detail }) => ({
      name: `${account.name}/${name}`,
      storage: config.storage,
      replicas: config.num_replicas,
      consumers: consumer_detail.map(consumerFacts),
    })),
  )

const consumerFacts = ({ name, config }: z.infer<typeof consumer>): ConsumerFacts => ({
  name,
  durable: config.durable_name !== undefined,
  push: config.deliver_subject !== undefined,
  flowControl: config.flow_control,
  ackPolicy: config.ack_policy,
  ackWait: config.ack_wait / NANOSECONDS,
  maxDeliver: config.max_deliver,
  inactiveThreshold: config.inactive_threshold / NANOSECONDS,
})

/** Each server with a copy tells of a stream, and of the consumers it has a copy of. */
function merge(streams: Map<string, StreamFacts>, one: StreamFacts): void {
  const known = streams.get(one.name)
  const names = new Set(known?.consumers.map(({ name }) => name))
  const consumers = [...(known?.consumers ?? []), ...one.consumers.filter(({ name }) => !names.has(name))]
  streams.set(one.name, { ...one, consumers })
}

/** A real handshake with every listener, with the identity of the issuer. */
export function viewListeners(
  servers: readonly AgentEntry[],
  material: ProbeMaterial,
): Promise<ListenerFacts[]> {
  return Promise.all(
    servers.flatMap(({ name: server, listeners }) =>
      listeners.map(async (listener): Promise<ListenerFacts> => {
        const { kind, address } = listener
        try {
          const { untrusted, refused, served } = await probeListener(listener, { material, timeout: TIMEOUT })
          const forClients = isFor(served, 'clientAuth')
          return { server, kind, address, unreachable: null, untrusted, refused, forClients }
        } catch (cause) {
          const unreachable = RotorError.from(cause).message
          return { server, kind, address, unreachable, untrusted: null, refused: null, forClients: null }
        }
      }),
    ),
  )
}
