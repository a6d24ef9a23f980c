/** A server of somebody else as a child process: its log in a file, its end awaited, and none is left behind. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { RotorError } from '../errors.ts'
import type { Duration } from '../time.ts'
import { dieWithUs } from './watchdog.ts'

export interface ProcessExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

const STOP_TIMEOUT: Duration = 10_000

export interface SpawnOptions {
  readonly path: string
  readonly args: readonly string[]
  readonly cwd: string
  /** Appended to; 0600, a server may say in it what only its operator should know. */
  readonly logFile: string
  /** @default ours */
  readonly env?: NodeJS.ProcessEnv
  /** @default into the log */
  readonly stdout?: 'ignore'
}

/** Ends with this process, also when that one is killed. Throws ERR_BINARY_MISSING. */
export async function spawnLogged(options: SpawnOptions): Promise<ChildProcess> {
  const { path, args, cwd, logFile, env, stdout } = options
  const log = await open(logFile, 'a', 0o600)
  try {
    const child = spawn(path, args, {
      cwd,
      stdio: ['ignore', stdout ?? log.fd, log.fd],
      // a process group of its own: Ctrl-C in a terminal is for us, and we stop the servers in our order
      detached: true,
      ...(env === undefined ? {} : { env }),
    })
    await once(child, 'spawn')
    dieWithUs(child)
    return child
  } catch (cause) {
    throw new RotorError('ERR_BINARY_MISSING', `${path}: could not be started`, { cause })
  } finally {
    await log.close()
  }
}

/** Resolves when the process has ended, for whatever reason; never rejects. */
export function exitOf(child: ChildProcess): Promise<ProcessExit> {
  return new Promise((resolve) => {
    if (hasEnded(child)) resolve({ code: child.exitCode, signal: child.signalCode })
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
}

export const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** SIGTERM, and SIGKILL after 10 s; returns when it has ended. */
export async function stopProcess(child: ChildProcess, exited: Promise<ProcessExit>): Promise<void> {
  child.kill('SIGTERM')
  const deadline = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT)
  await exited
  clearTimeout(deadline)
}

export async function tail(file: string, lines = 12): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '(no log)')
  return text.trimEnd().split('\n').slice(-lines).join('\n')
}
