/** Orders of an operator: checked, put into the state by compare-and-set, answered at once. */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { applyOrder } from '../src/rotation/orders.ts'
import { type Clock, formatInstant } from '../src/time.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../src/wire/record.ts'
import { type OrderAnswer, order } from '../src/wire/requests.ts'
import { readState, writeState } from './store.ts'

export interface OrdersOptions {
  readonly names: DomainNames
  readonly clock: Clock
  readonly logger: Logger
  /** Called when the state has a new order. */
  readonly accepted: () => void
}

/** Answers one request message; never throws. */
export async function handleOrder(nc: NatsConnection, message: Msg, options: OrdersOptions): Promise<void> {
  const { names, clock, logger } = options
  let answer: OrderAnswer
  try {
    const wanted = decodeRecord(order, message.data, message.subject)
    for (;;) {
      const stored = await readState(nc, names)
      if (stored === null)
        throw new RotorError('ERR_ORDER_REFUSED', 'the domain has no state yet: the issuer is starting')
      const next = applyOrder(stored.state, wanted, clock.now())
      try {
        await writeState(nc, names, next, stored.revision)
        break
      } catch (cause) {
        if (RotorError.from(cause).code !== 'ERR_STATE_CONFLICT') throw cause
      }
    }
    logger.info(
      { kind: wanted.kind, force: wanted.force, reason: wanted.reason, by: wanted.by },
      'order accepted',
    )
    options.accepted()
    answer = { ok: true, serverTime: formatInstant(clock.now()) }
  } catch (cause) {
    const error = RotorError.from(cause)
    logger.warn({ code: error.code, err: error.message }, 'an order was refused')
    answer = { ok: false, code: error.code, message: error.message, serverTime: formatInstant(clock.now()) }
  }
  message.respond(encodeRecord(answer))
}
