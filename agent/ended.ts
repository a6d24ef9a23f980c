/** A leaf that has ended: no server takes it any more, and only a new token helps. Said where somebody looks. */
import { Bell } from '../src/bell.ts'
import { RotorError } from '../src/errors.ts'
import type { Identity, IdentitySnapshot } from '../src/identity/identity.ts'
import type { Logger } from '../src/log.ts'
import { type Clock, formatInstant, type Instant } from '../src/time.ts'

const ADVICE =
  'make a token at the issuer (`rotor token create --agent NAME --out FILE`) and start this agent once with --join FILE'

/** The leaf may be good for a while, but the authority that issued it is not trusted any more, for this reason. */
export const leftTrust = (path: string, reason: string): RotorError =>
  new RotorError(
    'ERR_IDENTITY_ENDED',
    `${path}: no server takes the certificate any more: ${reason}; ${ADVICE}`,
  )

/** Throws ERR_IDENTITY_ENDED. `path` is the identity directory. */
export function assertNotEnded(snapshot: IdentitySnapshot, path: string, now: Instant): void {
  const problem = problemOf(snapshot, path, now)
  if (problem !== null) throw problem
}

function problemOf({ leaf }: IdentitySnapshot, path: string, now: Instant): RotorError | null {
  if (now <= leaf.notAfter) return null
  return new RotorError(
    'ERR_IDENTITY_ENDED',
    `${path}: the certificate ended ${formatInstant(leaf.notAfter)}, now is ${formatInstant(now)}; ${ADVICE}`,
  )
}

/** Says once of each leaf that it has ended: what is connected stays so, and nothing that is dialled later will be. */
export async function watchEnd(
  identity: Identity,
  path: string,
  clock: Clock,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const changed = new Bell()
  const forget = identity.onChange(() => changed.ring())
  let told = ''
  while (!signal.aborted) {
    const snapshot = identity.current()
    const { leaf } = snapshot
    const ended = problemOf(snapshot, path, clock.now())
    if (ended !== null && told !== leaf.sha256) {
      logger.error({ code: ended.code, err: ended.message }, 'the certificate of this node has ended')
      told = leaf.sha256
    }
    const wait = ended === null ? leaf.notAfter - clock.now() : Number.POSITIVE_INFINITY
    await changed.wait(Math.max(wait, 1_000), signal).catch(() => {})
  }
  forget()
}
