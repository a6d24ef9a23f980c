/** Waiting for an answer: for how long is silence only our own event loop being busy? */
import type { Duration } from '../../time.ts'

/** A service that blocks its event loop uses up one of these, however long it blocks; frames come in between. */
const SLICES = 10

/**
 * The promise's result; or, after `patience` without one, the error of `late`. A timer that is overdue runs before
 * the data that waits in the socket, so the time is cut in slices.
 */
export function within<T>(promise: Promise<T>, patience: Duration, late: () => Error): Promise<T> {
  const { promise: result, resolve, reject } = Promise.withResolvers<T>()
  let left = SLICES
  const slice = () => {
    left -= 1
    if (left === 0) reject(late())
    else timer = setTimeout(slice, patience / SLICES)
  }
  let timer = setTimeout(slice, patience / SLICES)
  promise.then(resolve, reject)
  return result.finally(() => clearTimeout(timer))
}
