/** What the monitoring answers of nats-server say of a connection: CONNZ, ROUTEZ, GATEWAYZ and LEAFZ of 2.9 to 2.15. */
import { z } from 'zod'
import type { LiveConnection } from '../../src/rotation/census.ts'
import type { Duration } from '../../src/time.ts'

/** A client chooses its name: it is shown, so it is cut. */
const MAX_TEXT = 200
const text = z
  .string()
  .default('')
  .transform((value) => value.slice(0, MAX_TEXT))
const instant = z
  .string()
  .optional()
  .transform((value) => {
    const at = Date.parse(value ?? '')
    return Number.isNaN(at) ? null : at
  })
const list = <T extends z.ZodType>(entry: T) =>
  z
    .array(entry)
    .nullish()
    .transform((value) => value ?? [])
const record = <T extends z.ZodType>(entry: T) =>
  z
    .record(z.string(), entry)
    .nullish()
    .transform((value) => value ?? {})

const connection = z.object({
  cid: z.int(),
  ip: text,
  port: z.int().default(0),
  start: instant,
  name: text,
  authorized_user: text,
  tls_version: z.string().optional(),
  /** With `auth:true` only, from 2.9.0 on: what the peer sent, leaf first. */
  tls_peer_certs: list(z.object({ cert_sha256: z.string().max(64).optional() })),
})

/** What time it is there: starts are told by that clock. */
const told = { now: instant }
export const connz = z.object({ ...told, connections: list(connection) })
export const routez = z.object({
  ...told,
  routes: list(
    z.object({
      rid: z.int(),
      remote_id: text,
      remote_name: text,
      ip: text,
      port: z.int().default(0),
      start: instant,
    }),
  ),
})
const gateway = z.object({ connection: connection.nullish() })
export const gatewayz = z.object({
  ...told,
  outbound_gateways: record(gateway),
  inbound_gateways: record(list(gateway)),
})
/** No start time in any version, and no name in 2.9. */
export const leafz = z.object({
  ...told,
  leafs: list(
    z.object({ id: z.int().default(0), name: text, ip: text, port: z.int().default(0), start: instant }),
  ),
})

type Server = { readonly id: string; readonly name: string; readonly offset: Duration }
const at = ({ ip, port }: { ip: string; port: number }): string => `${ip}:${port}`

export const clientOf = (server: Server, c: z.infer<typeof connection>): LiveConnection => ({
  serverId: server.id,
  server: server.name,
  cid: c.cid,
  kind: 'client',
  name: c.name,
  peer: null,
  user: c.authorized_user,
  address: at(c),
  start: c.start,
  offset: server.offset,
  tls: c.tls_version !== undefined,
  certificates: c.tls_peer_certs.flatMap(({ cert_sha256 }) => cert_sha256 ?? []),
})

/** A connection of two servers. Of their certificates nothing is told. */
const link = (
  server: Server,
  kind: LiveConnection['kind'],
  cid: number,
  name: string,
  peer: string | null,
  where: { ip: string; port: number; start: number | null },
): LiveConnection => ({
  serverId: server.id,
  server: server.name,
  cid,
  kind,
  name,
  peer,
  user: '',
  address: at(where),
  start: where.start,
  offset: server.offset,
  tls: true,
  certificates: [],
})

export const routesOf = (server: Server, { routes }: z.infer<typeof routez>): LiveConnection[] =>
  routes.map((r) => link(server, 'route', r.rid, r.remote_name || r.remote_id, r.remote_id, r))

/** The name of the connection is the id of the server at the other end. */
export const gatewaysOf = (server: Server, answer: z.infer<typeof gatewayz>): LiveConnection[] =>
  [
    ...Object.entries(answer.outbound_gateways).map(([cluster, one]) => [cluster, one] as const),
    ...Object.entries(answer.inbound_gateways).flatMap(([cluster, all]) =>
      all.map((one) => [cluster, one] as const),
    ),
  ].flatMap(([cluster, { connection: c }]) =>
    c === null || c === undefined ? [] : [link(server, 'gateway', c.cid, cluster, c.name || null, c)],
  )

export const leafnodesOf = (server: Server, { leafs }: z.infer<typeof leafz>): LiveConnection[] =>
  leafs.map((l) => link(server, 'leafnode', l.id, l.name, null, l))
