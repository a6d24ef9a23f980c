/** Which earlier authority may sign again? One that everybody trusts, with its key in our hands and time to live. */
import type { Epoch } from '../schedule.ts'
import { endOf, keyOf, type Situation } from './situation.ts'

/**
 * May this authority of the bundle sign again? Never one that is tainted, whose key is lost, or that ends before the
 * next rotation could follow it: half an epoch is the least.
 */
function maySignAgain(s: Situation, epoch: Epoch): boolean {
  const status = s.bundle.authorities.find((authority) => authority.epoch === epoch)?.status
  return (
    status === 'retiring' &&
    s.state.tainted[epoch] === undefined &&
    keyOf(s, epoch) !== undefined &&
    s.now < endOf(s, epoch) - Math.max(s.schedule.lead, s.schedule.epochDuration / 2)
  )
}

/** Where an operator's order leads to: the newest one before the signer. Null when there is none. */
export function rollbackTarget(s: Situation): Epoch | null {
  const { active } = s.state
  const earlier = s.bundle.authorities
    .map(({ epoch }) => epoch)
    .filter((epoch) => epoch < active && maySignAgain(s, epoch))
  return earlier.length === 0 ? null : Math.max(...earlier)
}

/** Where the issuer goes back to by itself: to where the rotation came from, and never further. */
export function automaticTarget(s: Situation): Epoch | null {
  const { state } = s
  if (state.phase !== 'converging') return null
  return state.previous < state.active && maySignAgain(s, state.previous) ? state.previous : null
}
