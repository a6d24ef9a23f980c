/** Waiting for an answer: for how long is silence only our own event loop being busy? */
import type { Duration } from '../../time.ts'

/** A service that blocks its event loop uses up one of these, however long it blocks; frames come in between. */
const SLICES = 10

/**
 * The promise's result; or the error of `late`, after `patience` without it and without a change of what `seen` returns:
 * a connection that is far behind still delivers. A timer that is overdue runs before the data that waits in the
 * socket, so the time is cut in slices.
 */
export function within<T>(
  promise: Promise<T>,
  patience: Duration,
  late: () => Error,
  seen: () => number = () => 0,
): Promise<T> {
  const { promise: result, resolve, reject } = Promise.withResolvers<T>()
  let [left, last] = [SLICES, seen()]
  const slice = () => {
    const now = seen()
    left = now === last ? left - 1 : SLICES
    last = now
    if (left === 0) reject(late())
    else timer = setTimeout(slice, patience / SLICES)
  }
  let timer = setTimeout(slice, patience / SLICES)
  promise.then(resolve, reject)
  return result.finally(() => clearTimeout(timer))
}
