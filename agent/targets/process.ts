/** Telling processes: pid files, signals, commands. Shared by the targets that need them. */
import { execFile } from 'node:child_process'
import { access, constants, readFile } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { RotorError } from '../../src/errors.ts'
import type { Duration } from '../../src/time.ts'

/** The live process that a pid file names. Throws ERR_TARGET_UNREACHABLE. */
export async function readPid(pidFile: string): Promise<number> {
  const text = await readFile(pidFile, 'utf8').catch((cause) => {
    throw new RotorError('ERR_TARGET_UNREACHABLE', `pid file ${pidFile}: ${cause.message}`, { cause })
  })
  const pid = Number(text.trim())
  // kill(0) and kill(-1) mean whole groups of processes: never from a file.
  if (!Number.isSafeInteger(pid) || pid < 2) {
    throw new RotorError(
      'ERR_TARGET_UNREACHABLE',
      `pid file ${pidFile}: expected a process id, found ${JSON.stringify(text.slice(0, 40))}`,
    )
  }
  if (!isAlive(pid))
    throw new RotorError('ERR_TARGET_UNREACHABLE', `pid file ${pidFile}: process ${pid} is not running`)
  return pid
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** As `isAlive`, and not a dead process whose parent has not looked yet (state Z of proc(5), on Linux). */
export async function isRunning(pid: number): Promise<boolean> {
  if (!isAlive(pid)) return false
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return !/\) [ZX] /.test(stat)
}

/** Sends a signal to the process of a pid file. Throws ERR_TARGET_UNREACHABLE or ERR_NOTIFY_FAILED. */
export async function signalPidFile(pidFile: string, signal: NodeJS.Signals): Promise<number> {
  const pid = await readPid(pidFile)
  try {
    process.kill(pid, signal)
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_NOTIFY_FAILED', `${signal} to process ${pid} of ${pidFile}`)
  }
  return pid
}

/** Runs a command without a shell; returns what it printed. Throws ERR_NOTIFY_FAILED with its last words. */
export function runCommand(
  command: readonly string[],
  timeout: Duration,
  signal: AbortSignal,
): Promise<string> {
  const [file = '', ...args] = command
  return new Promise((resolve, reject) => {
    execFile(
      file,
      args,
      { timeout, signal, maxBuffer: 1024 * 1024, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout)
        const words = (stderr.trim() || stdout.trim() || error.message).slice(-500)
        reject(
          new RotorError(
            'ERR_NOTIFY_FAILED',
            `${file} ended with ${error.code ?? error.signal ?? 'an error'}: ${words}`,
            { cause: error },
          ),
        )
      },
    )
  })
}

/** Throws ERR_TARGET_UNREACHABLE when a command could never be started. */
export async function assertExecutable(file: string): Promise<void> {
  const places =
    isAbsolute(file) || file.includes('/')
      ? [file]
      : (process.env.PATH ?? '').split(delimiter).map((dir) => join(dir, file))
  for (const place of places) {
    if (
      await access(place, constants.X_OK).then(
        () => true,
        () => false,
      )
    ) {
      return
    }
  }
  throw new RotorError('ERR_TARGET_UNREACHABLE', `${file}: no such command, or it is not executable`)
}
