/** What an agent tells its owner. */
import type { Epoch } from '../src/schedule.ts'
import type { ApplyStep } from '../src/wire/status.ts'

/** Told synchronously. `step` comes when a step begins. */
export type AgentEvent =
  | { readonly type: 'step'; readonly step: ApplyStep; readonly version: number }
  | {
      readonly type: 'applied'
      readonly version: number
      readonly epoch: Epoch
      readonly fingerprint: string
      readonly tookMs: number
    }
  | {
      readonly type: 'rolled-back'
      readonly version: number
      readonly code: string
      readonly message: string
    }
  | { readonly type: 'refused'; readonly code: string; readonly message: string }
  /** Only one server changes at a time, and all others after the first of them: an agent wants the turn, has it, gave it back. */
  | { readonly type: 'turn'; readonly turn: 'wanted' | 'ours' | 'over'; readonly version: number }
  /** The control connection runs on the new leaf. */
  | { readonly type: 'link'; readonly version: number; readonly tookMs: number }
