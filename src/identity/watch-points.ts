/**
 * Where does a change show that a path now leads to something else? In every folder in which a name of the path stands
 * that can be replaced: each symbolic link on the way, and the file at its end. `current` of ours and `..data` of
 * Kubernetes are such links; so may be a parent of the directory.
 */
import { lstat, readlink } from 'node:fs/promises'
import { join, parse, resolve, sep } from 'node:path'

/** Names to look at, by folder (absolute, without links). */
export type WatchPoints = ReadonlyMap<string, ReadonlySet<string>>

/** Linux gives up after as many links (path_resolution(7)). */
const MAX_LINKS = 40

/** The points of several paths. A path that ends nowhere has the point where its missing part would appear. */
export async function watchPoints(paths: readonly string[]): Promise<WatchPoints> {
  const points = new Map<string, Set<string>>()
  const add = (folder: string, name: string): void => {
    points.set(folder, (points.get(folder) ?? new Set()).add(name))
  }
  for (const path of paths) await walk(resolve(path), add)
  return points
}

async function walk(path: string, add: (folder: string, name: string) => void): Promise<void> {
  let folder = parse(path).root
  let rest = path.slice(folder.length).split(sep)
  for (let links = 0; links <= MAX_LINKS; ) {
    const [name, ...after] = rest
    if (name === undefined) return
    rest = after
    const here = join(folder, name)
    const found = await kindOf(here)
    if (found === 'folder' && after.length > 0) {
      folder = here
      continue
    }
    add(folder, name)
    if (found !== 'link') return
    const target = await readlink(here).catch(() => null)
    // Gone or replaced between two looks: its own point tells.
    if (target === null) return
    const next = resolve(folder, target)
    folder = parse(next).root
    rest = [...next.slice(folder.length).split(sep).filter(Boolean), ...after]
    links += 1
  }
}

async function kindOf(path: string): Promise<'link' | 'folder' | 'end'> {
  try {
    const found = await lstat(path)
    if (found.isSymbolicLink()) return 'link'
    return found.isDirectory() ? 'folder' : 'end'
  } catch {
    return 'end'
  }
}
