/**
 * A node without an identity, or with one that has ended, becomes an agent of the domain: key made here, token shown to
 * the pinned endpoint, answer believed only as far as it proves itself, identity written as the founding writes it.
 */
import { createPublicKey } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type AcceptedBundle, acceptBundle } from '../../src/bundle/accept.ts'
import { openEnvelope } from '../../src/bundle/envelope.ts'
import { payloadDigest } from '../../src/bundle/payload.ts'
import { isSignerKey } from '../../src/bundle/signer.ts'
import { formerSigners } from '../../src/bundle/succession.ts'
import type { AgentConfig } from '../../src/domain/config.ts'
import { installEnrolment } from '../../src/enrolment/install.ts'
import { decodeToken, type JoinToken } from '../../src/enrolment/token.ts'
import { RotorError } from '../../src/errors.ts'
import { type IdentityDirectory, openDirectory } from '../../src/identity/directory.ts'
import { fsyncDir, replaceFile, writeFileDurable, writing } from '../../src/identity/durable.ts'
import { readText } from '../../src/identity/files.ts'
import { JOIN_KEY } from '../../src/identity/layout.ts'
import type { AcceptedState } from '../../src/identity/state.ts'
import type { Logger } from '../../src/log.ts'
import { type Clock, type Duration, systemClock } from '../../src/time.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { keyMatches, verifyLeaf } from '../../src/trust/chain.ts'
import { makeCsr } from '../../src/trust/csr.ts'
import { generateKeyPair, type KeyPair, privateKeyFromPem, privateKeyToPem } from '../../src/trust/keys.ts'
import { type BundlePayload, bundlePayload, scheduleOf } from '../../src/wire/bundle.ts'
import type { JoinHints } from '../../src/wire/enrolment.ts'
import { domainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { problemOfLeaf } from '../catch-up.ts'
import { askToJoin } from './request.ts'

/** What the node wants of its identity. */
export type Wanted = Partial<Pick<AgentConfig, 'key' | 'names' | 'anchors'>>

export interface JoinOptions {
  readonly logger: Logger
  /** @default the system's */
  readonly clock?: Clock | undefined
  readonly signal?: AbortSignal | undefined
  /** How long an endpoint that is not there, or has no time, is asked again; milliseconds. @default 2 minutes */
  readonly patience?: Duration | undefined
}

/** Reads a token that is for this agent. Throws ERR_JOIN_TOKEN. */
export function tokenFor({ domain, agent }: Pick<AgentConfig, 'domain' | 'agent'>, text: string): JoinToken {
  const token = decodeToken(text)
  if (token.domain === domain && token.agent === agent) return token
  throw new RotorError(
    'ERR_JOIN_TOKEN',
    `join token: expected one for ${agent} of ${domain}, found one for ${token.agent} of ${token.domain}`,
  )
}

/** Is there an identity that a server would take at this moment, by all this node knows? Then a token stays unused. */
export async function isEnrolled(directory: IdentityDirectory, now: number): Promise<boolean> {
  const state = await directory.readState()
  if (state?.highest == null) return false
  try {
    const current = await directory.current()
    if (current === null) return false
    const held = await directory.load(current.name, now)
    return problemOfLeaf(held, newestOf(state), now) === null
  } catch (cause) {
    if (RotorError.from(cause).code !== 'ERR_IDENTITY_INVALID') throw cause
    return false
  }
}

/** The newest bundle this node has accepted. */
const newestOf = ({ envelope }: AcceptedState): BundlePayload =>
  decodeRecord(bundlePayload, openEnvelope(Buffer.from(envelope ?? '', 'utf8')).payload, 'state.json: bundle')

/**
 * Joins with the token and installs the identity. `before` is given what the configuration needs, when everything was
 * verified and nothing is installed yet. After a crash at any point the same token may be used again: the key is on
 * disk before it is shown to anybody.
 */
export async function joinWith(
  directory: IdentityDirectory,
  token: JoinToken,
  wanted: Wanted,
  options: JoinOptions,
  before: (hints: JoinHints) => Promise<void> = async () => {},
): Promise<void> {
  const { logger, clock = systemClock, signal = new AbortController().signal, patience = 120_000 } = options
  const { domain, agent } = token
  const spiffeId = domainNames(domain).spiffeId(agent)
  const keyPair = await joinKey(directory, wanted.key ?? token.key)
  const { dns = [], ip = [], uri = [] } = wanted.names ?? {}
  const csr = await makeCsr(keyPair, { subject: agent, dns, ip, uri: [spiffeId, ...uri] })
  const granted = await askToJoin(token, csr, { clock, logger, signal, patience })
  const envelope = Buffer.from(granted.bundle, 'utf8')
  const bundle = await acceptFirst(directory, token, envelope, clock.now())
  const { payload, digest } = bundle
  verifyChain(granted.chain, keyPair, spiffeId, bundle, clock.now())
  await before(granted.hints)
  await installEnrolment(
    directory,
    {
      agent,
      material: { key: privateKeyToPem(keyPair.privateKey), certificate: granted.chain },
      bundle: { payload, digest, envelope },
      ...(wanted.anchors === undefined ? {} : { anchors: wanted.anchors }),
      // what stands beside a node that comes back may still run on what has ended
      proven: false,
    },
    clock.now(),
  )
  await forgetJoinKey(directory)
  logger.info({ agent, version: payload.version, epoch: payload.epoch }, 'joined the domain')
}

/** A token that was not needed, or was used: its key is in a generation, or good for nothing. */
export async function forgetJoinKey({ path }: Pick<IdentityDirectory, 'path'>): Promise<void> {
  await writing(path, () => rm(join(path, JOIN_KEY), { force: true }))
}

/** The key of a join that did not end, or a new one: on disk before anybody sees the public half. */
async function joinKey({ path }: IdentityDirectory, algorithm: JoinToken['key']): Promise<KeyPair> {
  const file = join(path, JOIN_KEY)
  const known = await readText(file, 'owner').catch((cause) => {
    if (RotorError.from(cause).code === 'ERR_IDENTITY_MISSING') return null
    throw cause
  })
  if (known !== null) {
    const privateKey = privateKeyFromPem(known, undefined, file)
    return { privateKey, publicKey: createPublicKey(privateKey) }
  }
  const keyPair = await generateKeyPair(algorithm)
  await replaceFile(file, privateKeyToPem(keyPair.privateKey), 0o600)
  return keyPair
}

/**
 * The bundle by the signers that the token pins, and by what this directory has accepted before: its highest version
 * never goes down. Throws the ERR_BUNDLE_* code of the first rule broken.
 */
async function acceptFirst(
  directory: IdentityDirectory,
  token: JoinToken,
  envelope: Uint8Array,
  now: number,
): Promise<AcceptedBundle> {
  const state = await directory.readState()
  if (state !== null && (state.domain !== token.domain || state.agent !== token.agent)) {
    throw new RotorError(
      'ERR_JOIN_TOKEN',
      `${directory.path} is of ${state.agent} of ${state.domain}, the token for ${token.agent} of ${token.domain}`,
    )
  }
  const opened = openEnvelope(envelope).payload
  // only who hashes to a pinned thumbprint counts, whatever else the payload claims
  const payload = decodeRecord(bundlePayload, opened, 'bundle', 'ERR_BUNDLE_MALFORMED')
  // the token may be older than the signer
  const named = [...payload.signers, ...formerSigners(payload)]
  const pinned = named.filter((key) => token.signers.includes(key.kid) && isSignerKey(key))
  const highest = state?.highest ?? null
  const again = highest !== null && highest.digest === payloadDigest(opened)
  return acceptBundle(envelope, {
    domain: token.domain,
    pinned,
    highest: highest === null ? 0 : again ? highest.version - 1 : highest.version,
    held: highest === null || again ? null : { ...highest, roots: state?.roots ?? [] },
    now,
  })
}

/** The leaf is for our key and our name, by the authority that signs. Throws ERR_JOIN_ENDPOINT. */
function verifyChain(
  pem: string,
  { privateKey }: KeyPair,
  spiffeId: string,
  { payload, authorities }: AcceptedBundle,
  now: number,
): void {
  try {
    const chain = parseCertificates(pem, 'chain')
    const [leaf] = chain
    if (leaf === undefined || !keyMatches(leaf, privateKey)) throw new Error('the leaf is for another key')
    if (!leaf.names.uri.includes(spiffeId)) throw new Error(`the leaf is not of ${spiffeId}`)
    const signing = authorities.filter(({ epoch }) => epoch === payload.epoch)
    const anchors = signing.map(({ certificate }) => certificate)
    verifyLeaf(chain, anchors, now, { skew: scheduleOf(payload).lead, usage: 'clientAuth' })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new RotorError('ERR_JOIN_ENDPOINT', `the answer of the join endpoint: ${reason}`, { cause })
  }
}

/**
 * Makes a node in `dir` from a token alone: `agent.json`, as far as the issuer knows it, and `identity/`. What is there
 * already is kept, and a token is not used when it is not needed. Returns the path of `agent.json`.
 */
export async function joinDomain(text: string, dir: string, options: JoinOptions): Promise<string> {
  const token = decodeToken(text)
  const file = join(dir, 'agent.json')
  await using directory = await openDirectory(join(dir, 'identity'))
  if (await exists(file)) return file
  await joinWith(directory, token, {}, options, async ({ role, servers, handshakeFirst, names }) => {
    const { domain, agent, key } = token
    const config = { domain, agent, role, identity: './identity', servers, handshakeFirst, names, key }
    await writeFileDurable(file, `${JSON.stringify(config, null, 2)}\n`, 0o644)
    await fsyncDir(dir)
  })
  return file
}

async function exists(file: string): Promise<boolean> {
  try {
    await readText(file)
    return true
  } catch (cause) {
    if (RotorError.from(cause).code === 'ERR_IDENTITY_MISSING') return false
    throw cause
  }
}
