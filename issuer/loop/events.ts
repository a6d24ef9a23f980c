/** What an issuer tells its owner, synchronously; `before` and `after` stand on both sides of every write. */
import type { Effect, Straggler } from '../../src/rotation/state.ts'

export type IssuerEvent =
  | {
      readonly type: 'commit'
      readonly when: 'before' | 'after'
      readonly move: string
      readonly version: number
      readonly reason: string
    }
  | { readonly type: 'effect'; readonly when: 'before' | 'after'; readonly effect: Effect }
  | { readonly type: 'waiting'; readonly reason: string; readonly waitingFor: readonly Straggler[] }
  /** The state was lost or older than what agents have, and was made again from this version of the kept bundles. */
  | { readonly type: 'rebuilt'; readonly version: number }
  /** This issuer leads from now on: everything it writes carries this number. */
  | { readonly type: 'leads'; readonly fence: number }
  /** This issuer does not lead; `leader` as it is known. */
  | { readonly type: 'stands-by'; readonly leader: string | null }
