/**
 * A nats-server: reload through the system account where the server knows it (2.10), SIGHUP otherwise; then a real
 * handshake with every listener. Existing connections stay up over a reload; routes keep their old session until
 * they are dialled again (nats-facts 1.2, 1.3).
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { TargetConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { configLoadTime, reloadServer } from '../../src/nats/server-info.ts'
import { probeListener } from '../../src/probe/probe.ts'
import { type Clock, sleep, systemClock } from '../../src/time.ts'
import { assertExecutable, runCommand } from './command.ts'
import { signalPidFile } from './process.ts'
import { untilProven } from './proof.ts'
import type { Target, TargetContext } from './target.ts'

export type NatsServerTargetConfig = Extract<TargetConfig, { type: 'nats-server' }>

const LOOK_AGAIN = 25

export function natsServerTarget(
  config: NatsServerTargetConfig,
  initial: IdentitySnapshot,
  clock: Clock = systemClock,
): Target {
  const client = config.listeners.find((l) => l.kind === 'client')
  /** Ids change when a server is started again, so the id is asked for each time; a live connection knows it. */
  const idOf = async ({ identity, nc, signal }: TargetContext): Promise<string> => {
    const { info } = nc
    const own = info !== undefined && info.server_name === config.name && nc.getServer() === client?.address
    return own ? info.server_id : await serverId(identity, signal)
  }
  const serverId = async (identity: IdentitySnapshot, signal: AbortSignal): Promise<string> => {
    if (client === undefined)
      throw new RotorError('ERR_TARGET_UNREACHABLE', `${config.name}: no client listener is configured`)
    const result = await probeListener(client, { material: identity, signal })
    if (result.serverId === undefined)
      throw new RotorError('ERR_TARGET_UNREACHABLE', `${client.address}: no server id in its INFO`)
    return result.serverId
  }
  return {
    type: 'nats-server',
    name: config.name,
    exclusive: true,
    check: async (signal) => {
      if (config.binary !== undefined) await assertExecutable(config.binary)
      await serverId(initial, signal).catch((cause) => {
        throw new RotorError(
          'ERR_TARGET_UNREACHABLE',
          `nats-server ${config.name}: ${RotorError.from(cause).message}`,
          { cause },
        )
      })
    },
    notify: async (context) => {
      const { nc, signal } = context
      const id = await idOf(context)
      if ((await reloadServer(nc, id, config.timeout)) === 'reloaded') return
      await reloadBySignal(config, nc, id, clock, signal)
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

/**
 * SIGHUP gives no answer: a dry run first tells what would be refused, and the load time that changes only with a
 * successful reload tells that it happened (nats-facts 1.6, 2.3).
 */
async function reloadBySignal(
  config: NatsServerTargetConfig,
  nc: NatsConnection,
  id: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  if (config.pidFile === undefined) {
    throw new RotorError(
      'ERR_NOTIFY_FAILED',
      `${config.name} has no RELOAD request (before 2.10) and no pidFile is configured for SIGHUP`,
    )
  }
  if (config.binary !== undefined && config.configFile !== undefined) {
    const dryRun = [config.binary, '-t', '-c', config.configFile]
    await runCommand(dryRun, { timeout: config.timeout, signal }).catch((cause) => {
      throw new RotorError('ERR_RELOAD_REFUSED', `${config.name}: ${RotorError.from(cause).message}`, {
        cause,
      })
    })
  }
  const before = await configLoadTime(nc, id)
  await signalPidFile(config.pidFile, 'SIGHUP')
  const deadline = clock.now() + config.timeout
  while (before !== null && (await configLoadTime(nc, id)) === before) {
    if (clock.now() > deadline) {
      throw new RotorError(
        'ERR_RELOAD_REFUSED',
        `${config.name} did not load its configuration after SIGHUP; its log says why`,
      )
    }
    await sleep(LOOK_AGAIN, signal)
  }
}
