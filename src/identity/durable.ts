/** How is a change made so that it is either whole on disk or not there, also after a power cut? */
import { link, open, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { RotorError } from '../errors.ts'
import { unfinishedName } from './layout.ts'

/**
 * Creates a file with this mode from birth and returns when its content is on disk. The path must not exist.
 * Throws ERR_IDENTITY_WRITE.
 */
export async function writeFileDurable(path: string, data: string | Uint8Array, mode: number): Promise<void> {
  await writing(path, async () => {
    // wx is O_CREAT | O_EXCL: never a file, or the target of a link, that somebody else made.
    const file = await open(path, 'wx', mode)
    try {
      await file.writeFile(data)
      await file.sync()
    } finally {
      await file.close()
    }
  })
}

/** Makes the names in a folder durable: fsync of a file does not cover its entry in the folder (fsync(2)). */
export async function fsyncDir(folder: string): Promise<void> {
  await writing(folder, async () => {
    const handle = await open(folder, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  })
}

/**
 * Makes a file in one step, whole or not at all; false when there is one, which stays as it is. By link(2), because
 * rename(2) would replace a file that somebody else made meanwhile.
 */
export async function createFile(path: string, data: string | Uint8Array, mode: number): Promise<boolean> {
  const next = join(dirname(path), unfinishedName('file'))
  return cleaningUp(next, async () => {
    await writeFileDurable(next, data, mode)
    const created = await writing(path, () => linked(next, path))
    await writing(next, () => rm(next))
    await fsyncDir(dirname(path))
    return created
  })
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (cause) {
    if (errorCode(cause) === 'EEXIST') return false
    throw cause
  }
}

/** Replaces a file in one step; a failure leaves the old one. `between` runs when the new one is written. */
export async function replaceFile(
  path: string,
  data: string | Uint8Array,
  mode: number,
  between: () => void = () => {},
): Promise<void> {
  const next = join(dirname(path), unfinishedName('file'))
  await cleaningUp(next, async () => {
    await writeFileDurable(next, data, mode)
    between()
    await writing(path, () => rename(next, path))
  })
  await fsyncDir(dirname(path))
}

/**
 * Points the symbolic link `path` at `target` in one step: rename(2) over the old link, never a moment without
 * one. Not durable before `fsyncDir`. `between` runs when the new link is made.
 */
export async function replaceSymlink(
  target: string,
  path: string,
  between: () => void = () => {},
): Promise<void> {
  const next = join(dirname(path), unfinishedName('link'))
  await cleaningUp(next, async () => {
    await writing(path, () => symlink(target, next))
    between()
    await writing(path, () => rename(next, path))
  })
}

/** Runs `step`; if it fails, removes `leftover` and throws what `step` threw. */
export async function cleaningUp<T>(leftover: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (cause) {
    // On a disk that takes no more writes this can fail too; then the next start removes it.
    await rm(leftover, { recursive: true, force: true }).catch(() => {})
    throw cause
  }
}

/** Runs a step that changes the disk; its failure becomes ERR_IDENTITY_WRITE with path and reason. */
export async function writing<T>(path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (cause) {
    if (RotorError.is(cause)) throw cause
    const reason = errorCode(cause)
    throw new RotorError('ERR_IDENTITY_WRITE', `${path} could not be written: ${explain(reason)}`, {
      cause,
      details: { path, reason },
    })
  }
}

/** `ENOSPC` and so on; the text of the error when it has none. */
export function errorCode(cause: unknown): string {
  if (cause instanceof Error && 'code' in cause && typeof cause.code === 'string') return cause.code
  return cause instanceof Error ? cause.message : String(cause)
}

const EXPLAINED: Readonly<Record<string, string>> = {
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'the quota of the user is used up',
  EFBIG: 'the file would be larger than this process may write',
  EROFS: 'the file system is read-only',
  EACCES: 'no permission',
  EPERM: 'not permitted',
  ENOTDIR: 'a part of the path is no directory',
  EEXIST: 'something is already there',
  EIO: 'the disk reports an error',
}

const explain = (code: string): string => (code in EXPLAINED ? `${EXPLAINED[code]} (${code})` : code)
