/**
 * Something of this process that stands on the agent's identity: a connection, a TLS server, an HTTPS client. It moves
 * itself, and what it says when it has moved is the proof.
 */
import { RotorError } from '../../src/errors.ts'
import type { Identity, IdentitySnapshot } from '../../src/identity/identity.ts'
import type { Follower } from '../../src/identity/usage.ts'
import { type Duration, formatDuration } from '../../src/time.ts'
import type { Target } from './target.ts'

/** A follower whose dial hangs must not hold the agent: a dial and an overlap take a second at worst. */
const LONGEST: Duration = 30_000

/** For one apply: the words of `notify` are the evidence of the `prove` after it. */
export function followerTarget(follower: Follower, identity: Identity, longest = LONGEST): Target {
  const { type, name } = follower
  let evidence = 'not asked to follow yet'
  let closed = false
  return {
    type,
    name,
    exclusive: false,
    check: async () => {},
    notify: async ({ identity: next, signal }) => {
      try {
        evidence = await follow(follower, next, longest, signal)
      } catch (cause) {
        signal.throwIfAborted()
        // Closed while it was asked: nothing of it is left to move.
        if (identity.followers().includes(follower)) {
          throw RotorError.from(cause, 'ERR_NOTIFY_FAILED', `${type} ${name}`)
        }
        closed = true
        evidence = 'it was closed meanwhile'
      }
    },
    prove: async ({ identity: next }) => ({
      type,
      name,
      ok: true,
      evidence,
      ...(closed ? {} : { fingerprint: next.leaf.sha256 }),
    }),
  }
}

/** Ends after `longest` also when the follower does not heed its signal. */
async function follow(
  follower: Follower,
  next: IdentitySnapshot,
  longest: Duration,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted()
  const stop = new AbortController()
  const { promise: stopped, reject } = Promise.withResolvers<never>()
  stopped.catch(() => {})
  const end = (reason: unknown): void => {
    stop.abort(reason)
    reject(reason)
  }
  const onAbort = (): void => end(signal.reason)
  const timer = setTimeout(() => {
    const message = `${follower.type} ${follower.name}: it did not follow within ${formatDuration(longest)}`
    end(new RotorError('ERR_NOTIFY_FAILED', message))
  }, longest)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([follower.follow(next, stop.signal), stopped])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}
