/**
 * How does a nats-server without a RELOAD request (before 2.10) load its configuration, and how do we know that it
 * did? SIGHUP gives no answer: a dry run first tells what would be refused, and the load time that changes only with
 * a successful reload tells that it happened (nats-facts 1.6, 2.3).
 *
 * Up to 2.9.16 a reload makes all accounts anew (nats-server issue 1388, `reloadAuthorization`). A request through a
 * service import, which is every one to $JS.API and $SYS, that comes meanwhile lets the new system account subscribe
 * to its answers in a list that the reload then throws away. From then on no such request of any client of this
 * server is answered, by whomever, until the next reload. So we do not ask while the reload runs, ask as a client of
 * this very server, and a server that gives no answer gets SIGHUP again.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../../src/errors.ts'
import { configLoadTime } from '../../src/nats/server-info.ts'
import { type Clock, type Duration, sleep } from '../../src/time.ts'
import { runCommand } from './command.ts'
import { signalPidFile } from './process.ts'

export interface SighupTarget {
  readonly name: string
  readonly pidFile?: string | undefined
  /** Both for the dry run. @default no dry run */
  readonly binary?: string | undefined
  readonly configFile?: string | undefined
  /** Milliseconds. */
  readonly timeout: Duration
}

/** Until a reload is over, mostly: one of a usual configuration takes less than 10 ms. */
const FIRST_LOOK: Duration = 50
const LOOK_AGAIN: Duration = 25
/** A server beside us that has not answered after this time will not. */
const ANSWER: Duration = 1000

/**
 * Sends SIGHUP until the configuration is loaded. `nc` is a connection to this server, `id` its id. Throws
 * ERR_RELOAD_REFUSED when the server goes on with its old configuration, ERR_NATS_UNAVAILABLE when it gives no answer
 * any more, ERR_NOTIFY_FAILED or ERR_TARGET_UNREACHABLE when it can not be told.
 */
export async function reloadBySighup(
  target: SighupTarget,
  nc: NatsConnection,
  id: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const { name, pidFile, timeout } = target
  if (pidFile === undefined) {
    throw new RotorError(
      'ERR_NOTIFY_FAILED',
      `${name} has no RELOAD request (before 2.10) and no pidFile is configured for SIGHUP`,
    )
  }
  await dryRun(target, signal)
  const deadline = clock.now() + timeout
  let known = await loadTime(nc, id)
  for (let signals = 1; ; signals += 1) {
    await signalPidFile(pidFile, 'SIGHUP')
    await sleep(FIRST_LOOK, signal)
    const seen = await untilOther(nc, id, known, deadline, clock, signal)
    // What a silent server says first may come from any reload, so the next one counts.
    if (known !== null && seen !== null && seen !== known) return
    known ??= seen
    if (clock.now() > deadline) throw seen === null ? silent(target, signals) : refused(name)
  }
}

async function dryRun({ name, binary, configFile, timeout }: SighupTarget, signal: AbortSignal) {
  if (binary === undefined || configFile === undefined) return
  await runCommand([binary, '-t', '-c', configFile], { timeout, signal }).catch((cause) => {
    throw new RotorError('ERR_RELOAD_REFUSED', `${name}: ${RotorError.from(cause).message}`, { cause })
  })
}

/** The first load time that is not `known`, or `known` itself at the deadline; null when no answer comes. */
async function untilOther(
  nc: NatsConnection,
  id: string,
  known: string | null,
  deadline: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<string | null> {
  for (;;) {
    const seen = await loadTime(nc, id)
    if (seen === null || seen !== known || clock.now() > deadline) return seen
    await sleep(LOOK_AGAIN, signal)
  }
}

/** Null when no answer comes. */
async function loadTime(nc: NatsConnection, id: string): Promise<string | null> {
  try {
    return await configLoadTime(nc, id, ANSWER)
  } catch (cause) {
    if (RotorError.is(cause) && cause.code === 'ERR_NATS_UNAVAILABLE') return null
    throw cause
  }
}

const refused = (name: string) =>
  new RotorError(
    'ERR_RELOAD_REFUSED',
    `${name} did not load its configuration after SIGHUP; its log says why`,
  )

const silent = ({ name, timeout }: SighupTarget, signals: number) =>
  new RotorError(
    'ERR_NATS_UNAVAILABLE',
    `${name} gives no answer to its own clients about itself (VARZ), ${timeout} ms after the first of ${signals} ` +
      'SIGHUP; its log says why. When it says that the configuration was reloaded, restart it: before 2.9.17 a ' +
      'reload can cut off all answers of JetStream and $SYS on a server',
  )
