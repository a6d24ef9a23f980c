/** The gate for bundles: what passes is remembered on disk before anything else happens, and never passes twice. */
import { type AcceptedBundle, acceptBundle } from '../src/bundle/accept.ts'
import { openEnvelope } from '../src/bundle/envelope.ts'
import { payloadDigest } from '../src/bundle/payload.ts'
import { RotorError } from '../src/errors.ts'
import type { IdentityDirectory } from '../src/identity/directory.ts'
import type { AcceptedState } from '../src/identity/state.ts'
import type { Clock } from '../src/time.ts'

/** A node that was enrolled holds at least the bundle it was enrolled with. */
type EnrolledState = AcceptedState & { highest: NonNullable<AcceptedState['highest']> }

export class Acceptance {
  readonly #directory: IdentityDirectory
  readonly #clock: Clock
  #state: EnrolledState

  private constructor(directory: IdentityDirectory, clock: Clock, state: EnrolledState) {
    this.#directory = directory
    this.#clock = clock
    this.#state = state
  }

  static async open(directory: IdentityDirectory, clock: Clock): Promise<Acceptance> {
    const state = await directory.readState()
    if (state?.highest == null) {
      throw new RotorError(
        'ERR_IDENTITY_MISSING',
        `${directory.path}: expected a state.json with an accepted bundle; enrol this node first`,
      )
    }
    return new Acceptance(directory, clock, { ...state, highest: state.highest })
  }

  /** Highest version ever accepted. */
  get highest(): { readonly version: number; readonly digest: string } {
    return this.#state.highest
  }

  /**
   * Checks an envelope by all rules of design section 4. The newest accepted bundle passes again (a step after
   * acceptance may have failed); anything older is a replay. Throws the ERR_BUNDLE_* code of the first rule broken.
   */
  async accept(envelope: Uint8Array): Promise<AcceptedBundle> {
    const { highest, signers, roots } = this.#state
    const again = this.isNewest(envelope)
    const accepted = await acceptBundle(envelope, {
      domain: this.#state.domain,
      pinned: signers,
      highest: again ? highest.version - 1 : highest.version,
      held: again ? null : { ...highest, roots },
      now: this.#clock.now(),
    })
    if (!again) await this.#remember(accepted, envelope)
    return accepted
  }

  /** Is this the newest accepted bundle? It may have ended since. */
  isNewest(envelope: Uint8Array): boolean {
    return digestOf(envelope) === this.#state.highest.digest
  }

  /** The newest accepted bundle, from disk: what a restarted agent goes on with. */
  async newest(): Promise<AcceptedBundle> {
    return this.accept(Buffer.from(this.#state.envelope ?? '', 'utf8'))
  }

  /** The generation that was proven last. */
  get proven(): AcceptedState['proven'] {
    return this.#state.proven
  }

  /** Notes on disk that a generation was proven. */
  async markProven(proven: NonNullable<AcceptedState['proven']>): Promise<void> {
    const next = { ...this.#state, proven }
    await this.#directory.writeState(next)
    this.#state = next
  }

  async #remember(accepted: AcceptedBundle, envelope: Uint8Array): Promise<void> {
    const next: EnrolledState = {
      ...this.#state,
      highest: { version: accepted.payload.version, digest: accepted.digest },
      signers: accepted.payload.signers,
      roots: accepted.payload.roots,
      envelope: Buffer.from(envelope).toString('utf8'),
    }
    await this.#directory.writeState(next)
    this.#state = next
  }
}

/** Digest of the payload, or null for what can not be opened: the real refusal comes from the rules. */
function digestOf(envelope: Uint8Array): string | null {
  try {
    return payloadDigest(openEnvelope(envelope).payload)
  } catch {
    return null
  }
}
