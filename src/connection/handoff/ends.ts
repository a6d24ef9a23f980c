/** Waiting for a promise of nats.js that may outlive us, without leaving a callback behind at each wait. */

const waiting = new WeakMap<Promise<unknown>, Set<() => void>>()

/** Calls `then` when `end` is settled, unless it was told to forget before. */
export function onEnd(end: Promise<unknown>, then: () => void): () => void {
  let calls = waiting.get(end)
  if (calls === undefined) {
    const all = new Set<() => void>()
    calls = all
    waiting.set(end, all)
    const tell = () => {
      for (const call of [...all]) call()
    }
    end.then(tell, tell)
  }
  const registered = calls
  registered.add(then)
  return () => {
    registered.delete(then)
  }
}
