/** The files an issuer logs in with by AppRole: made once, 0600 from birth, never made anew. */
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { VaultConfig } from '../../../src/domain/vault-config.ts'
import { RotorError } from '../../../src/errors.ts'
import { fsyncDir, writeFileDurable } from '../../../src/identity/durable.ts'
import type { VaultClient } from './client.ts'
import { approlePath } from './setup.ts'

/**
 * Writes the files of `config.auth` that are not there yet, and returns their paths. A secret id that is to come in a
 * wrapping token is not made: who hands it over makes it. Throws ERR_IDENTITY_WRITE, and what the client throws.
 */
export async function writeCredentials(
  client: VaultClient,
  { auth }: VaultConfig,
  domain: string,
): Promise<string[]> {
  if (auth.method !== 'approle') return []
  const path = approlePath(auth.mount, domain)
  const written: string[] = []
  if (!(await exists(auth.roleIdFile))) {
    const answer = await client.read(`${path}/role-id`)
    written.push(await writeSecret(auth.roleIdFile, answer?.role_id, path))
  }
  if (auth.wrappedBy === undefined && !(await exists(auth.secretIdFile))) {
    const answer = await client.write(`${path}/secret-id`)
    written.push(await writeSecret(auth.secretIdFile, answer.secret_id, path))
  }
  return written
}

async function writeSecret(file: string, secret: unknown, path: string): Promise<string> {
  if (typeof secret !== 'string' || secret === '') {
    throw new RotorError('ERR_AUTHORITY_ANSWER', `${path}: expected an id to log in with in the answer`)
  }
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  await writeFileDurable(file, `${secret}\n`, 0o600)
  await fsyncDir(dirname(file))
  return file
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file)
    return true
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw new RotorError('ERR_IDENTITY_WRITE', `${file}: ${(cause as Error).message}`, { cause })
  }
}
