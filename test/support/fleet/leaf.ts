/** A leaf certificate of the simulation: its text says all there is, so signing one costs nothing. */
import { createHash } from 'node:crypto'
import type { Epoch } from '../../../src/schedule.ts'
import type { Instant } from '../../../src/time.ts'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import { remembered } from './remembered/memory.ts'

export interface Leaf {
  readonly of: string
  readonly serial: number
  readonly epoch: Epoch
  /** SHA-256 of the certificate of its authority. */
  readonly issuer: string
  readonly notBefore: Instant
  readonly notAfter: Instant
}

/** What stands in `tls.crt`. */
export const writeLeaf = (leaf: Leaf): string => JSON.stringify(leaf)

/** Throws what is no leaf of the simulation: it never left it. */
export const readLeaf = remembered(
  (text: string): Leaf => JSON.parse(text),
  (text) => [text],
)

export const sha256 = remembered(
  (text: string): string => createHash('sha256').update(text).digest('hex'),
  (text) => [text],
)

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g

/** Fingerprints of the authorities in a trust file. */
export const trustedIn = remembered(
  (ca: string): ReadonlySet<string> =>
    new Set((ca.match(BLOCK) ?? []).map((pem) => parseCertificate(pem, 'ca.pem').sha256)),
  (ca) => [ca],
)
