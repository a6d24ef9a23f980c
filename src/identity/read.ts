/**
 * What is in this directory right now? For readers without the lock, while a writer may be at work.
 *
 * With `current` it is resolved once and the files are read inside that generation, which never changes. Without it
 * (files that another tool writes one by one, or swaps by a link of its own) they are read until two reads are equal
 * and the set fits together.
 */
import { stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { RotorError } from '../errors.ts'
import { type Duration, type Instant, sleep } from '../time.ts'
import { type KeyAccess, readMaterialFiles } from './files.ts'
import { readGeneration } from './generations.ts'
import type { IdentitySnapshot } from './identity.ts'
import { CURRENT, FILES, type FileNames, SECRET_CA } from './layout.ts'
import { readCurrent } from './links.ts'
import { type GenerationManifest, sha256 } from './manifest.ts'
import { type CheckOptions, checkMaterial, type IdentityMaterial, parseMaterial } from './material.ts'

export interface ReadOptions {
  /** Milliseconds the clock may be off. @default 0 */
  readonly skew?: Duration
  /** Ends the wait for files that are being written. */
  readonly signal?: AbortSignal
  /**
   * What the files are called, relative to the directory. With any of them given a link `current` counts for nothing.
   * @default `ca.pem`, or `ca.crt` where there is no `ca.pem`; `tls.crt`; `tls.key`
   */
  readonly files?: Partial<FileNames>
  /**
   * Who else may read the private key. `group`: its group at most. `any`: everybody, for a volume nobody else can
   * reach. @default 'group'
   */
  readonly keyMode?: Exclude<KeyAccess, 'owner'>
}

type SnapshotName = Pick<IdentitySnapshot, 'generation' | 'version' | 'epoch'>

/** Reads of files that do not fit together, 25 ms apart: a writer of three small files needs no half second. */
const TRIES = 20
const PAUSE: Duration = 25

/**
 * One consistent set. With `now` it is verified as `checkMaterial` does, also its dates; without, it only has to fit
 * together. Throws ERR_IDENTITY_MISSING when there is none, ERR_IDENTITY_MODE for a key that everybody may read or
 * we may not, ERR_IDENTITY_INVALID when no valid set was found in half a second.
 */
export async function readIdentity(
  dir: string,
  now?: Instant,
  options: ReadOptions = {},
): Promise<IdentitySnapshot> {
  const current = async () => (followsCurrent(options.files) ? await readCurrent(dir) : null)
  let seen: string | undefined
  let problem: unknown
  for (let attempt = 0; attempt < TRIES; attempt++) {
    options.signal?.throwIfAborted()
    const target = await current()
    const names = await fileNames(dir, options.files)
    try {
      if (target !== null) return await readThrough(dir, target, now, options)
      const material = await readMaterialFiles(dir, options.keyMode ?? 'group', names)
      const content = sha256(JSON.stringify(material))
      if (content === seen) {
        const name = { generation: `files-${content.slice(0, 16)}`, version: 0 }
        return snapshotOf(material, name, now, { ...options, names }, dir)
      }
      seen = content
      problem = new RotorError('ERR_IDENTITY_INVALID', `${dir}: the files change with every read`)
    } catch (cause) {
      problem = cause
      const moved = (await current()) !== target
      if (!moved && (target !== null || !(await mayPass(dir, names, cause)))) throw cause
      // The generation we were reading was replaced and removed: the next one is there already.
      if (moved) continue
    }
    await sleep(PAUSE, options.signal)
  }
  throw problem
}

/** Is the link `current` of our own directories looked at? Not where somebody says what the files are called. */
export const followsCurrent = (given: Partial<FileNames> = {}): boolean => Object.keys(given).length === 0

/** What the files of this directory are called, with the defaults filled in. */
export async function fileNames(dir: string, given: Partial<FileNames> = {}): Promise<FileNames> {
  const names = { ...FILES, ...given }
  if (given.ca !== undefined || (await isThere(dir, FILES.ca))) return names
  return (await isThere(dir, SECRET_CA)) ? { ...names, ca: SECRET_CA } : names
}

async function readThrough(
  dir: string,
  target: string,
  now: Instant | undefined,
  options: ReadOptions,
): Promise<IdentitySnapshot> {
  try {
    const { material, manifest } = await readGeneration(resolve(dir, target), options.keyMode ?? 'group')
    return snapshotOf(material, nameOf(basename(target), manifest), now, options, resolve(dir, target))
  } catch (cause) {
    if (!RotorError.is(cause) || cause.code !== 'ERR_IDENTITY_MISSING') throw cause
    throw new RotorError(
      'ERR_IDENTITY_INVALID',
      `${join(dir, CURRENT)}: expected a complete generation, ${cause.message}`,
      { cause, details: cause.details },
    )
  }
}

/** How a stored generation is told from others. */
export const nameOf = (generation: string, { version, epoch }: GenerationManifest): SnapshotName => ({
  generation,
  version,
  epoch,
})

/** Material as a snapshot, verified at `now` when that is given. `where` is the folder, for messages. */
export function snapshotOf(
  material: IdentityMaterial,
  name: SnapshotName,
  now: Instant | undefined,
  options: CheckOptions,
  where: string,
): IdentitySnapshot {
  try {
    const { leaf } =
      now === undefined ? parseMaterial(material, options.names) : checkMaterial(material, now, options)
    return Object.freeze({ ...material, ...name, leaf })
  } catch (cause) {
    if (!RotorError.is(cause)) throw cause
    throw new RotorError(cause.code, `${where}: ${cause.message}`, { cause, details: { path: where } })
  }
}

/** May this failure be a writer in the middle of its work? Not when there is nothing at all. */
async function mayPass(dir: string, names: FileNames, cause: unknown): Promise<boolean> {
  if (!RotorError.is(cause)) return false
  if (cause.code === 'ERR_IDENTITY_INVALID') return true
  if (cause.code !== 'ERR_IDENTITY_MISSING') return false
  const found = await Promise.all([names.ca, names.certificate, names.key].map((name) => isThere(dir, name)))
  return found.includes(true)
}

const isThere = (dir: string, name: string): Promise<boolean> =>
  stat(resolve(dir, name)).then(
    () => true,
    () => false,
  )
