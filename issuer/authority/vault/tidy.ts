/**
 * What has to be mended in the engine after a crash, an outage or a lost race? Pure. What can become an authority
 * becomes one: the rotation uses it or deletes it by its own rules. Removed is what never can.
 */
import type { Duration, Instant } from '../../../src/time.ts'
import type { HeldIssuer, HeldKey, Holdings } from './inventory.ts'
import { type Attempt, madeAt } from './names.ts'

export interface Mending {
  /** Gets the name of its epoch: all that was missing. */
  readonly name: readonly HeldIssuer[]
  readonly removeIssuers: readonly HeldIssuer[]
  readonly removeKeys: readonly HeldKey[]
}

export interface Knowledge {
  readonly now: Instant
  /** How old a thing must be when we do not know who works on it. */
  readonly margin: Duration
  /** Suffixes of our own tries: nobody else works on those. */
  readonly ours: ReadonlySet<string>
}

export function mending({ issuers, keys }: Holdings, { now, margin, ours }: Knowledge): Mending {
  const isLeft = (attempt: Attempt) => ours.has(attempt.suffix) || madeAt(attempt) + margin < now
  const taken = new Set(issuers.filter((issuer) => issuer.isNamed).map((issuer) => issuer.epoch))
  const name: HeldIssuer[] = []
  const removeIssuers: HeldIssuer[] = []
  for (const issuer of issuers) {
    if (issuer.isNamed && issuer.keyId !== null) continue
    const hasEnded = issuer.certificate.notAfter + margin < now
    if (hasEnded) removeIssuers.push(issuer)
    else if (issuer.isNamed) continue
    else if (taken.has(issuer.epoch)) removeIssuers.push(issuer)
    else if (isLeft(issuer) && issuer.keyId !== null) {
      taken.add(issuer.epoch)
      name.push(issuer)
    } else if (isLeft(issuer)) removeIssuers.push(issuer)
  }
  const staying = new Set(issuers.filter((each) => !removeIssuers.includes(each)).map(({ keyId }) => keyId))
  const leaving = new Set(removeIssuers.map(({ keyId }) => keyId))
  const removeKeys = keys.filter((key) => !staying.has(key.id) && (leaving.has(key.id) || isLeft(key)))
  return { name, removeIssuers, removeKeys }
}
