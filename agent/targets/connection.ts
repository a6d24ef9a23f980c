/**
 * A live NATS connection in this process: it is moved, and the move itself is the proof. New trust alone moves nothing:
 * the connection stands on its leaf, and its next dial takes the trust of that moment.
 */
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import type { Target } from './target.ts'

export interface MovableConnection {
  /** Returns when the connection runs on this identity; what it says is the evidence. */
  move(identity: IdentitySnapshot, signal: AbortSignal): Promise<string>
}

export function connectionTarget(name: string, connection: MovableConnection): Target {
  let evidence = 'not moved yet'
  /** Fingerprint of the leaf that the connection was moved to; null before the first move and after a failed one. */
  let movedTo: string | null = null
  return {
    type: 'connection',
    name,
    exclusive: false,
    check: async () => {},
    notify: async ({ identity, signal }) => {
      if (movedTo === identity.leaf.sha256) return
      movedTo = null
      try {
        evidence = await connection.move(identity, signal)
        movedTo = identity.leaf.sha256
      } catch (cause) {
        throw RotorError.from(cause, 'ERR_NOTIFY_FAILED', `connection ${name}`)
      }
    },
    prove: async ({ identity }) => ({
      type: 'connection',
      name,
      ok: true,
      evidence,
      fingerprint: identity.leaf.sha256,
    }),
  }
}
