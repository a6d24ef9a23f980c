/**
 * Was the configuration of a nats-server changed since the server loaded it? A reload for new certificates would load that,
 * too: somebody's half-finished edit, at a time nobody chose. So it is told in the status, for `rotor doctor`.
 *
 * Seen by the times of the file and of what it includes, against the load time that the server tells (VARZ, every version).
 * Its `config_digest` (2.11) is no help: only nats-server itself can compute it, and what it hashes has no certificates.
 */
import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { NatsConnection } from '@nats-io/transport-node'
import type { TargetConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { configLoadTime, discoverServers } from '../src/nats/server-info.ts'
import { type Duration, formatInstant, type Instant, sleep } from '../src/time.ts'
import type { ConfigStatus } from '../src/wire/status.ts'
import type { Reporter } from './reporter.ts'
import { runCommand } from './targets/command.ts'

type Target = Extract<TargetConfig, { type: 'nats-server' }>
/** One whose configuration file is known. */
type Watched = Target & { readonly configFile: string }

export interface ConfigWatchOptions {
  readonly targets: readonly TargetConfig[]
  readonly connection: (signal: AbortSignal) => Promise<NatsConnection>
  readonly reporter: Reporter
  /** Milliseconds between two looks. */
  readonly every: Duration
  readonly logger: Logger
}

/** Until `signal` aborts. A server is asked only when a file of it changed, or an edit is still not loaded. */
export async function watchServerConfigs(options: ConfigWatchOptions, signal: AbortSignal): Promise<void> {
  const { every, reporter, logger } = options
  const watched = options.targets.filter(
    (target): target is Watched => target.type === 'nats-server' && target.configFile !== undefined,
  )
  if (watched.length === 0) return
  const known = new Map<string, { readonly newest: Instant; readonly status: ConfigStatus }>()
  for (;;) {
    for (const target of watched) {
      try {
        const { file, at } = await newestFile(target.configFile)
        const before = known.get(target.name)
        if (before?.newest === at && before.status.edited === null) continue
        const nc = await options.connection(signal)
        known.set(target.name, { newest: at, status: await look(nc, target, file, at, signal) })
      } catch (cause) {
        signal.throwIfAborted()
        known.delete(target.name)
        logger.debug(
          { server: target.name, err: RotorError.from(cause).message },
          'its configuration was not seen',
        )
      }
    }
    const configs = [...known.values()].map(({ status }) => status)
    if (JSON.stringify(configs) !== JSON.stringify(reporter.status.configs)) reporter.update({ configs })
    await sleep(every, signal)
  }
}

async function look(
  nc: NatsConnection,
  target: Watched,
  file: string,
  at: Instant,
  signal: AbortSignal,
): Promise<ConfigStatus> {
  const { name, binary, configFile, timeout } = target
  const loaded = await loadTimeOf(nc, name)
  if (at <= Date.parse(loaded)) return { name, edited: null, refused: null }
  const edited = `${file} was changed at ${formatInstant(at)}, the server loaded at ${loaded}`
  const refused =
    binary === undefined
      ? null
      : await runCommand([binary, '-t', '-c', configFile], { timeout, signal }).then(
          () => null,
          (cause) => RotorError.from(cause).message,
        )
  return { name, edited, refused }
}

async function loadTimeOf(nc: NatsConnection, name: string): Promise<string> {
  const id =
    nc.info?.server_name === name
      ? nc.info.server_id
      : (await discoverServers(nc)).find((server) => server.name === name)?.id
  const loaded = id === undefined ? null : await configLoadTime(nc, id)
  if (loaded === null)
    throw new RotorError('ERR_NATS_UNAVAILABLE', `${name}: no answer about its configuration`)
  return loaded
}

/** `include` of the configuration language: a word at the start of a line or block, and a path, quoted or not. */
const INCLUDE = /(?:^|[{;,])[ \t]*include[ \t]+(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"'#;,}]+))/gm
/** Paths that a text of the configuration language includes, as they stand there. */
export const includesOf = (text: string): string[] =>
  [...text.matchAll(INCLUDE)].map(([, double, single, bare]) => double ?? single ?? bare ?? '')

/** More files than this are no configuration. */
const MAX_FILES = 64

/** The file of the configuration that was changed last, and when. */
async function newestFile(configFile: string): Promise<{ readonly file: string; readonly at: Instant }> {
  const seen = new Set<string>()
  const queue = [configFile]
  let newest = { file: configFile, at: 0 }
  for (let file = queue.pop(); file !== undefined && seen.size < MAX_FILES; file = queue.pop()) {
    if (seen.has(file)) continue
    seen.add(file)
    const at = Math.floor((await stat(file)).mtimeMs)
    if (at > newest.at) newest = { file, at }
    for (const included of includesOf(await readFile(file, 'utf8')))
      queue.push(resolve(dirname(file), included))
  }
  return newest
}
