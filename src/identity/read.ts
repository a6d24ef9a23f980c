/**
 * What is in this directory right now? For readers without the lock, while a writer may be at work.
 *
 * With `current` it is resolved once and the files are read inside that generation, which never changes. Without it
 * (files that another tool writes one by one) they are read until two reads are equal and the set fits together.
 */
import { stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { RotorError } from '../errors.ts'
import { type Duration, type Instant, sleep } from '../time.ts'
import { readMaterialFiles } from './files.ts'
import { readGeneration } from './generations.ts'
import type { IdentitySnapshot } from './identity.ts'
import { CURRENT, MATERIAL_FILES } from './layout.ts'
import { readCurrent } from './links.ts'
import { sha256 } from './manifest.ts'
import { checkMaterial, type IdentityMaterial, parseMaterial } from './material.ts'

export interface ReadOptions {
  /** Milliseconds the clock may be off. @default 0 */
  readonly skew?: Duration
  /** Ends the wait for files that are being written. */
  readonly signal?: AbortSignal
}

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
  let seen: string | undefined
  let problem: unknown
  for (let attempt = 0; attempt < TRIES; attempt++) {
    options.signal?.throwIfAborted()
    const target = await readCurrent(dir)
    try {
      if (target !== null) return await readThrough(dir, target, now, options)
      const material = await readMaterialFiles(dir, 'group')
      const content = sha256(JSON.stringify(material))
      if (content === seen) {
        const name = { generation: `files-${content.slice(0, 16)}`, version: 0 }
        return snapshotOf(material, name, now, options, dir)
      }
      seen = content
      problem = new RotorError('ERR_IDENTITY_INVALID', `${dir}: the files change with every read`)
    } catch (cause) {
      problem = cause
      const moved = (await readCurrent(dir)) !== target
      if (!moved && (target !== null || !(await mayPass(dir, cause)))) throw cause
      // The generation we were reading was replaced and removed: the next one is there already.
      if (moved) continue
    }
    await sleep(PAUSE, options.signal)
  }
  throw problem
}

async function readThrough(
  dir: string,
  target: string,
  now: Instant | undefined,
  options: ReadOptions,
): Promise<IdentitySnapshot> {
  try {
    const { material, manifest } = await readGeneration(resolve(dir, target), 'group')
    const name = { generation: basename(target), version: manifest.version }
    return snapshotOf(material, name, now, options, resolve(dir, target))
  } catch (cause) {
    if (!RotorError.is(cause) || cause.code !== 'ERR_IDENTITY_MISSING') throw cause
    throw new RotorError(
      'ERR_IDENTITY_INVALID',
      `${join(dir, CURRENT)}: expected a complete generation, ${cause.message}`,
      { cause, details: cause.details },
    )
  }
}

/** Material as a snapshot, verified at `now` when that is given. `where` is the folder, for messages. */
export function snapshotOf(
  material: IdentityMaterial,
  name: Pick<IdentitySnapshot, 'generation' | 'version'>,
  now: Instant | undefined,
  options: ReadOptions,
  where: string,
): IdentitySnapshot {
  try {
    const { leaf } = now === undefined ? parseMaterial(material) : checkMaterial(material, now, options)
    return Object.freeze({ ...material, ...name, leaf })
  } catch (cause) {
    if (!RotorError.is(cause)) throw cause
    throw new RotorError(cause.code, `${where}: ${cause.message}`, { cause, details: { path: where } })
  }
}

/** May this failure be a writer in the middle of its work? Not when there is nothing at all. */
async function mayPass(dir: string, cause: unknown): Promise<boolean> {
  if (!RotorError.is(cause)) return false
  if (cause.code === 'ERR_IDENTITY_INVALID') return true
  if (cause.code !== 'ERR_IDENTITY_MISSING') return false
  const found = await Promise.allSettled(MATERIAL_FILES.map((file) => stat(join(dir, file))))
  return found.some((result) => result.status === 'fulfilled')
}
