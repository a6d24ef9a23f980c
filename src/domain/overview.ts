/** The state of a domain on one screen: who has what, who is waited for. Reads records only, changes nothing. */
import { jetstream } from '@nats-io/jetstream'
import { type KV, Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { KIND_OF } from '../bundle/signer.ts'
import { RotorError } from '../errors.ts'
import { keysUnder } from '../nats/bucket.ts'
import { type RotationState, rotationState } from '../rotation/state.ts'
import { retry } from '../tasks.ts'
import { formatInstant, type Instant } from '../time.ts'
import { parseCertificate } from '../trust/certificate.ts'
import { issuerAmong } from '../trust/chain.ts'
import { type AuthorityStatus, type BundlePayload, bundlePayload, type SignerKind } from '../wire/bundle.ts'
import { MEMBER_PREFIX, type MemberRecord, memberRecord } from '../wire/enrolment.ts'
import { LEASE_KEY, leaseRecord } from '../wire/lease.ts'
import type { DomainNames } from '../wire/names.ts'
import { decodeRecord } from '../wire/record.ts'
import {
  type IssuerProblem,
  type IssuerReport,
  issuerProblem,
  issuerReport,
  PROBLEM_KEY,
  REPORT_KEY,
} from '../wire/report.ts'
import { type AgentStatus, agentStatus } from '../wire/status.ts'
import type { IssuerConfig } from './config.ts'
import { membersOf } from './members.ts'

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
  /** Who leads, with which fencing number; null before the first. `holder` null: nobody does at present. */
  readonly lease: {
    readonly holder: string | null
    readonly fence: number
    readonly since: string
    /** When it was renewed, by the clock of the holder, and how long it lasts, milliseconds. */
    readonly renewed: string
    readonly duration: number
  } | null
  /** Why the issuer can not work at present: OpenBao is sealed, for example. */
  readonly problem: IssuerProblem['problem']
  /** An order is under way. */
  readonly ordered: boolean
  /** Who stopped the rotation, and why. */
  readonly paused: { readonly by: string; readonly reason: string; readonly at: string } | null
  /** Authorities that were tainted, until it is proven that nobody trusts them. */
  readonly tainted: readonly {
    readonly epoch: number
    readonly by: string
    readonly reason: string
    readonly at: string
    /** When it left trust, and who was cut off with it. */
    readonly removed: {
      readonly at: string
      readonly version: number
      readonly cutOff: readonly string[]
    } | null
  }[]
  readonly expiresAt: string
  /** Milliseconds: a clock that is further off holds a rotation. */
  readonly lead: number
  readonly authorities: readonly { epoch: number; status: AuthorityStatus; sha256: string }[]
  /** Newest first. `epochs`: the trusted authorities that it signed. */
  readonly roots: readonly { sha256: string; subject: string; notAfter: string; epochs: readonly number[] }[]
  /** Who signs bundles, newest first. */
  readonly signers: readonly { kid: string; kind: SignerKind }[]
  /** The issuer had lost its records and made them again from this version of the kept bundles. */
  readonly rebuilt: IssuerReport['rebuilt']
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
  const problemEntry = await stateBucket.get(PROBLEM_KEY)
  const problem =
    problemEntry === null
      ? null
      : decodeRecord(issuerProblem, problemEntry.value, `${names.stateBucket}/${PROBLEM_KEY}`).problem
  const leaseEntry = await stateBucket.get(LEASE_KEY)
  const lease =
    leaseEntry === null
      ? null
      : decodeRecord(leaseRecord, leaseEntry.value, `${names.stateBucket}/${LEASE_KEY}`)
  const statusBucket = await kvm.open(names.statusBucket)
  const members = membersOf(config.agents, await readMembers(nc, names.stateBucket, stateBucket))
  const agents = await Promise.all(
    members.map(async ({ name, role }) => {
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
    lease:
      lease === null
        ? null
        : {
            holder: lease.holder,
            fence: lease.fence,
            since: lease.holder === null ? lease.at : lease.since,
            renewed: lease.at,
            duration: lease.duration,
          },
    problem,
    ordered: state.order !== null || state.signer !== null,
    paused: state.paused && { ...state.paused, at: formatInstant(state.paused.at) },
    tainted: taintedIn(state),
    expiresAt: payload.expiresAt,
    lead: payload.schedule.lead,
    authorities: payload.authorities.map(({ epoch, status, sha256 }) => ({ epoch, status, sha256 })),
    roots: rootsOf(payload),
    signers: payload.signers.map(({ kid, kty }) => ({ kid, kind: KIND_OF[kty] })),
    rebuilt: report?.rebuilt ?? null,
    agents,
    servers: current?.servers ?? [],
    census: current?.census ?? null,
  }
}

const taintedIn = ({ tainted }: RotationState): Overview['tainted'] =>
  Object.entries(tainted).map(([epoch, { by, reason, at, removed }]) => ({
    epoch: Number(epoch),
    by,
    reason,
    at: formatInstant(at),
    removed: removed && { ...removed, at: formatInstant(removed.at) },
  }))

/** Who joined by a pattern, and who was removed. */
async function readMembers(nc: NatsConnection, bucketName: string, stateBucket: KV): Promise<MemberRecord[]> {
  const keys = await keysUnder(nc, bucketName, MEMBER_PREFIX)
  const entries = await Promise.all(keys.map((key) => stateBucket.get(key)))
  return entries.flatMap((entry) =>
    entry === null || entry.operation !== 'PUT'
      ? []
      : [decodeRecord(memberRecord, entry.value, `member record ${entry.key}`)],
  )
}

function rootsOf({ roots, authorities }: BundlePayload): Overview['roots'] {
  const certificates = roots.map((pem) => parseCertificate(pem, 'root'))
  const signed = authorities.map(({ epoch, certificate }) => ({
    epoch,
    root: issuerAmong(parseCertificate(certificate, `authority of epoch ${epoch}`), certificates),
  }))
  return certificates.map((root) => ({
    sha256: root.sha256,
    subject: root.subject,
    notAfter: formatInstant(root.notAfter),
    epochs: signed.flatMap((one) => (one.root === root ? [one.epoch] : [])),
  }))
}
