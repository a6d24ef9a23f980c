/** The port to whatever holds the CA keys of a domain. Adapters pass one contract test. */
import type { Effect, HeldAuthority, HeldRoot } from '../../src/rotation/state.ts'
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
  /** What it is for. @default both */
  readonly usages?: readonly ('serverAuth' | 'clientAuth')[]
  readonly notBefore: Instant
  /** Cut to the end of the authority: a leaf never outlives its issuer. */
  readonly notAfter: Instant
}

/**
 * Safe to call from several places at once. Every call may be repeated after a failure: `prepare` gives back what
 * is there, `delete` of something gone is no error.
 */
export interface Authority {
  /**
   * Makes key and certificate of an epoch, or returns the ones it has, whoever made them. The authority does not sign by
   * this. `root`: the SHA-256 of the root to sign it; nothing is made under another one. @default the first of `roots`
   */
  prepare(
    epoch: Epoch,
    window: { readonly notBefore: Instant; readonly notAfter: Instant },
    root?: string,
  ): Promise<HeldAuthority>
  /** Every authority with a key, oldest first. */
  list(): Promise<readonly HeldAuthority[]>
  /**
   * The next `list` does not answer from memory: who leads from now on must not decide by what it saw while another one
   * made and deleted. Absent where there is no memory.
   */
  doubt?(): void
  /**
   * Issues a leaf; the chain in PEM, leaf first, then the authority, then what leads to another root while two signed
   * each other's key. Throws ERR_AUTHORITY_MISSING.
   */
  sign(epoch: Epoch, request: LeafRequest): Promise<string>
  /**
   * This one signs now, and a bundle that everybody trusts says so: the store may tell others. What we sign does not
   * depend on it.
   */
  activate(epoch: Epoch): Promise<void>
  /** Removes key and certificate. */
  delete(epoch: Epoch): Promise<void>
  /** Roots in PEM, the one that signs new authorities first. */
  roots(): Promise<readonly string[]>
  /** Where new roots are made; absent when somebody makes them in another place, as the operator of an engine does. */
  readonly rootStore?: RootStore
}

export type WantedRoot = Omit<Extract<Effect, { kind: 'create-root' }>, 'kind'>

/** Keys of roots. As with authorities, every call may be repeated. */
export interface RootStore {
  /** Every root with a key, oldest first. */
  held(): Promise<readonly HeldRoot[]>
  /**
   * Makes a root with a key of its own, or returns the one with this number. With `cross` it and the named root also
   * sign each other's key. Throws ERR_AUTHORITY_MISSING when that one is not held.
   */
  create(wanted: WantedRoot): Promise<HeldRoot>
  /** Removes key, certificate and what it signed for others. */
  delete(number: number): Promise<void>
}
