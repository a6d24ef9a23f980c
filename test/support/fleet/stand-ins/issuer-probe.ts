import { RotorError } from '../../../../src/errors.ts'
import { sleep } from '../../../../src/time.ts'
import type { Certificate } from '../../../../src/trust/certificate.ts'
import { handshake } from '../handshake.ts'
import { currentIssuer } from '../issuer-machine.ts'
import type { Leaf } from '../leaf.ts'

/** How often it looks decides nothing, and costs steps. */
const SLOW = 300

export async function probeListener(
  { address }: { readonly address: string },
  { material }: { readonly material: { readonly ca: string; readonly certificate: string } },
) {
  const { parts } = currentIssuer()
  const servers = parts.agents.filter(({ role }) => role === 'server')
  await sleep(SLOW)
  return handshake({ ...parts, servers }, address, material).catch((cause) => {
    throw new RotorError('ERR_PROBE_UNREACHABLE', `${address}: ${cause}`)
  })
}

export const issuerAmong = (leaf: Leaf, authorities: readonly Certificate[]): Certificate | undefined =>
  authorities.find(({ sha256 }) => sha256 === leaf.issuer)
