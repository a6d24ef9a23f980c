/** Orders of an operator: checked, put into the state by compare-and-set, answered at once. */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { KTY, whatLacks } from '../src/bundle/signer.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { applyOrder, type OrderFacts } from '../src/rotation/orders.ts'
import type { RotationState } from '../src/rotation/state.ts'
import { type Clock, formatInstant } from '../src/time.ts'
import { parseCertificate } from '../src/trust/certificate.ts'
import { CROSS_PATH_LENGTH } from '../src/trust/issue.ts'
import { bundlePayload } from '../src/wire/bundle.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../src/wire/record.ts'
import { type Order, type OrderAnswer, order } from '../src/wire/requests.ts'
import type { Authority } from './authority/authority.ts'
import { noRootStore, payloadOf } from './loop/effects.ts'
import { heldRoots } from './loop/roots.ts'
import type { SignerStore } from './signers.ts'
import { readState, writeState } from './store.ts'

export interface OrdersOptions {
  readonly names: DomainNames
  readonly authority: Authority
  readonly signers: SignerStore
  readonly clock: Clock
  readonly logger: Logger
  /** Every agent of the domain with what it says of itself. */
  readonly agents: () => OrderFacts['agents']
  /** Called with the state that has the order in it. */
  readonly accepted: (state: RotationState) => void
}

/** Answers one request message; never throws. */
export async function handleOrder(nc: NatsConnection, message: Msg, options: OrdersOptions): Promise<void> {
  const { names, clock, logger, authority } = options
  let answer: OrderAnswer
  try {
    const wanted = decodeRecord(order, message.data, message.subject)
    await options.signers.refresh()
    for (;;) {
      const stored = await readState(nc, names)
      if (stored === null)
        throw new RotorError('ERR_ORDER_REFUSED', 'the domain has no state yet: the issuer is starting')
      const held = wanted.kind === 'rollback' ? await authority.list() : []
      const next = applyOrder(stored.state, wanted, clock.now(), { held, agents: options.agents() })
      if (wanted.kind === 'signer-rotate') assertCanSign(wanted)
      if (wanted.kind === 'root-rotate') await assertPossible(wanted, stored.state, options.authority)
      try {
        await writeState(nc, names, next, stored.revision, options.signers.of(payloadOf(next)))
        options.accepted(next)
        break
      } catch (cause) {
        if (RotorError.from(cause).code !== 'ERR_STATE_CONFLICT') throw cause
      }
    }
    logger.info(
      {
        kind: wanted.kind,
        epoch: wanted.epoch,
        force: wanted.force,
        reason: wanted.reason,
        by: wanted.by,
      },
      'order accepted',
    )
    answer = { ok: true, serverTime: formatInstant(clock.now()) }
  } catch (cause) {
    const error = RotorError.from(cause)
    logger.warn({ code: error.code, err: error.message }, 'an order was refused')
    answer = { ok: false, code: error.code, message: error.message, serverTime: formatInstant(clock.now()) }
  }
  message.respond(encodeRecord(answer))
}

/** Throws ERR_ORDER_REFUSED when this Node makes no such key. */
function assertCanSign({ signer = 'ed25519' }: Order): void {
  const lack = whatLacks(KTY[signer])
  if (lack !== null) throw new RotorError('ERR_ORDER_REFUSED', `order signer-rotate: ${lack}`)
}

/** What no waiting would mend. Throws ERR_ORDER_REFUSED. */
async function assertPossible(wanted: Order, state: RotationState, authority: Authority): Promise<void> {
  const bundle = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
  if (authority.rootStore === undefined) {
    const held = await heldRoots(authority, bundle, state.newestRoot)
    if (wanted.crossSign || !held.some(({ number }) => number > state.newestRoot)) throw noRootStore()
    return
  }
  const [pem = ''] = bundle.roots
  const { subject, pathLength } = parseCertificate(pem, 'root')
  if (wanted.crossSign && pathLength !== null && pathLength < CROSS_PATH_LENGTH) {
    throw new RotorError(
      'ERR_ORDER_REFUSED',
      `"${subject}" has the path length ${pathLength}, and no verifier takes a root below it; order without cross-signing`,
    )
  }
}
