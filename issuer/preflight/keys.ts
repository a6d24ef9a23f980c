/** What does the key store of this issuer have, and is it in order? Opens, reads, and changes nothing. */
import { readdir, readFile, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { type Signer, signerFromPem } from '../../src/bundle/envelope.ts'
import { payloadDigest } from '../../src/bundle/payload.ts'
import type { IssuerConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import { FILES } from '../../src/identity/layout.ts'
import { silentLogger } from '../../src/log.ts'
import type { KeyFacts } from '../../src/preflight/facts.ts'
import type { HeldAuthority, HeldRoot, RotationState } from '../../src/rotation/state.ts'
import { type BundlePayload, bundlePayload } from '../../src/wire/bundle.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { openAuthority } from '../authority/open.ts'
import type { BundleHistory } from '../history/history.ts'
import { historyOf } from '../history/open.ts'
import { heldRoots } from '../loop/roots.ts'
import { openOwn } from '../own.ts'

export interface KeyStoreView {
  readonly held: readonly HeldAuthority[]
  readonly roots: readonly HeldRoot[]
  /** Empty when the key of the signer could not be read. */
  readonly signers: readonly Signer[]
  readonly facts: KeyFacts
  readonly notSeen: readonly { readonly what: string; readonly why: string }[]
}

/** Kept bundles whose chain is looked at: the last ones, which an issuer would go on from. */
const CHAIN = 16
/** Key files of a store that are looked at: far more than it has. */
const MAX_FILES = 2_000

/** Never throws: what is wrong is in the answer. */
export async function viewKeys(config: IssuerConfig, state: RotationState): Promise<KeyStoreView> {
  const notSeen: { what: string; why: string }[] = []
  const files = await readableKeys(config).catch((cause) => {
    notSeen.push({ what: 'modes of key files', why: inWords(cause) })
    return []
  })
  const disks = await Promise.all([config.keys, config.identity].map(freeOn))
  const facts = { readable: files, disks: disks.flatMap((disk) => disk ?? []) }
  try {
    const passphrase = await passphraseOf(config)
    const signers = [signerFromPem(await readFile(join(config.keys, 'signer.key'), 'utf8'), passphrase)]
    await using opened = await openAuthority({
      ...config,
      permitted: config.authorities?.permitted,
      passphrase,
      mends: false,
      logger: silentLogger,
    })
    const { authority, vault } = opened
    const bundle = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
    const held = await authority.list()
    const roots = await heldRoots(authority, bundle, state.newestRoot)
    const history = await historyProblem(historyOf(config, vault), signers, bundle)
    return { held, roots, signers, facts: { ...facts, problem: null, history }, notSeen }
  } catch (cause) {
    const problem = `${RotorError.from(cause, 'ERR_AUTHORITY_MISSING').code} ${inWords(cause)}`
    return { held: [], roots: [], signers: [], facts: { ...facts, problem, history: null }, notSeen }
  }
}

async function passphraseOf({ passphraseFile }: IssuerConfig): Promise<string | undefined> {
  return passphraseFile === undefined ? undefined : (await readFile(passphraseFile, 'utf8')).trimEnd()
}

/** The newest bundle may be a moment older than the state, which is committed first. */
async function historyProblem(
  history: BundleHistory,
  signers: readonly Signer[],
  { domain, version }: BundlePayload,
): Promise<string | null> {
  const versions = await history.list()
  const last = versions.at(-1)
  if (last === undefined) return `no bundle is kept, ${version} is the newest`
  if (last < version - 1) return `version ${last} is kept last, ${version} is the newest`
  const gap = versions.find((one, i) => i > 0 && one !== (versions[i - 1] ?? 0) + 1)
  if (gap !== undefined) return `version ${gap - 1} is missing`
  let before: string | null = null
  for (const one of versions.slice(-CHAIN)) {
    const envelope = await history.read(one)
    const own = envelope === null ? null : await openOwn(envelope, domain, signers)
    if (own === null) return `version ${one} can not be read, or is not signed by our signer`
    if (before !== null && own.bundle.previous !== before)
      return `version ${one} does not follow the one before it`
    before = payloadDigest(own.text)
  }
  return null
}

/** Files with secrets that others than their owner may read; of the identity, others than owner and group. */
async function readableKeys(config: IssuerConfig): Promise<KeyFacts['readable']> {
  const names = (await readdir(config.keys, { recursive: true })).filter((name) => name.endsWith('.key'))
  const { passphraseFile } = config
  const secret = names.slice(0, MAX_FILES).map((name) => join(config.keys, name))
  const found = await Promise.all([
    ...[...secret, ...(passphraseFile === undefined ? [] : [passphraseFile])].map((file) =>
      exposed(file, 0o077),
    ),
    exposed(join(config.identity, FILES.key), 0o007),
  ])
  return found.flatMap((one) => one ?? [])
}

async function exposed(file: string, forbidden: number): Promise<KeyFacts['readable'][number] | null> {
  // an authority that retires meanwhile takes its key with it; what is missing is told by who needs it
  const mode = await stat(file).then(
    (found) => found.mode & 0o777,
    () => 0,
  )
  return (mode & forbidden) === 0 ? null : { file, mode }
}

const freeOn = (dir: string): Promise<KeyFacts['disks'][number] | null> =>
  statfs(dir).then(
    ({ bavail, bsize }) => ({ dir, free: bavail * bsize }),
    () => null,
  )

const inWords = (cause: unknown): string => RotorError.from(cause).message
