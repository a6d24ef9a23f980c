/** What does this agent get, if it gets anything? The policy of its entry, put to one request. Pure. */
import type { AgentEntry } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import { leafLifetime, type Schedule } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import type { SigningRequest } from '../../src/trust/csr.ts'
import { algorithmOfKey, kindOf } from '../../src/trust/keys.ts'
import type { LeafRequest } from '../authority/authority.ts'

/**
 * The leaf that this request leads to: names, usages and life are those of the entry, whatever was asked for. Throws
 * ERR_SIGN_REFUSED with the reason when it asks for a name that the entry has not, or has a key of another kind.
 */
export function leafFor(
  csr: SigningRequest,
  entry: AgentEntry,
  spiffeId: string,
  schedule: Schedule,
  now: Instant,
): LeafRequest {
  assertNames(csr, entry, spiffeId)
  assertKey(csr, entry)
  const { name, usages } = entry
  const names = { dns: entry.names.dns, ip: entry.names.ip, uri: [spiffeId, ...entry.names.uri] }
  const lifetime = Math.min(leafLifetime(schedule), entry.lifetime ?? Number.POSITIVE_INFINITY)
  // A leaf is renewed after two thirds of its life: with much of it in the past it would be due at once.
  const notBefore = now - Math.min(schedule.lead, lifetime / 2)
  const wanted = usages === undefined ? {} : { usages }
  return { csr, commonName: name, names, ...wanted, notBefore, notAfter: now + lifetime }
}

/** A request may ask for less than the policy gives, never for more. */
function assertNames({ names: asked }: SigningRequest, { name, names }: AgentEntry, spiffeId: string): void {
  const outside = [
    ...asked.dns.filter((dns) => !names.dns.includes(dns)),
    ...asked.ip.filter((ip) => !names.ip.includes(ip)),
    ...asked.uri.filter((uri) => uri !== spiffeId && !names.uri.includes(uri)),
  ]
  if (outside.length > 0) {
    throw new RotorError('ERR_SIGN_REFUSED', `names outside the policy of ${name}: ${outside.join(', ')}`)
  }
}

function assertKey({ publicKey }: SigningRequest, { name, keys }: AgentEntry): void {
  const algorithm = algorithmOfKey(publicKey)
  if (keys === undefined || (algorithm !== null && keys.includes(algorithm))) return
  throw new RotorError(
    'ERR_SIGN_REFUSED',
    `expected a ${keys.join(' or ')} key for ${name}, found ${algorithm ?? kindOf(publicKey)}`,
  )
}
