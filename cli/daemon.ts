/** A command that runs until it is told to stop: first signal stops in order, a second one at once. */
import { RotorError } from '../src/errors.ts'

/** After this long an orderly stop is given up; milliseconds. */
const DEADLINE = 20_000

export interface Stoppable {
  readonly done: Promise<void>
  stop(): Promise<void>
}

/** Resolves when the parts were stopped by a signal; rejects with the failure of one of them, after stopping all. */
export async function runUntilSignal(parts: readonly Stoppable[]): Promise<void> {
  const stopped = signalled()
  try {
    await Promise.race([stopped.promise, ...parts.map((part) => part.done)])
  } finally {
    const hang = setTimeout(() => {
      process.stderr.write('rotor: could not stop in time, ending now\n')
      process.exit(70)
    }, DEADLINE)
    hang.unref()
    for (const part of [...parts].reverse()) await part.stop()
    clearTimeout(hang)
    stopped.forget()
  }
}

/** Aborts on SIGINT or SIGTERM; for commands that do one long thing. */
export function signalOfProcess(): { signal: AbortSignal; forget: () => void } {
  const controller = new AbortController()
  const { promise, forget } = signalled()
  void promise.then(() => controller.abort(new RotorError('ERR_ABORTED', 'stopped by a signal')))
  return { signal: controller.signal, forget }
}

function signalled(): { promise: Promise<void>; forget: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  let times = 0
  const onSignal = () => {
    times += 1
    if (times > 1) process.exit(130)
    resolve()
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  return { promise, forget: () => void process.off('SIGINT', onSignal).off('SIGTERM', onSignal) }
}
