/** How are the three files of a folder read, and are they fit to be used at all? */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { RotorError, type RotorErrorCode } from '../errors.ts'
import { errorCode } from './durable.ts'
import { FILES, type FileNames } from './layout.ts'
import type { IdentityMaterial } from './material.ts'

/** Who may read a private key besides its owner. */
export type KeyAccess =
  /** Nobody: what an agent keeps of its own directory. The owner has to be us. */
  | 'owner'
  /** Its group: what a reader accepts, services often run as another user of one group. */
  | 'group'
  /** Everybody: for a volume that only this process can reach, such as a Kubernetes secret. */
  | 'any'

/** Bytes of one file; a trust file with a hundred authorities has 100 KiB. */
const MAX_FILE = 1024 * 1024

/**
 * The text of the three files. Throws ERR_IDENTITY_MISSING for a file that is not there, ERR_IDENTITY_MODE for one
 * that we may not read or others may, ERR_IDENTITY_INVALID for what is no file of a sensible size.
 */
export async function readMaterialFiles(
  folder: string,
  access: KeyAccess,
  files: FileNames = FILES,
): Promise<IdentityMaterial> {
  return {
    ca: await readText(resolve(folder, files.ca)),
    certificate: await readText(resolve(folder, files.certificate)),
    key: await readText(resolve(folder, files.key), access),
  }
}

/** A text file as it is now. With `keyAccess` it is a private key and its mode is checked. Errors as above. */
export async function readText(path: string, keyAccess?: KeyAccess): Promise<string> {
  return (await readBounded(path, MAX_FILE, keyAccess)).toString('utf8')
}

/** The bytes of a file, at most `max`. Errors as above. */
export async function readBounded(path: string, max: number, keyAccess?: KeyAccess): Promise<Buffer> {
  const file = await openForRead(path)
  try {
    const found = await file.stat()
    if (!found.isFile() || found.size > max) {
      throw failure('ERR_IDENTITY_INVALID', path, `expected a file of at most ${max} bytes`)
    }
    if (keyAccess !== undefined) assertPrivate(path, found.mode, found.uid, keyAccess)
    return await file.readFile()
  } catch (cause) {
    if (RotorError.is(cause)) throw cause
    throw failure('ERR_IDENTITY_INVALID', path, `it can not be read: ${errorCode(cause)}`, cause)
  } finally {
    await file.close()
  }
}

async function openForRead(path: string): Promise<FileHandle> {
  try {
    // O_NONBLOCK: open of a named pipe would wait for a writer for ever.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    const reason = errorCode(cause)
    if (reason === 'ENOENT' || reason === 'ENOTDIR') {
      throw failure('ERR_IDENTITY_MISSING', path, 'no such file', cause)
    }
    if (reason === 'EACCES' || reason === 'EPERM') {
      throw failure('ERR_IDENTITY_MODE', path, `this user may not read it (${reason})`, cause)
    }
    throw failure('ERR_IDENTITY_INVALID', path, `it can not be opened: ${reason}`, cause)
  }
}

/** Bits of the mode that a private key may not have. */
const FORBIDDEN: Readonly<Record<KeyAccess, number>> = { owner: 0o077, group: 0o007, any: 0 }
const HOW_TO_MEND =
  "; take the right from others (chmod o-rwx, defaultMode: 0440 of a Kubernetes volume), or read it with keyMode: 'any' where nobody else can reach it"

function assertPrivate(path: string, mode: number, uid: number, access: KeyAccess): void {
  if ((mode & FORBIDDEN[access]) !== 0) {
    throw failure(
      'ERR_IDENTITY_MODE',
      path,
      `expected mode ${access === 'owner' ? '0600' : '0640 or less'} for a private key, found ${octal(mode)}${access === 'group' ? HOW_TO_MEND : ''}`,
    )
  }
  if (access === 'owner') assertOurs(path, uid)
}

/** Throws ERR_IDENTITY_MODE when the owner is another user than the one we act as. */
export function assertOurs(path: string, uid: number): void {
  const ours = process.geteuid?.()
  if (ours !== undefined && uid !== ours) {
    throw failure('ERR_IDENTITY_MODE', path, `expected it to belong to user ${ours}, found user ${uid}`)
  }
}

export const octal = (mode: number): string => `0${(mode & 0o777).toString(8).padStart(3, '0')}`

const failure = (code: RotorErrorCode, path: string, problem: string, cause?: unknown): RotorError =>
  new RotorError(code, `${path}: ${problem}`, { cause, details: { path } })
