/** What an operator's order does to the state. Nothing moves here: the next turn carries it out. */
import { RotorError } from '../errors.ts'
import { type Duration, formatDuration, type Instant } from '../time.ts'
import type { Order } from '../wire/requests.ts'
import { bundleOf } from './payloads.ts'
import type { RotationState } from './state.ts'

/** An older order is a late duplicate or comes from a wrong clock (five minutes is also what Kerberos allows). */
const MAX_ORDER_AGE: Duration = 300_000

/**
 * The state with the order in it. A rotation is refused while one is under way, unless the order adds `force` to it; a
 * new root waits for the end of the rotation, and is refused while another order or an earlier change of the root is
 * under way. Throws ERR_ORDER_REFUSED for these, and for an order that is too old.
 */
export function applyOrder(state: RotationState, order: Order, now: Instant): RotationState {
  const refuse = (problem: string) => new RotorError('ERR_ORDER_REFUSED', `order ${order.kind}: ${problem}`)
  const age = Math.abs(now - Date.parse(order.at))
  if (!(age <= MAX_ORDER_AGE)) {
    throw refuse(`expected one made within ${formatDuration(MAX_ORDER_AGE)}, found ${order.at}`)
  }
  if (order.kind === 'root-rotate') {
    const { length } = bundleOf(state).roots
    if (length > 1) throw refuse(`${length} roots are trusted: the change before is not finished`)
    if (state.order !== null) throw refuse(`another order is under way (${describe(state)})`)
    return { ...state, order }
  }
  const underWay = state.phase !== 'steady' || state.order !== null
  const addsForce = order.force && state.order?.force !== true
  if (underWay && !addsForce) {
    throw refuse(`a rotation is under way (${describe(state)}); only force can be added to it`)
  }
  const { kind, crossSign } = state.order ?? order
  return { ...state, order: { ...order, kind, crossSign } }
}

function describe(state: RotationState): string {
  const { order } = state
  const what = order?.kind === 'root-rotate' ? ', a new root is ordered' : ', ordered'
  const ordered = order === null ? '' : `${what} by ${order.by}${order.force ? ', forced' : ''}`
  return `${state.phase}, epoch ${state.active} signs${ordered}`
}
