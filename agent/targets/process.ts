/** Whom does a pid file name, and what would a signal do to it? Shared by the targets that send one. */
import { readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { RotorError } from '../../src/errors.ts'

export interface SignalOptions {
  /** Text that must be in the command line of the process: its pid may be another one's by now. */
  readonly commandLine?: string | undefined
}

/** The live process that a pid file names. Throws ERR_TARGET_UNREACHABLE. */
export async function readPid(pidFile: string): Promise<number> {
  const text = await readFile(pidFile, 'utf8').catch((cause) => {
    throw unreachable(`pid file ${pidFile}: ${cause.message}`, cause)
  })
  const pid = Number(text.trim())
  // kill(0) and kill(-1) mean whole groups of processes: never from a file.
  if (!Number.isSafeInteger(pid) || pid < 2) {
    throw unreachable(
      `pid file ${pidFile}: expected a process id, found ${JSON.stringify(text.slice(0, 40))}`,
    )
  }
  if (!(await isRunning(pid))) throw unreachable(`pid file ${pidFile}: process ${pid} is not running`)
  return pid
}

/** False also for a dead process whose parent has not looked yet (state Z of proc(5), on Linux). */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return !/\) [ZX] /.test(stat)
}

export type Disposition = 'handles' | 'ignores' | 'dies'

/**
 * The process of a pid file, when this signal does not end it: the default of SIGHUP, SIGUSR1 and SIGUSR2 is to end
 * the process (signal(7)), and an agent is not there to kill a service that was never made for it. Throws
 * ERR_TARGET_UNREACHABLE.
 */
export async function readSignallable(
  pidFile: string,
  signal: NodeJS.Signals,
  { commandLine }: SignalOptions = {},
): Promise<{ pid: number; disposition: Disposition | null }> {
  const pid = await readPid(pidFile)
  if (commandLine !== undefined) await assertCommandLine(pid, pidFile, commandLine)
  const disposition = await dispositionOf(pid, signal)
  if (disposition === 'dies') {
    throw unreachable(
      `process ${pid} of ${pidFile} does not handle ${signal} and would end by it, so it was not sent`,
    )
  }
  return { pid, disposition }
}

/** Sends a signal to the process of a pid file. Throws ERR_TARGET_UNREACHABLE or ERR_NOTIFY_FAILED. */
export async function signalPidFile(
  pidFile: string,
  signal: NodeJS.Signals,
  options: SignalOptions = {},
): Promise<{ pid: number; disposition: Disposition | null }> {
  const found = await readSignallable(pidFile, signal, options)
  try {
    process.kill(found.pid, signal)
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_NOTIFY_FAILED', `${signal} to process ${found.pid} of ${pidFile}`)
  }
  return found
}

/**
 * What a signal does to a process, by the masks of proc(5); null where they can not be read, as on other systems than
 * Linux. "handles" says that there is a handler, not what it does: those of Go and Java are there for every signal,
 * and may end the process all the same.
 */
export async function dispositionOf(pid: number, signal: NodeJS.Signals): Promise<Disposition | null> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const has = (mask: string): boolean | null => {
    const hex = new RegExp(`^${mask}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1]
    if (hex === undefined) return null
    return ((BigInt(`0x${hex}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n
  }
  const [caught, ignored] = [has('SigCgt'), has('SigIgn')]
  if (caught === null || ignored === null) return null
  if (caught) return 'handles'
  return ignored ? 'ignores' : 'dies'
}

async function assertCommandLine(pid: number, pidFile: string, expected: string): Promise<void> {
  const bytes = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch((cause) => {
    throw unreachable(
      `the command line of process ${pid} of ${pidFile} can not be read: ${cause.message}`,
      cause,
    )
  })
  // Not what was found: command lines may hold secrets.
  if (!bytes.replaceAll('\0', ' ').includes(expected)) {
    throw unreachable(
      `pid file ${pidFile}: ${JSON.stringify(expected)} is not in the command line of process ${pid}, which is another one then`,
    )
  }
}

const unreachable = (message: string, cause?: unknown): RotorError =>
  new RotorError('ERR_TARGET_UNREACHABLE', message, { cause })
