/** Commands of the user's: may they be started, did they end with 0, and what did they say if not? */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, constants } from 'node:fs/promises'
import { Socket } from 'node:net'
import { delimiter, isAbsolute, join } from 'node:path'
import type { Readable } from 'node:stream'
import { RotorError, type RotorErrorCode } from '../../src/errors.ts'
import { type Duration, formatDuration, sleep } from '../../src/time.ts'

export interface CommandOptions {
  /** Milliseconds; then it is killed. */
  readonly timeout: Duration
  readonly signal: AbortSignal
  /** Of the error when it does not end with 0. @default ERR_NOTIFY_FAILED */
  readonly code?: RotorErrorCode
}

/** Characters of its last words that an error quotes. */
const WORDS = 500
/** Milliseconds in which the rest of the output is read after the end. */
const REST = 200

/**
 * Runs a command without a shell. Returns when it ended with 0, also while something that it started goes on and holds
 * its output: a command that starts a service must not wait for the end of that service. Throws `code` with its last
 * words, and the reason of an aborted signal.
 */
export async function runCommand(command: readonly string[], options: CommandOptions): Promise<void> {
  const { timeout, signal, code = 'ERR_NOTIFY_FAILED' } = options
  signal.throwIfAborted()
  const [file = '', ...args] = command
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [out, err] = [lastWords(child.stdout), lastWords(child.stderr)]
  let late = false
  const kill = () => void child.kill('SIGKILL')
  const timer = setTimeout(() => {
    late = true
    kill()
  }, timeout)
  signal.addEventListener('abort', kill, { once: true })
  try {
    const closed = once(child, 'close')
    closed.catch(() => {})
    const [status, killedBy] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    signal.throwIfAborted()
    if (status === 0) return
    await Promise.race([closed, sleep(REST)])
    const how = late
      ? `did not end within ${formatDuration(timeout)} and was killed`
      : `ended with ${status ?? killedBy}`
    const words = err() || out()
    throw new RotorError(code, `${file} ${how}${words === '' ? '' : `: ${words}`}`)
  } catch (cause) {
    signal.throwIfAborted()
    throw RotorError.from(cause, code, file)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', kill)
  }
}

/** Goes on reading as long as somebody writes, or that one would stop at a full pipe; it does not keep us running. */
function lastWords(stream: Readable): () => string {
  let text = ''
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    text = (text + chunk).slice(-WORDS)
  })
  if (stream instanceof Socket) stream.unref()
  return () => text.trim()
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
