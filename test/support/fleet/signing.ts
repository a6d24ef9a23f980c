/** The answer to a signing request, as `issuer/signing/signing.ts` gives it, for leaves of the simulation. */
import type { RotorErrorCode } from '../../../src/errors.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import { leafLifetime, type Schedule } from '../../../src/schedule.ts'
import { formatInstant, type Instant } from '../../../src/time.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import type { SignAnswer } from '../../../src/wire/requests.ts'
import type { KeyStore } from './key-store.ts'
import { readLeaf, writeLeaf } from './leaf.ts'
import type { SimulatedProof } from './stand-ins/keys.ts'

export interface SigningFacts {
  /** The bundle this issuer knows; null until it has read the state. */
  readonly bundle: BundlePayload | null
  /** Authorities that were tainted, as this issuer knows it. */
  readonly tainted: RotationState['tainted']
  readonly keys: KeyStore
  readonly schedule: Schedule
  readonly now: Instant
  readonly serial: number
}

/** A leaf of the authority that signs by that bundle, for who shows a valid leaf of one that is trusted in it. */
export function signLeaf(agent: string, proof: string, facts: SigningFacts): SignAnswer {
  const { bundle, tainted, keys, schedule, now, serial } = facts
  const serverTime = formatInstant(now)
  const refuse = (code: RotorErrorCode, message: string): SignAnswer => ({
    ok: false,
    code,
    message,
    serverTime,
  })
  if (bundle === null) return refuse('ERR_SIGN_BUSY', 'the issuer is starting')
  if (tainted[bundle.epoch] !== undefined) return refuse('ERR_SIGN_BUSY', 'the signer is tainted')
  const { claims, leaf }: SimulatedProof = JSON.parse(proof)
  const shown = readLeaf(leaf)
  const trusted = bundle.authorities.some(({ sha256 }) => sha256 === shown.issuer)
  if (!trusted || now - schedule.lead > shown.notAfter) return refuse('ERR_SIGN_PROOF', 'not a valid leaf')
  if (Math.abs(Date.parse(claims.at) - now) > schedule.validity) return refuse('ERR_SIGN_PROOF', 'too old')
  const key = keys.get(bundle.epoch)
  if (key === undefined) return refuse('ERR_AUTHORITY_MISSING', `no key of epoch ${bundle.epoch}`)
  const notBefore = Math.max(key.notBefore, now - schedule.lead)
  const notAfter = Math.min(key.notAfter, now + leafLifetime(schedule))
  if (notAfter <= notBefore) return refuse('ERR_SIGN_REFUSED', 'nothing is left of the window')
  const { epoch, sha256: issuer } = key
  return {
    ok: true,
    epoch,
    chain: writeLeaf({ of: agent, serial, epoch, issuer, notBefore, notAfter }),
    serverTime,
  }
}
