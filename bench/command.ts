/** What the benchmarks and the soak have in common as commands: numbers, the server, the machine, signals, exit. */
import { cpus, loadavg, totalmem } from 'node:os'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { RotorError } from '../src/errors.ts'
import { findNatsServer, type NatsBinary } from '../src/local/nats-server.ts'

export const note = (text: string): void => void process.stderr.write(`${text}\n`)

/** The flags of this command. Throws ERR_USAGE. */
export function parseFlags<const T extends NonNullable<ParseArgsConfig['options']>>(options: T) {
  try {
    return parseArgs({ options }).values
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError('ERR_USAGE', `${text}; see --help`, { cause })
  }
}

/** A whole number of a flag. Throws ERR_USAGE. */
export function wholeNumber(flag: string, text: string, least: number): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new RotorError('ERR_USAGE', `--${flag}: expected ${least} or more, found ${JSON.stringify(text)}`)
}

/** `newest`, `oldest`, or a version that one of the two has. Throws ERR_USAGE and ERR_BINARY_MISSING. */
export function chooseServer(text: string): NatsBinary {
  if (text === 'newest') return findNatsServer('nats-server')
  if (text === 'oldest') return findNatsServer('nats-server-oldest')
  if (!/^\d+\.\d+\.\d+$/.test(text)) {
    throw new RotorError(
      'ERR_USAGE',
      `--server-version: expected "newest", "oldest" or a version such as 2.15.1, found ${JSON.stringify(text)}`,
    )
  }
  const here = [findNatsServer('nats-server'), findNatsServer('nats-server-oldest')]
  const found = here.find(({ version }) => version === text)
  if (found !== undefined) return found
  throw new RotorError(
    'ERR_BINARY_MISSING',
    `no nats-server ${text} here, only ${here.map(({ version }) => version).join(' and ')}; name it in NATS_SERVER_BIN`,
  )
}

export const machine = (natsServer: string) => ({
  cpus: cpus().length,
  cpu: cpus()[0]?.model ?? 'unknown',
  memoryMiB: Math.round(totalmem() / 1024 / 1024),
  load1: loadavg()[0] ?? 0,
  node: process.versions.node,
  natsServer,
})

/**
 * Runs such a command: the first signal stops it in its order, the second ends it at once. Sets the
 * exit code to what `main` returns, 130 after a signal, and that of the error otherwise.
 */
export async function runCommand(main: (signal: AbortSignal) => Promise<number>): Promise<void> {
  const stop = new AbortController()
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130)
    note('stopping')
    stop.abort(new RotorError('ERR_ABORTED', 'stopped by a signal'))
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  try {
    process.exitCode = await main(stop.signal)
  } catch (cause) {
    const error = RotorError.from(cause)
    if (!stop.signal.aborted) note(`${error.code}: ${error.message}`)
    process.exitCode = stop.signal.aborted ? 130 : error.exitCode
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
}
