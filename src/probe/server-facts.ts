/** Who is this server, by its own word? From INFO, or from the first lines of /varz. */
import { z } from 'zod'
import { RotorError } from '../errors.ts'

export interface ServerFacts {
  readonly id: string | null
  readonly name: string | null
  readonly version: string | null
  /** The listener offers TLS. */
  readonly tls: boolean
  /** The INFO is that of a gateway listener. */
  readonly gateway: boolean
}

export const UNKNOWN_SERVER: ServerFacts = { id: null, name: null, version: null, tls: false, gateway: false }

const text = z.string().max(512)

/** What we read of INFO; a server may send anything else beside it. */
const info = z.object({
  server_id: text,
  server_name: text.optional(),
  version: text,
  tls_required: z.boolean().optional(),
  tls_available: z.boolean().optional(),
  gateway: text.optional(),
})

/** The JSON of an INFO line. Throws ERR_PROBE_PROTOCOL. */
export function parseInfo(json: string, label: string): ServerFacts {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (cause) {
    throw new RotorError('ERR_PROBE_PROTOCOL', `${label}: expected JSON in INFO`, { cause })
  }
  const parsed = info.safeParse(value)
  if (!parsed.success) {
    throw new RotorError(
      'ERR_PROBE_PROTOCOL',
      `${label}: INFO is not that of a nats-server: ${z.prettifyError(parsed.error)}`,
    )
  }
  const { server_id, server_name, version, tls_required, tls_available, gateway } = parsed.data
  return {
    id: server_id,
    name: server_name ?? null,
    version,
    tls: tls_required === true || tls_available === true,
    gateway: gateway !== undefined && gateway !== '',
  }
}

/** The server named in the first lines of /varz; null while they are not complete, or it is no nats-server. */
export function findServer(body: string): ServerFacts | null {
  const field = (key: string) => new RegExp(`"${key}":\\s*"([^"\\\\]{1,512})"`).exec(body)?.[1] ?? null
  const version = field('version')
  // `version` follows `server_id` and `server_name`
  return version === null
    ? null
    : { ...UNKNOWN_SERVER, id: field('server_id'), name: field('server_name'), version, tls: true }
}
