/** Is everything well again? What is asked when all is repaired. */
import { bundleOf } from '../../../src/rotation/payloads.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import { epochAt, type Schedule } from '../../../src/schedule.ts'
import type { Instant } from '../../../src/time.ts'
import type { AgentMachine } from './agent-machine.ts'
import { readLeaf } from './leaf.ts'

/** What is not well yet, or null. */
export function missing(
  state: RotationState | null,
  agents: readonly AgentMachine[],
  schedule: Schedule,
  now: Instant,
): string | null {
  if (state === null) return 'there is no state'
  const epoch = epochAt(schedule, now)
  if (state.active < epoch) return `epoch ${state.active} signs in epoch ${epoch}, phase ${state.phase}`
  const tainted = Object.keys(state.tainted)
  if (tainted.length > 0) return `epoch ${tainted.join(', ')} is tainted, and not proven to be gone`
  const { signers } = bundleOf(state)
  if (state.signer !== null || signers.length > 1) return 'a change of the signer is under way'
  for (const machine of agents) {
    const readable = machine.disk.readable()
    const leaf = readable === null ? null : readLeaf(readable.stored.material.certificate)
    if (machine.version !== state.version) {
      return `${machine.name} uses version ${machine.version} of ${state.version}, phase ${state.phase}`
    }
    if (leaf?.epoch !== state.active) return `${machine.name} holds a leaf of epoch ${leaf?.epoch}`
  }
  return null
}
