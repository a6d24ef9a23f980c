/** The loop goes on after any failure. One that is not bad luck, but a mistake in the code, is not to be missed. */
import * as real from '../../../../src/errors.ts'
import { currentIssuer } from '../issuer-machine.ts'

export class RotorError extends real.RotorError {
  static override from(cause: unknown, code?: real.RotorErrorCode, context?: string): real.RotorError {
    if (!real.RotorError.is(cause)) currentIssuer().parts.watching.failed(cause)
    return real.RotorError.from(cause, code, context)
  }
}
