/** A live NATS connection in this process: it is moved, and the move itself is the proof. */
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import type { Target } from './target.ts'

export interface MovableConnection {
  /** Returns when the connection runs on this identity; what it says is the evidence. */
  move(identity: IdentitySnapshot, signal: AbortSignal): Promise<string>
}

export function connectionTarget(name: string, connection: MovableConnection): Target {
  let evidence = 'not moved yet'
  return {
    type: 'connection',
    name,
    exclusive: false,
    check: async () => {},
    notify: async ({ identity, signal }) => {
      try {
        evidence = await connection.move(identity, signal)
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
