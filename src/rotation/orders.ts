/** What an operator's order does to the state. Nothing moves here: the next turn carries it out. */
import { RotorError } from '../errors.ts'
import { type Duration, formatDuration, type Instant } from '../time.ts'
import type { Order } from '../wire/requests.ts'
import { bundleOf } from './payloads.ts'
import { noteOrder } from './record.ts'
import { rollbackTarget } from './rollback.ts'
import { describeChange } from './signers.ts'
import { situation } from './situation.ts'
import type { Observations, RotationState } from './state.ts'

/** An older order is a late duplicate or comes from a wrong clock (five minutes is also what Kerberos allows). */
const MAX_ORDER_AGE: Duration = 300_000

/** What an order is judged by, besides the state. */
export type OrderFacts = Pick<Observations, 'held' | 'agents'>

type Apply = (state: RotationState, order: Order, now: Instant, facts: OrderFacts) => RotationState

/**
 * The state with the order in it. Throws ERR_ORDER_REFUSED for an order that does not fit the state, and for one that
 * is too old: `docs/operations.md` says which order fits when.
 */
export function applyOrder(
  state: RotationState,
  order: Order,
  now: Instant,
  facts: OrderFacts,
): RotationState {
  const age = Math.abs(now - Date.parse(order.at))
  if (!(age <= MAX_ORDER_AGE)) {
    throw refuse(order, `expected one made within ${formatDuration(MAX_ORDER_AGE)}, found ${order.at}`)
  }
  const taken = APPLY[order.kind](state, order, now, facts)
  return { ...taken, pending: noteOrder(taken.pending, order) }
}

const refuse = ({ kind }: Order, problem: string): RotorError =>
  new RotorError('ERR_ORDER_REFUSED', `order ${kind}: ${problem}`)

/** Refused while a rotation is under way, unless the order adds `force` to it. */
const rotate: Apply = (state, order) => {
  assertNotPaused(state, order)
  const before = state.order?.kind === 'rotate' || state.order?.kind === 'root-rotate' ? state.order : null
  const underWay = state.phase !== 'steady' || before !== null
  const addsForce = order.force && state.order?.force !== true
  if (underWay && !addsForce) {
    throw refuse(order, `a rotation is under way (${describe(state)}); only force can be added to it`)
  }
  const { kind, crossSign } = before ?? order
  return { ...state, order: { ...order, kind, crossSign } }
}

/** Waits for the end of the rotation; refused while another order or an earlier change of the root is under way. */
const rotateRoot: Apply = (state, order) => {
  assertNotPaused(state, order)
  const { length } = bundleOf(state).roots
  if (length > 1) throw refuse(order, `${length} roots are trusted: the change before is not finished`)
  if (state.order !== null) throw refuse(order, `another order is under way (${describe(state)})`)
  return { ...state, order }
}

/** Takes the place of the order that began the rotation. */
const withdraw: Apply = (state, order) => {
  if (state.phase === 'distributing') return { ...state, order }
  const other = state.phase === 'converging' ? '; `rotor rollback` goes back from an epoch that signs' : ''
  throw refuse(order, `no authority waits for its first use (${describe(state)})${other}`)
}

const rollback: Apply = (state, order, now, { held }) => {
  if (state.phase !== 'converging' && state.phase !== 'steady') {
    const other = state.phase === 'distributing' ? '; `rotor withdraw` takes the next one back' : ''
    throw refuse(order, `nothing was replaced in this phase (${describe(state)})${other}`)
  }
  const s = situation(state, { ...NOTHING_SEEN, held }, {}, now)
  if (rollbackTarget(s) === null) {
    throw refuse(
      order,
      `expected an earlier authority that is trusted, not tainted, not about to end, and whose key is held; found none`,
    )
  }
  return { ...state, order }
}

/** Kept apart from `order`: it can come at any time, and ends with the proof that nobody trusts the authority. */
const taint: Apply = (state, order, now, { agents }) => {
  const { epoch, by, reason } = order
  const trusted = bundleOf(state).authorities
  const authority = trusted.find((one) => one.epoch === epoch)
  if (epoch === undefined || authority === undefined) {
    const epochs = trusted.map((one) => one.epoch).join(', ')
    throw refuse(order, `expected the epoch of a trusted authority (${epochs}), found ${epoch}`)
  }
  if (state.tainted[epoch] !== undefined) throw refuse(order, `epoch ${epoch} is tainted already`)
  const leaves = agents.flatMap(({ status }) =>
    status?.leaf.issuerEpoch === epoch ? [status.leaf.fingerprint] : [],
  )
  const tainted = {
    ...state.tainted,
    [epoch]: { by, reason, at: now, sha256: authority.sha256, leaves, removed: null },
  }
  return { ...state, tainted }
}

const pause: Apply = (state, order, now) => {
  if (state.paused !== null)
    throw refuse(order, `paused already by ${state.paused.by}: ${state.paused.reason}`)
  return { ...state, paused: { by: order.by, reason: order.reason, at: now } }
}

const resume: Apply = (state, order) => {
  if (state.paused === null) throw refuse(order, `the rotation is not paused (${describe(state)})`)
  return { ...state, paused: null }
}

/** Beside any phase. While one is under way only force can be added to it. */
const rotateSigner: Apply = (state, order, now) => {
  assertNotPaused(state, order)
  const { by, reason, force } = order
  const before = state.signer
  if (before === null) {
    const change = {
      by,
      reason,
      at: now,
      kind: order.signer ?? 'ed25519',
      force,
      withdrawn: false,
      introduced: null,
    }
    return { ...state, signer: change }
  }
  if (before.withdrawn || before.force || !force) {
    throw refuse(order, `one is under way (${describeChange(state, now)}); only force can be added to it`)
  }
  return { ...state, signer: { ...before, by, reason, force } }
}

const withdrawSigner: Apply = (state, order, now) => {
  const { by, reason } = order
  const before = state.signer
  if (before === null) throw refuse(order, describeChange(state, now))
  if (before.introduced === null) return { ...state, signer: null }
  return { ...state, signer: { ...before, by, reason, withdrawn: true } }
}

const APPLY: Readonly<Record<Order['kind'], Apply>> = {
  rotate,
  'root-rotate': rotateRoot,
  withdraw,
  rollback,
  taint,
  pause,
  resume,
  'signer-rotate': rotateSigner,
  'signer-withdraw': withdrawSigner,
}

const NOTHING_SEEN: Observations = {
  held: [],
  roots: [],
  signedBy: {},
  published: 0,
  agents: [],
  servers: [],
}

function assertNotPaused({ paused }: RotationState, order: Order): void {
  if (paused !== null)
    throw refuse(order, `the rotation is paused by ${paused.by}: ${paused.reason}; \`rotor resume\` first`)
}

function describe(state: RotationState): string {
  const { order } = state
  const what = order?.kind === 'root-rotate' ? ', a new root is ordered' : ', ordered'
  const ordered = order === null ? '' : `${what} by ${order.by}${order.force ? ', forced' : ''}`
  return `${state.phase}, epoch ${state.active} signs${ordered}`
}
