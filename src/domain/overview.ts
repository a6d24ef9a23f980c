/** The state of a domain on one screen: who has what, who is waited for. Reads records only, changes nothing. */
import { jetstream } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../errors.ts'
import { rotationState } from '../rotation/state.ts'
import { retry } from '../tasks.ts'
import type { Instant } from '../time.ts'
import { type AuthorityStatus, bundlePayload } from '../wire/bundle.ts'
import type { DomainNames } from '../wire/names.ts'
import { decodeRecord } from '../wire/record.ts'
import { type IssuerReport, issuerReport, REPORT_KEY } from '../wire/report.ts'
import { type AgentStatus, agentStatus } from '../wire/status.ts'
import type { IssuerConfig } from './config.ts'

export interface Overview {
  readonly domain: string
  readonly at: Instant
  readonly version: number
  readonly phase: string
  readonly active: number
  /** Why nothing moves; `not-due` is the usual one. */
  readonly reason: string
  readonly since: string | null
  readonly waitingFor: IssuerReport['waitingFor']
  /** A `rotate now` is under way. */
  readonly ordered: boolean
  readonly expiresAt: string
  readonly authorities: readonly { epoch: number; status: AuthorityStatus; sha256: string }[]
  readonly agents: readonly { name: string; role: string; status: AgentStatus | null }[]
  readonly servers: IssuerReport['servers']
  /** Connections that do not stand on the signing authority; null before they were counted. */
  readonly census: IssuerReport['census']
}

/**
 * Throws ERR_RECORD_INVALID for records we can not read, ERR_NATS_UNAVAILABLE when the domain has no state. A server
 * that reloads in this moment may say that there is no JetStream: it is asked again for a few seconds.
 */
export async function gatherOverview(
  nc: NatsConnection,
  names: DomainNames,
  config: IssuerConfig,
  now: Instant,
): Promise<Overview> {
  const worthwhile = (cause: unknown): boolean => !RotorError.is(cause)
  try {
    return await retry(() => gatherOnce(nc, names, config, now), { tries: 10, worthwhile })
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_NATS_UNAVAILABLE', names.stateBucket)
  }
}

async function gatherOnce(
  nc: NatsConnection,
  names: DomainNames,
  config: IssuerConfig,
  now: Instant,
): Promise<Overview> {
  const kvm = new Kvm(jetstream(nc, { timeout: 5000 }))
  const stateBucket = await kvm.open(names.stateBucket)
  const entry = await stateBucket.get('rotation')
  if (entry === null)
    throw new RotorError(
      'ERR_NATS_UNAVAILABLE',
      `${names.stateBucket}: no issuer has worked on this domain yet`,
    )
  const state = decodeRecord(rotationState, entry.value, `${names.stateBucket}/rotation`)
  const payload = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
  const reportEntry = await stateBucket.get(REPORT_KEY)
  const report =
    reportEntry === null
      ? null
      : decodeRecord(issuerReport, reportEntry.value, `${names.stateBucket}/${REPORT_KEY}`)
  const statusBucket = await kvm.open(names.statusBucket)
  const agents = await Promise.all(
    config.agents.map(async ({ name, role }) => {
      const found = await statusBucket.get(name)
      return {
        name,
        role,
        status:
          found === null ? null : decodeRecord(agentStatus, found.value, `${names.statusBucket}/${name}`),
      }
    }),
  )
  // The report may be of a moment ago; what it waited for then must not be told of a later phase.
  const current =
    report !== null && report.version === state.version && report.phase === state.phase ? report : null
  return {
    domain: names.domain,
    at: now,
    version: state.version,
    phase: state.phase,
    active: state.active,
    reason: current?.reason ?? 'just-moved',
    since: current?.since ?? null,
    waitingFor: current?.waitingFor ?? [],
    ordered: state.order !== null,
    expiresAt: payload.expiresAt,
    authorities: payload.authorities.map(({ epoch, status, sha256 }) => ({ epoch, status, sha256 })),
    agents,
    servers: current?.servers ?? [],
    census: current?.census ?? null,
  }
}
