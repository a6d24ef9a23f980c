/** What does an error of the NATS client mean for us? Translated once, here. */
import { errors } from '@nats-io/transport-node'
import { RotorError } from '../errors.ts'

/** The error and its causes: the client wraps what happened in a RequestError or ConnectionError. */
function* causes(error: unknown): Generator<unknown> {
  for (let at = error, depth = 0; at !== undefined && depth < 5; depth++) {
    yield at
    at = at instanceof Error ? at.cause : undefined
  }
}

/** Nobody listens on the subject, as far as the server sees. */
export const isNoResponders = (error: unknown): boolean =>
  [...causes(error)].some((e) => e instanceof errors.NoRespondersError)

/** The server told us that this user, or this subject, is not allowed. */
export const isDenied = (error: unknown): boolean =>
  [...causes(error)].some(
    (e) =>
      e instanceof errors.AuthorizationError ||
      e instanceof errors.UserAuthenticationExpiredError ||
      e instanceof errors.PermissionViolationError,
  )

/** Any failure of a request or dial as ERR_NATS_DENIED or ERR_NATS_UNAVAILABLE; a RotorError unchanged. */
export function natsFailure(error: unknown, context: string): RotorError {
  if (RotorError.is(error)) return error
  const text = error instanceof Error ? error.message || error.name : String(error)
  return new RotorError(isDenied(error) ? 'ERR_NATS_DENIED' : 'ERR_NATS_UNAVAILABLE', `${context}: ${text}`, {
    cause: error,
  })
}
