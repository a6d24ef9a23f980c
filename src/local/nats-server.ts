/** Real nats-server processes on this machine, for the demo, the benchmarks and the tests: start, wait, stop. */
import { type ChildProcess, execFile } from 'node:child_process'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { findServer, howToGet } from '../../scripts/servers.mjs'
import { RotorError } from '../errors.ts'
import { type Duration, sleep } from '../time.ts'
import { exitOf, hasEnded, type ProcessExit, spawnLogged, stopProcess, tail } from './process.ts'

/** Which of the supported versions: the newest one, or the oldest. */
export type NatsServerRelease = 'nats-server' | 'nats-server-oldest'

export interface NatsBinary {
  readonly path: string
  /** Without a leading "v". */
  readonly version: string
}

export interface NatsServerOptions {
  /** For messages and the log file. */
  readonly name: string
  /** Working folder; made when it is missing. */
  readonly cwd: string
  /** @default the newest one, see `findNatsServer` */
  readonly binary?: NatsBinary | string
  /** Relative to `cwd`. @default none: the defaults of nats-server and `args` */
  readonly configFile?: string
  /** @default none */
  readonly args?: readonly string[]
  /** Appended to. @default `<name>.log` in `cwd` */
  readonly logFile?: string
  /** How long the listeners may take, milliseconds. @default 15000 */
  readonly timeout?: Duration
  /** Gives up the start; the process is stopped then. It does not end a server that has started. */
  readonly signal?: AbortSignal
}

export interface NatsServerProcess extends AsyncDisposable {
  readonly name: string
  readonly pid: number
  readonly version: string
  readonly logFile: string
  /** `host:port` of each listener as the server reported it, null for one it does not have. */
  readonly addresses: {
    readonly client: string | null
    readonly cluster: string | null
    readonly monitoring: string | null
  }
  /** Resolves when the process has ended, for whatever reason; never rejects. */
  readonly exited: Promise<ProcessExit>
  /** Sends a signal; false when the process has ended. */
  kill(signal: NodeJS.Signals): boolean
  /** Orderly shutdown, SIGKILL after 10 s. Returns when the process has ended; more than once is fine. */
  stop(): Promise<void>
}

const POLL: Duration = 15

/** The real binary. Throws ERR_BINARY_MISSING that names the variable and the command. */
export function findNatsServer(release: NatsServerRelease = 'nats-server'): NatsBinary {
  const { variable, command } = howToGet(release)
  let reason = `no ${release} in ${variable}, on PATH or in .servers`
  try {
    const found = findServer(release)
    if (found !== null) return found
  } catch (cause) {
    reason = cause instanceof Error ? cause.message : String(cause)
  }
  throw new RotorError('ERR_BINARY_MISSING', `${reason}; run \`${command}\`, or set ${variable} to a binary`)
}

/**
 * Starts a nats-server and returns when its listeners accept connections. It ends with this process, also when that
 * one is killed. Throws ERR_BINARY_MISSING, or ERR_NATS_UNAVAILABLE with the end of the log when the server ends
 * early or does not get ready.
 */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServerProcess> {
  const { name, cwd, signal } = options
  signal?.throwIfAborted()
  const binary = await resolveBinary(options.binary)
  const logFile = options.logFile ?? join(cwd, `${name}.log`)
  const portsDir = join(cwd, 'ports')
  await mkdir(portsDir, { recursive: true })
  const config = options.configFile === undefined ? [] : ['-c', options.configFile]
  const args = [...config, '--ports_file_dir', portsDir, ...(options.args ?? [])]
  const child = await spawnLogged({ path: binary.path, args, cwd, logFile })
  const exited = exitOf(child)
  const stop = () => stopProcess(child, exited)
  try {
    const addresses = await ready(child, portsDir, options, logFile)
    return {
      name,
      pid: child.pid ?? 0,
      version: binary.version,
      logFile,
      addresses,
      exited,
      kill: (signalName) => child.kill(signalName),
      stop,
      [Symbol.asyncDispose]: stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

async function resolveBinary(given: NatsBinary | string | undefined): Promise<NatsBinary> {
  if (given === undefined) return findNatsServer()
  if (typeof given !== 'string') return given
  try {
    const { stdout } = await promisify(execFile)(given, ['--version'])
    return { path: given, version: /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0] ?? 'unknown' }
  } catch (cause) {
    throw new RotorError('ERR_BINARY_MISSING', `${given}: expected a nats-server that runs`, { cause })
  }
}

/** The server writes its ports file when every listener accepts connections. */
async function ready(
  child: ChildProcess,
  portsDir: string,
  { name, signal, timeout = 15_000 }: NatsServerOptions,
  logFile: string,
): Promise<NatsServerProcess['addresses']> {
  const end = performance.now() + timeout
  for (;;) {
    const addresses = await readPorts(portsDir, child.pid)
    if (addresses !== null) return addresses
    const late = performance.now() > end
    const ended = hasEnded(child)
    if (ended || late) {
      const what = ended
        ? `ended at its start with ${child.signalCode ?? child.exitCode}`
        : `was not ready after ${timeout} ms`
      throw new RotorError(
        'ERR_NATS_UNAVAILABLE',
        `nats-server ${name} ${what}; the end of ${logFile}:\n${await tail(logFile)}`,
      )
    }
    await sleep(POLL, signal)
  }
}

/** Null until the file is there and whole: the server does not write it in one step. */
async function readPorts(
  folder: string,
  pid: number | undefined,
): Promise<NatsServerProcess['addresses'] | null> {
  const file = (await readdir(folder)).find((entry) => entry.endsWith(`_${pid}.ports`))
  if (file === undefined) return null
  const text = await readFile(join(folder, file), 'utf8').catch(() => '')
  try {
    const ports: { nats?: string[]; cluster?: string[]; monitoring?: string[] } = JSON.parse(text)
    return {
      client: address(ports.nats),
      cluster: address(ports.cluster),
      monitoring: address(ports.monitoring),
    }
  } catch {
    return null
  }
}

const address = (urls: string[] | undefined): string | null => urls?.[0]?.replace(/^\w+:\/\//, '') ?? null
