/** Which generation do the links of a directory lead to, and are they ours? */
import { readlink } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { RotorError } from '../errors.ts'
import { errorCode, replaceSymlink } from './durable.ts'
import { CURRENT, currentTarget, MATERIAL_FILES, parseGenerationName, publicTarget } from './layout.ts'

/** Where `current` points to, relative to the directory; null when there is no such link. */
export const readCurrent = (dir: string): Promise<string | null> => readLink(join(dir, CURRENT))

/** Name of the generation that `current` points to; null when there is none. Throws ERR_IDENTITY_INVALID. */
export async function currentGeneration(dir: string): Promise<string | null> {
  const target = await readCurrent(dir)
  if (target === null) return null
  const name = basename(target)
  if (parseGenerationName(name) === null || target !== currentTarget(name)) {
    throw notOurs(join(dir, CURRENT), currentTarget('<version>-<n>'), target)
  }
  return name
}

/**
 * Makes the public links that are missing. They lead through `current`, so while there is none they lead nowhere,
 * and all three appear in the step that makes it. Throws ERR_IDENTITY_INVALID for a file of somebody else's in
 * their place: it may hold a key that exists nowhere else.
 */
export async function ensurePublicLinks(dir: string): Promise<void> {
  await assertPublicLinks(dir)
  for (const file of MATERIAL_FILES) {
    const path = join(dir, file)
    if ((await readLink(path)) === null) await replaceSymlink(publicTarget(file), path)
  }
}

/** Throws ERR_IDENTITY_INVALID when something else than our link, or nothing, is at a public path. */
export async function assertPublicLinks(dir: string): Promise<void> {
  for (const file of MATERIAL_FILES) {
    const path = join(dir, file)
    const target = await readLink(path)
    if (target !== null && target !== publicTarget(file)) throw notOurs(path, publicTarget(file), target)
  }
}

async function readLink(path: string): Promise<string | null> {
  try {
    return await readlink(path)
  } catch (cause) {
    const reason = errorCode(cause)
    if (reason === 'ENOENT' || reason === 'ENOTDIR') return null
    // readlink(2): EINVAL, it is no symbolic link.
    if (reason === 'EINVAL') throw notOurs(path, 'a target inside the directory', 'no link', cause)
    const code = reason === 'EACCES' ? 'ERR_IDENTITY_MODE' : 'ERR_IDENTITY_INVALID'
    throw new RotorError(code, `${path}: it can not be read: ${reason}`, { cause, details: { path } })
  }
}

const notOurs = (path: string, expected: string, found: string, cause?: unknown): RotorError =>
  new RotorError(
    'ERR_IDENTITY_INVALID',
    `${path}: expected a symbolic link to ${expected}, found ${found}; move it away to use this directory`,
    { cause, details: { path } },
  )
