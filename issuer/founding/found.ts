/**
 * Founding a trust domain: root, signer, first authority, bundle version 1, and the first identity of every node,
 * laid out so that servers, issuer and agents can be started from it. Refuses a directory that is not empty.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { generateSigner, type Signer, signBundle, signerToPem } from '../../src/bundle/envelope.ts'
import { encodePayload, payloadDigest } from '../../src/bundle/payload.ts'
import { installEnrolment } from '../../src/enrolment/install.ts'
import { RotorError } from '../../src/errors.ts'
import { openDirectory } from '../../src/identity/directory.ts'
import { writeFileDurable } from '../../src/identity/durable.ts'
import { silentLogger } from '../../src/log.ts'
import { type Epoch, epochAt, epochEnd } from '../../src/schedule.ts'
import { type Clock, formatInstant, type Instant, systemClock } from '../../src/time.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair, privateKeyToPem } from '../../src/trust/keys.ts'
import { BUNDLE_FORMAT, type BundlePayload } from '../../src/wire/bundle.ts'
import { domainNames } from '../../src/wire/names.ts'
import type { Authority } from '../authority/authority.ts'
import { createRoot } from '../authority/embedded.ts'
import { openAuthority } from '../authority/open.ts'
import { type ConfigFiles, writeConfigFiles } from './files.ts'
import { checkPlan, type FoundingPlan, ISSUER, isFirstIssuer, type NodePlan, nodesOf } from './plan.ts'

export { type FoundingPlan, ISSUER, type ServerPlan, type ServicePlan } from './plan.ts'

const YEAR = 365 * 86_400_000

export interface Founded extends ConfigFiles {
  readonly domain: string
  readonly out: string
  readonly signer: string
  readonly epoch: number
}

/** Founds the domain and returns where everything is. Throws ERR_CONFIG_INVALID, ERR_IDENTITY_WRITE. */
export async function found(plan: FoundingPlan): Promise<Founded> {
  checkPlan(plan)
  await assertEmpty(plan.out)
  try {
    return await lay(plan)
  } catch (cause) {
    // A second try must find the directory as the first one did.
    for (const name of await readdir(plan.out).catch(() => [])) {
      await rm(join(plan.out, name), { recursive: true, force: true })
    }
    throw cause
  }
}

async function lay(plan: FoundingPlan): Promise<Founded> {
  const at = (...parts: string[]) => join(plan.out, ...parts)
  const seenAt = (...parts: string[]) => join(plan.pathsAs ?? plan.out, ...parts)
  const passphrase =
    plan.passphraseFile === undefined ? undefined : (await readPassphrase(plan.passphraseFile)).trimEnd()
  const keys = at('issuer', 'keys')
  const { domain, vault, schedule, clock = systemClock } = plan
  const now = clock.now()
  await using opened = await openAuthority({
    domain,
    name: ISSUER,
    keys,
    passphrase,
    vault,
    logger: silentLogger,
  })
  const { authority } = opened
  if (vault === undefined) {
    const window = { notBefore: now - schedule.lead, notAfter: now + 10 * YEAR }
    await createRoot({ domain, dir: keys, passphrase, ...window })
  } else {
    await mkdir(keys, { recursive: true, mode: 0o700 })
    await assertUnused(authority, plan)
  }
  const signer = await generateSigner(plan.signer)
  await writeFileDurable(join(keys, 'signer.key'), signerToPem(signer, passphrase), 0o600)
  const epoch = epochAt(schedule, now)
  let genesis: Genesis
  try {
    genesis = await makeGenesis(plan, authority, signer, epoch, now)
    await writeFileDurable(join(keys, 'genesis.jws'), genesis.envelope, 0o644)
    for (const node of nodesOf(plan)) {
      await enrol(plan, node, identityOf(plan, at, node), authority, genesis, clock)
    }
  } catch (cause) {
    // What was made outside of the directory goes with it; without an answer it stays, and the next try says so.
    await authority.delete(epoch).catch(() => {})
    throw cause
  }
  const files = await writeConfigFiles(plan, at, seenAt)
  return {
    domain: plan.domain,
    out: plan.out,
    ...files,
    signer: signer.key.kid,
    epoch: genesis.payload.epoch,
  }
}

interface Genesis {
  readonly payload: BundlePayload
  readonly digest: string
  readonly envelope: Uint8Array
  readonly signer: Signer
}

async function makeGenesis(
  plan: FoundingPlan,
  authority: Authority,
  signer: Signer,
  epoch: Epoch,
  now: Instant,
): Promise<Genesis> {
  const { schedule } = plan
  const first = await authority.prepare(epoch, {
    notBefore: now - schedule.lead,
    notAfter: epochEnd(schedule, epoch),
  })
  const payload: BundlePayload = {
    v: BUNDLE_FORMAT,
    domain: plan.domain,
    version: 1,
    epoch,
    issuedAt: formatInstant(now),
    expiresAt: formatInstant(now + schedule.validity),
    previous: null,
    reason: 'the domain is founded',
    authorities: [{ epoch, status: 'active', certificate: first.certificate, sha256: first.sha256 }],
    roots: [...(await authority.roots())],
    signers: [signer.key],
    schedule: { ...schedule, epochZero: formatInstant(schedule.epochZero) },
  }
  const text = encodePayload(payload)
  return { payload, digest: payloadDigest(text), envelope: await signBundle(text, [signer]), signer }
}

/**
 * The first identity of a node. Its leaf lives as long as its authority: nodes may be started a while after the
 * founding, and renew as soon as the next authority signs.
 */
async function enrol(
  plan: FoundingPlan,
  node: NodePlan,
  dir: string,
  authority: Authority,
  genesis: Genesis,
  clock: Clock,
): Promise<void> {
  const { domain, schedule } = plan
  const { payload } = genesis
  const keyPair = await generateKeyPair(plan.key)
  const certificate = await authority.sign(payload.epoch, {
    csr: await parseCsr(await makeCsr(keyPair, { subject: node.name })),
    commonName: node.name,
    names: { ...node.names, uri: [domainNames(domain).spiffeId(node.name)] },
    notBefore: clock.now() - schedule.lead,
    notAfter: epochEnd(schedule, payload.epoch),
  })
  await using directory = await openDirectory(dir)
  const material = { key: privateKeyToPem(keyPair.privateKey), certificate }
  const enrolment = { agent: node.name, material, bundle: genesis, proven: true }
  // An engine can be slow, and its leaves begin by its own clock: the moment of the founding may be before them.
  await installEnrolment(directory, enrolment, clock.now())
}

/** An engine that several share may hold a domain of this name; its authorities are not ours. */
async function assertUnused(authority: Authority, { domain }: FoundingPlan): Promise<void> {
  const epochs = (await authority.list()).map(({ epoch }) => epoch)
  if (epochs.length === 0) return
  throw new RotorError(
    'ERR_CONFIG_INVALID',
    `vault: expected no authority of the domain ${domain}, found epochs ${epochs.join(', ')}; choose another name or mount, or delete its issuers and keys there`,
  )
}

const identityOf = (plan: FoundingPlan, at: (...parts: string[]) => string, node: NodePlan): string =>
  isFirstIssuer(plan, node) ? at('issuer', 'identity') : at('agents', node.name, 'identity')

async function readPassphrase(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause) => {
    throw new RotorError('ERR_CONFIG_INVALID', `passphrase file: ${cause.message}`, { cause })
  })
}

async function assertEmpty(dir: string): Promise<void> {
  const entries = await readdir(dir).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return []
    throw new RotorError('ERR_IDENTITY_WRITE', `${dir}: ${cause.message}`, { cause })
  })
  if (entries.length > 0) {
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      `${dir}: expected an empty or a new directory, found ${entries.length} entries`,
    )
  }
}
