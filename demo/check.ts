/** What holds at the end of a run, asked from outside: each server by a handshake, each agent by its record. */
import { join } from 'node:path'
import { asOperator } from '../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../src/domain/overview.ts'
import { readIdentity } from '../src/identity/read.ts'
import { probeListener } from '../src/probe/probe.ts'
import { parseCertificates } from '../src/trust/certificate.ts'
import { assertIssuedBy } from '../src/trust/chain.ts'
import type { LocalDomain } from './domain.ts'

export interface ServerFinding {
  readonly name: string
  readonly version: string
  /** Epoch of the authority that issued the leaf it serves; null when no trusted one did. */
  readonly servedEpoch: number | null
  readonly fingerprint: string
}

export interface Findings {
  readonly overview: Overview
  readonly servers: readonly ServerFinding[]
}

export async function inspectDomain(domain: LocalDomain): Promise<Findings> {
  const overview = await asOperator(domain.founded.issuerConfig, ({ nc, names, config }) =>
    gatherOverview(nc, names, config, Date.now()),
  )
  const identity = await readIdentity(join(domain.dir, 'issuer', 'identity'))
  const trusted = parseCertificates(identity.ca, 'ca.pem')
  const epochOf = new Map(overview.authorities.map((a) => [a.sha256, a.epoch]))
  const servers = await Promise.all(
    domain.plans.map(async ({ name, host, clientPort }, i) => {
      const result = await probeListener(
        { kind: 'client', address: `${host}:${clientPort}` },
        { material: identity },
      )
      const issuer = trusted.find((authority) => {
        try {
          assertIssuedBy(result.served, authority)
          return true
        } catch {
          return false
        }
      })
      return {
        name,
        version: domain.servers[i]?.version ?? result.serverVersion ?? 'unknown',
        servedEpoch: issuer === undefined ? null : (epochOf.get(issuer.sha256) ?? null),
        fingerprint: result.served.sha256,
      }
    }),
  )
  return { overview, servers }
}
