/** What becomes of a bundle message: it waits to be applied, is refused for good, or comes again later. */
import type { JsMsg } from '@nats-io/jetstream'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { type Clock, formatInstant } from '../src/time.ts'
import type { Acceptance } from './acceptance.ts'
import type { Applier } from './apply.ts'
import type { AgentEvent } from './events.ts'
import type { Reporter } from './reporter.ts'
import type { Work } from './work.ts'

/** Milliseconds until a message comes again that could not be judged: a full disk, not a bad bundle. */
const JUDGE_AGAIN = 1_000
/** Milliseconds until one comes again that only our clock speaks against: it may be the clock that is wrong. */
const CLOCK_AGAIN = 5_000

export interface InboxParts {
  readonly acceptance: Acceptance
  readonly applier: Applier
  readonly work: Work
  readonly reporter: Reporter
  readonly clock: Clock
  readonly logger: Logger
  readonly onEvent: (event: AgentEvent) => void
}

export class Inbox {
  readonly #p: InboxParts

  constructor(parts: InboxParts) {
    this.#p = parts
  }

  /** Judges one message at a time; never throws. What is accepted is remembered on disk before it may wait. */
  async take(message: JsMsg): Promise<void> {
    const { acceptance, applier, work, onEvent } = this.#p
    try {
      onEvent({ type: 'step', step: 'verify', version: acceptance.highest.version })
      const bundle = await acceptance.accept(message.data)
      if (await applier.isApplied(bundle)) message.ack()
      else work.offer({ bundle, message })
    } catch (cause) {
      this.#refuse(message, RotorError.from(cause))
    }
  }

  #refuse(message: JsMsg, error: RotorError): void {
    const { acceptance, reporter, logger } = this.#p
    const judged = error.code.startsWith('ERR_BUNDLE_') || error.code === 'ERR_CLOCK_SKEW'
    const isTold = message.redelivered && reporter.status.lastError?.code === error.code
    if (!judged) {
      logger.warn({ code: error.code, err: error.message }, 'a bundle could not be judged yet')
      message.nak(JUDGE_AGAIN)
      if (!isTold) this.#report(error)
    } else if (error.details.byClock === true) {
      // Nobody sends it again, and the rotation may wait for us: it has to be here when the clock is right.
      message.nak(CLOCK_AGAIN)
      if (isTold) return
      if (acceptance.isNewest(message.data))
        logger.info(
          { code: error.code, err: error.message },
          'the bundle we hold has ended, waiting for a newer one',
        )
      else this.#tell(error)
    } else if (error.code === 'ERR_BUNDLE_REPLAYED' && message.redelivered) {
      // Delivered again after a newer one was accepted: superseded, not played again by somebody.
      message.ack()
    } else {
      message.term(error.code)
      this.#tell(error)
    }
  }

  #tell(error: RotorError): void {
    this.#p.logger.error({ code: error.code, err: error.message }, 'a bundle was refused')
    this.#report(error)
    this.#p.onEvent({ type: 'refused', code: error.code, message: error.message })
  }

  #report(error: RotorError): void {
    const { acceptance, reporter, clock } = this.#p
    const { version } = acceptance.highest
    reporter.update({
      lastError: {
        code: error.code,
        message: error.message.slice(0, 500),
        at: formatInstant(clock.now()),
        version,
      },
    })
  }
}
