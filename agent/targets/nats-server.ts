/**
 * A nats-server: reload through the system account where the server knows it (2.10), SIGHUP otherwise; then a real
 * handshake with every listener. Existing connections stay up over a reload; routes keep their old session until
 * they are dialled again (nats-facts 1.2, 1.3).
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { TargetConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { hasControlRequests, reloadServer } from '../../src/nats/server-info.ts'
import { probeListener } from '../../src/probe/probe.ts'
import { type Clock, systemClock } from '../../src/time.ts'
import { assertExecutable } from './command.ts'
import { untilProven } from './proof.ts'
import { reloadBySighup } from './sighup.ts'
import type { Target, TargetContext } from './target.ts'

export type NatsServerTargetConfig = Extract<TargetConfig, { type: 'nats-server' }>

interface Server {
  readonly id: string
  readonly version: string
}

export function natsServerTarget(
  config: NatsServerTargetConfig,
  initial: IdentitySnapshot,
  clock: Clock = systemClock,
): Target {
  const client = config.listeners.find((l) => l.kind === 'client')
  const isOurs = (nc: NatsConnection): boolean =>
    nc.info?.server_name === config.name && nc.getServer() === client?.address
  /** Ids change when a server is started again, so they are asked for each time; a live connection knows them. */
  const serverOf = async ({ identity, nc, signal }: TargetContext): Promise<Server> =>
    nc.info !== undefined && isOurs(nc)
      ? { id: nc.info.server_id, version: nc.info.version }
      : await askServer(identity, signal)
  const askServer = async (identity: IdentitySnapshot, signal: AbortSignal): Promise<Server> => {
    if (client === undefined)
      throw new RotorError('ERR_TARGET_UNREACHABLE', `${config.name}: no client listener is configured`)
    const { serverId: id, serverVersion } = await probeListener(client, { material: identity, signal })
    if (id === undefined)
      throw new RotorError('ERR_TARGET_UNREACHABLE', `${client.address}: no server id in its INFO`)
    return { id, version: serverVersion ?? '' }
  }
  /** As a client of this server: what its own clients are told can differ from what others are told. */
  const sighup = async ({ nc, dial, signal }: TargetContext, id: string): Promise<void> => {
    if (client === undefined || isOurs(nc)) return await reloadBySighup(config, nc, id, clock, signal)
    const own = await dial(client.address)
    try {
      await reloadBySighup(config, own, id, clock, signal)
    } finally {
      await own.close()
    }
  }
  return {
    type: 'nats-server',
    name: config.name,
    exclusive: true,
    check: async (signal) => {
      if (config.binary !== undefined) await assertExecutable(config.binary)
      await askServer(initial, signal).catch((cause) => {
        throw new RotorError(
          'ERR_TARGET_UNREACHABLE',
          `nats-server ${config.name}: ${RotorError.from(cause).message}`,
          { cause },
        )
      })
    },
    notify: async (context) => {
      const { id, version } = await serverOf(context)
      const reloaded =
        hasControlRequests(version) && (await reloadServer(context.nc, id, config.timeout)) === 'reloaded'
      if (!reloaded) await sighup(context, id)
    },
    prove: async (context) => {
      await untilProven(config.listeners, context, config.timeout, clock)
      const kinds = config.listeners.map((l) => l.kind).join(', ')
      return {
        type: 'nats-server',
        name: config.name,
        ok: true,
        evidence: `${kinds}: serves the leaf and accepts it`,
        fingerprint: context.identity.leaf.sha256,
      }
    },
  }
}
