/** How a connection ends: noticed without leaving a callback behind at each wait, and what that says of the new leaf. */
import { RotorError } from '../../errors.ts'

/** The server went, or the way to it: that says nothing of the new leaf, which is no reason to take a rotation back. */
export const lost = (what: string, cause?: unknown): RotorError =>
  new RotorError('ERR_NATS_UNAVAILABLE', what, { cause })

/** By promises of nats.js, which may outlive us. */
const waiting = new WeakMap<Promise<unknown>, Set<() => void>>()

/** Calls `then` when `end` is settled, unless it was told to forget before. */
export function onEnd(end: Promise<unknown>, then: () => void): () => void {
  const calls = waiting.get(end) ?? listen(end)
  calls.add(then)
  return () => {
    calls.delete(then)
  }
}

/** On its own, so that what stays with `end` sees nothing of the first caller: that would keep all of its handoff alive. */
function listen(end: Promise<unknown>): Set<() => void> {
  const calls = new Set<() => void>()
  waiting.set(end, calls)
  const tell = () => {
    for (const call of [...calls]) call()
  }
  end.then(tell, tell)
  return calls
}
