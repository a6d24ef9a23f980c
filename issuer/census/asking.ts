/** Asking a server to tell a connection that it should move (LDM), or to end it (KICK). One that is gone is as it should be. */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { askServer } from '../../src/nats/server-info.ts'
import type { Step } from '../../src/rotation/strangers.ts'
import type { Duration } from '../../src/time.ts'

const TIMEOUT: Duration = 2_000

/** Never throws: what was asked, and what came of it, is in the log. */
export async function askToMove(
  nc: NatsConnection,
  { kind, connection, epoch }: Step,
  logger: Logger,
): Promise<void> {
  const { serverId, server, cid, name, user, address } = connection
  const about = { server, cid, name, user, address, epoch, asked: kind }
  try {
    const reply = await askServer(nc, serverId, kind, { cid }, TIMEOUT)
    const refused = reply === null ? 'nobody answers' : reply.error?.description
    logger.info(
      { ...about, ...(refused === undefined ? {} : { refused }) },
      'a connection on an old authority was asked to move',
    )
  } catch (cause) {
    const { code, message } = RotorError.from(cause)
    logger.warn(
      { ...about, code, err: message },
      'a connection on an old authority could not be asked to move',
    )
  }
}
