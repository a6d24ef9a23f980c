/** The port to whatever holds the CA keys of a domain. Adapters pass one contract test. */
import type { HeldAuthority } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import type { SigningRequest } from '../../src/trust/csr.ts'

export interface LeafRequest {
  /** For its key and its proof of possession; the names in it count for nothing here. */
  readonly csr: SigningRequest
  readonly commonName: string
  readonly names: {
    readonly dns: readonly string[]
    readonly ip: readonly string[]
    readonly uri: readonly string[]
  }
  readonly notBefore: Instant
  /** Cut to the end of the authority: a leaf never outlives its issuer. */
  readonly notAfter: Instant
}

/**
 * Safe to call from several places at once. Every call may be repeated after a failure: `prepare` gives back what
 * is there, `delete` of something gone is no error.
 */
export interface Authority {
  /** Makes key and certificate of an epoch, or returns the ones it has. The authority does not sign by this. */
  prepare(
    epoch: Epoch,
    window: { readonly notBefore: Instant; readonly notAfter: Instant },
  ): Promise<HeldAuthority>
  /** Every authority with a key, oldest first. */
  list(): Promise<readonly HeldAuthority[]>
  /** Issues a leaf; the chain in PEM, leaf first, then the authority. Throws ERR_AUTHORITY_MISSING. */
  sign(epoch: Epoch, request: LeafRequest): Promise<string>
  /** Removes key and certificate. */
  delete(epoch: Epoch): Promise<void>
  /** Roots in PEM, the one that signs new authorities first. */
  roots(): Promise<readonly string[]>
}
