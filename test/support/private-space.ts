/** Namespaces that only one process and its children see: mounts and networks that nobody else notices. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * The arguments of `unshare` that give namespaces of these `kinds` in which `trial` works: as root, or as root of a user
 * namespace. Null where neither does.
 */
export async function privateSpace(
  kinds: readonly string[],
  trial: string,
): Promise<readonly string[] | null> {
  for (const user of [[], ['--user', '--map-root-user']]) {
    const flags = [...user, ...kinds]
    const works = await run('unshare', [...flags, 'sh', '-c', trial])
      .then(() => true)
      .catch(() => false)
    if (works) return flags
  }
  return null
}
