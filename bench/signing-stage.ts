/**
 * What an issuer has while a fleet renews: an authority, a bundle in force, and one proven request of each agent. Every
 * request has a leaf and a key of its own, so that nothing that an issuer remembers of one helps it with the next.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Authority, LeafRequest } from '../issuer/authority/authority.ts'
import { createRoot, EmbeddedAuthority } from '../issuer/authority/embedded.ts'
import { leafFor } from '../issuer/signing/policy.ts'
import { Signing } from '../issuer/signing/signing.ts'
import { generateSigner } from '../src/bundle/envelope.ts'
import type { AgentEntry } from '../src/domain/config.ts'
import { silentLogger } from '../src/log.ts'
import { epochAt, leafLifetime, makeSchedule } from '../src/schedule.ts'
import { formatInstant, systemClock } from '../src/time.ts'
import { parseCertificates } from '../src/trust/certificate.ts'
import { makeCsr, parseCsr, type SigningRequest } from '../src/trust/csr.ts'
import { generateKeyPair } from '../src/trust/keys.ts'
import { proveClaims } from '../src/trust/proof.ts'
import { BUNDLE_FORMAT, type BundlePayload } from '../src/wire/bundle.ts'
import { type DomainNames, domainNames } from '../src/wire/names.ts'

export const BENCH_DOMAIN = 'bench'

/** What an agent sends, and what of it an authority gets. */
export interface Prepared {
  readonly agent: string
  readonly subject: string
  readonly proof: Uint8Array
  readonly csr: SigningRequest
}

export interface SigningStage extends AsyncDisposable {
  readonly names: DomainNames
  readonly signing: Signing
  readonly requests: readonly Prepared[]
}

/** An issuer with the embedded authority in a temporary folder, and a request of each of `agents` nodes to it. */
export async function makeSigningStage(agents: number): Promise<SigningStage> {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-signing-'))
  try {
    const { now, schedule, epoch, window } = benchTime()
    const root = await createRoot({ domain: BENCH_DOMAIN, dir, ...window })
    const authority = new EmbeddedAuthority({ domain: BENCH_DOMAIN, dir })
    const { certificate, sha256 } = await authority.prepare(epoch, window)
    const names = domainNames(BENCH_DOMAIN)
    const bundle: BundlePayload = {
      v: BUNDLE_FORMAT,
      domain: BENCH_DOMAIN,
      version: 1,
      epoch,
      issuedAt: formatInstant(now),
      expiresAt: formatInstant(window.notAfter),
      previous: null,
      reason: 'benchmark',
      authorities: [{ epoch, status: 'active', certificate, sha256 }],
      roots: [root],
      signers: [(await generateSigner()).key],
      schedule: { ...schedule, epochZero: formatInstant(schedule.epochZero) },
    }
    const requests: Prepared[] = []
    for (const agent of agentNames(agents)) requests.push(await prepare(authority, names, bundle, agent))
    const signing = new Signing({
      names,
      entryOf,
      authority,
      clock: systemClock,
      logger: silentLogger,
      bundle: () => bundle,
      tainted: () => ({}),
    })
    return {
      names,
      signing,
      requests,
      [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
    }
  } catch (cause) {
    await rm(dir, { recursive: true, force: true })
    throw cause
  }
}

/** The epoch of now, and a window that holds for the whole run. */
export function benchTime() {
  const now = Date.now()
  const schedule = makeSchedule()
  const window = { notBefore: now - schedule.lead, notAfter: now + schedule.validity }
  return { now, schedule, epoch: epochAt(schedule, now), window }
}

/** What an authority is asked for on behalf of this agent. */
export const leafRequestOf = ({ agent, csr }: Prepared): LeafRequest =>
  leafFor(csr, entryOf(agent), domainNames(BENCH_DOMAIN).spiffeId(agent), makeSchedule(), Date.now())

const agentNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `node-${i + 1}`)

const entryOf = (name: string): AgentEntry => ({
  name,
  role: 'service',
  names: { dns: [`${name}.internal`], ip: [], uri: [] },
  listeners: [],
})

/** As agent/renewal.ts does it, with a leaf of the present authority as the old one. */
async function prepare(
  authority: Authority,
  names: DomainNames,
  bundle: BundlePayload,
  agent: string,
): Promise<Prepared> {
  const now = Date.now()
  const wish = { subject: agent, dns: [`${agent}.internal`], uri: [names.spiffeId(agent)] }
  const held = await generateKeyPair()
  const old = await authority.sign(bundle.epoch, {
    csr: await parseCsr(await makeCsr(held, wish)),
    commonName: agent,
    names: { dns: wish.dns, ip: [], uri: wish.uri },
    notBefore: now - 60_000,
    notAfter: now + leafLifetime(makeSchedule()),
  })
  const csr = await makeCsr(await generateKeyPair(), wish)
  const claims = {
    v: 1 as const,
    domain: names.domain,
    agent,
    csr,
    epoch: bundle.epoch,
    at: formatInstant(now),
  }
  const proof = await proveClaims(claims, held.privateKey, parseCertificates(old, 'leaf chain'))
  return { agent, subject: names.signSubject(agent), proof: Buffer.from(proof), csr: await parseCsr(csr) }
}
