/**
 * What of a PKI mount is ours? Names say it, so that an issuer that starts anew knows what it left half made.
 *
 *   key          rotor-<domain>-<epoch>-<suffix>   unique: OpenBao refuses a key name that was used (so does Vault)
 *   certificate  CN "<domain> authority epoch <epoch> <suffix>", O "<domain>"
 *   issuer       rotor-<domain>-<epoch>            given last, and once: who gets it has made the authority
 *
 * A suffix is when it was made (seconds since 1970, 8 hex digits) and 4 random bytes.
 */
import { randomBytes } from 'node:crypto'
import type { Epoch } from '../../../src/schedule.ts'
import type { Instant } from '../../../src/time.ts'
import type { Certificate } from '../../../src/trust/certificate.ts'

/** One try to make the authority of an epoch. */
export interface Attempt {
  readonly epoch: Epoch
  readonly suffix: string
}

export const newAttempt = (epoch: Epoch, now: Instant): Attempt => ({
  epoch,
  suffix:
    Math.floor(now / 1000)
      .toString(16)
      .padStart(8, '0') + randomBytes(4).toString('hex'),
})

export const madeAt = ({ suffix }: Pick<Attempt, 'suffix'>): Instant =>
  Number.parseInt(suffix.slice(0, 8), 16) * 1000

/** Names are unique among the issuers of a mount, and giving one is atomic in the engine. */
export const issuerName = (domain: string, epoch: Epoch): string => `rotor-${domain}-${epoch}`

export const keyName = (domain: string, { epoch, suffix }: Attempt): string =>
  `rotor-${domain}-${epoch}-${suffix}`

/** At most 64 characters (ub-common-name): the domain is cut, it stands whole in the organisation. */
export function commonName(domain: string, { epoch, suffix }: Attempt): string {
  const end = ` authority epoch ${epoch} ${suffix}`
  return domain.slice(0, 64 - end.length) + end
}

/** Roles at the mount of the authorities, by what their leaves are for: no request can choose that. */
export const ROLE_ENDINGS = { both: '', clientAuth: '-client', serverAuth: '-server' } as const

/** Which try made this key; null for a key of somebody else. */
export function attemptOfKey(domain: string, name: string): Attempt | null {
  const attempt = attemptIn(name.match(/-(-?\d{1,15})-([0-9a-f]{16})$/))
  return attempt !== null && keyName(domain, attempt) === name ? attempt : null
}

/** Which try made this certificate; null for one of somebody else. */
export function attemptOf(domain: string, certificate: Certificate): Attempt | null {
  const fields = certificate.subject.split(', ')
  const name = fields.find((field) => field.startsWith('CN='))?.slice(3) ?? ''
  const attempt = attemptIn(name.match(/ authority epoch (-?\d{1,15}) ([0-9a-f]{16})$/))
  if (attempt === null || fields.length !== 2 || !fields.includes(`O=${domain}`)) return null
  return commonName(domain, attempt) === name ? attempt : null
}

function attemptIn(found: RegExpMatchArray | null): Attempt | null {
  const [, epoch, suffix] = found ?? []
  return epoch === undefined || suffix === undefined ? null : { epoch: Number(epoch), suffix }
}
