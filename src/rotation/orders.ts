/** What an operator's order does to the state. Nothing moves here: the next turn carries it out. */
import { RotorError } from '../errors.ts'
import { type Duration, formatDuration, type Instant } from '../time.ts'
import type { Order } from '../wire/requests.ts'
import type { RotationState } from './state.ts'

/** An older order is a late duplicate or comes from a wrong clock (five minutes is also what Kerberos allows). */
const MAX_ORDER_AGE: Duration = 300_000

/**
 * The state with the order in it. Throws ERR_ORDER_REFUSED for an order that is too old, and while a rotation is
 * under way, unless the order adds `force` to it.
 */
export function applyOrder(state: RotationState, order: Order, now: Instant): RotationState {
  const age = Math.abs(now - Date.parse(order.at))
  if (!(age <= MAX_ORDER_AGE)) {
    throw new RotorError(
      'ERR_ORDER_REFUSED',
      `order ${order.kind}: expected one made within ${formatDuration(MAX_ORDER_AGE)}, found ${order.at}`,
    )
  }
  const underWay = state.phase !== 'steady' || state.order !== null
  const addsForce = order.force && state.order?.force !== true
  if (underWay && !addsForce) {
    throw new RotorError(
      'ERR_ORDER_REFUSED',
      `order ${order.kind}: a rotation is under way (${describe(state)}); only force can be added to it`,
    )
  }
  return { ...state, order }
}

function describe(state: RotationState): string {
  const ordered =
    state.order === null ? '' : `, ordered by ${state.order.by}${state.order.force ? ', forced' : ''}`
  return `${state.phase}, epoch ${state.active} signs${ordered}`
}
