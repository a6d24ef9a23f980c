/** Is this directory fit for an agent, and what did the last one leave behind? Runs once, when it is opened. */
import { lstat, mkdir, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { RotorError } from '../errors.ts'
import { fsyncDir, writing } from './durable.ts'
import { assertOurs, octal } from './files.ts'
import { listGenerations, readGeneration, removeGeneration, removeUnfinished } from './generations.ts'
import { byAge, GENERATIONS, LOCK } from './layout.ts'
import { assertPublicLinks, currentGeneration, ensurePublicLinks } from './links.ts'
import type { Trace } from './steps.ts'

/**
 * Makes the folders that are missing, mode 0700, and returns the real path. Throws ERR_IDENTITY_MODE when one of
 * them belongs to or can be changed by somebody else, ERR_IDENTITY_WRITE when it can not be made.
 */
export async function prepareFolders(dir: string): Promise<string> {
  const made = await writing(dir, () => mkdir(dir, { recursive: true, mode: 0o700 }))
  const path = await writing(dir, () => realpath(dir))
  if (made !== undefined) await keepName(path)
  await assertFolder(path)
  for (const folder of [join(path, GENERATIONS), join(path, LOCK)]) {
    await writing(folder, () => mkdir(folder, { recursive: true, mode: 0o700 }))
    await assertFolder(folder)
  }
  return path
}

/**
 * A new directory must outlive a power cut from the moment something in it counts, so the folders above it are synced
 * as well. One that we may not read can not be; its owner has made it long ago.
 */
async function keepName(path: string): Promise<void> {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    await fsyncDir(folder).catch(() => {})
    if (folder === dirname(folder)) return
  }
}

async function assertFolder(path: string): Promise<void> {
  const { mode, uid, folder } = await writing(path, async () => {
    const found = await lstat(path)
    return { mode: found.mode, uid: found.uid, folder: found.isDirectory() }
  })
  if (!folder)
    throw new RotorError('ERR_IDENTITY_MODE', `${path}: expected a directory`, { details: { path } })
  assertOurs(path, uid)
  if ((mode & 0o022) !== 0) {
    throw new RotorError(
      'ERR_IDENTITY_MODE',
      `${path}: expected a directory that only its owner can change, found mode ${octal(mode)}`,
      { details: { path } },
    )
  }
}

/**
 * Removes what a crash left behind: everything unfinished, generations that are not whole, and generations newer
 * than `current`, which were staged and never published or were put back. `current` itself is never touched; when
 * it can not be read every generation is left for a person to look at. Throws ERR_IDENTITY_MODE when others may
 * read its key, ERR_IDENTITY_INVALID when a file of somebody else's is in the way.
 */
export async function recover(dir: string, trace: Trace): Promise<void> {
  const generations = join(dir, GENERATIONS)
  await assertPublicLinks(dir)
  await removeUnfinished(dir)
  await removeUnfinished(generations)
  const current = await currentGeneration(dir)
  if (current !== null) {
    if (!(await isWhole(join(generations, current)))) return
    await ensurePublicLinks(dir)
  }
  const whole: string[] = []
  for (const name of await listGenerations(generations)) {
    if (name === current || (await isWhole(join(generations, name)))) whole.push(name)
    else await removeGeneration(join(generations, name), trace)
  }
  for (const name of abandoned(whole, current)) await removeGeneration(join(generations, name), trace)
  await fsyncDir(generations)
  await fsyncDir(dir)
}

/**
 * Generations newer than `current` that nobody will publish any more, but for the newest: it stays so that its name
 * is not given again.
 */
export function abandoned(names: readonly string[], current: string | null): string[] {
  const newer = names.filter((name) => current === null || byAge(name, current) > 0)
  return newer.slice(0, -1)
}

/** True when it can be read and is what its manifest says; ERR_IDENTITY_MODE is thrown, that is not its fault. */
async function isWhole(path: string): Promise<boolean> {
  try {
    await readGeneration(path, 'owner')
    return true
  } catch (cause) {
    if (RotorError.is(cause) && cause.code === 'ERR_IDENTITY_MODE') throw cause
    return false
  }
}
