/**
 * Who rings when a name in one of several folders changes? A watcher holds on to the folder it was made for, not to its
 * path: `renew` replaces those whose folder was replaced. What they miss (network file systems, overlays, a full
 * inotify table) is found by the owner's polling.
 */
import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Logger } from '../log.ts'
import { errorCode } from './durable.ts'
import type { WatchPoints } from './watch-points.ts'

interface Watched {
  readonly watcher: FSWatcher
  /** Of the folder itself, whatever its path is. */
  readonly id: string
  names: ReadonlySet<string>
}

export class Watchers {
  readonly #changed: () => void
  readonly #logger: Logger
  readonly #watched = new Map<string, Watched>()
  /** Why a folder could not be watched, each reason told once. */
  readonly #told = new Set<string>()

  /** `changed` is called, often several times, when something may have changed. */
  constructor(changed: () => void, logger: Logger) {
    this.#changed = changed
    this.#logger = logger
  }

  /** Watches these points and no others. Folders that are not there are passed over. One call at a time. */
  async renew(points: WatchPoints): Promise<void> {
    for (const folder of [...this.#watched.keys()]) if (!points.has(folder)) this.#drop(folder)
    for (const [folder, names] of points) {
      const id = await idOf(folder)
      const known = this.#watched.get(folder)
      if (known !== undefined && known.id === id) known.names = names
      else {
        this.#drop(folder)
        if (id !== null) this.#add(folder, id, names)
      }
    }
  }

  close(): void {
    for (const folder of [...this.#watched.keys()]) this.#drop(folder)
  }

  #add(folder: string, id: string, names: ReadonlySet<string>): void {
    try {
      const watcher = watch(folder)
      const watched: Watched = { watcher, id, names }
      watcher.on('change', (_, name) => {
        // Under its own name a folder tells that it is gone; without a name anything may have changed.
        const about = name === null ? null : String(name)
        if (about === null || about === basename(folder) || watched.names.has(about)) this.#changed()
      })
      watcher.on('error', (cause) => {
        if (this.#watched.get(folder) !== watched) return
        this.#drop(folder)
        this.#tell(folder, cause)
        this.#changed()
      })
      this.#watched.set(folder, watched)
    } catch (cause) {
      this.#tell(folder, cause)
    }
  }

  #drop(folder: string): void {
    this.#watched.get(folder)?.watcher.close()
    this.#watched.delete(folder)
  }

  #tell(folder: string, cause: unknown): void {
    const reason = errorCode(cause)
    if (this.#told.has(reason)) return
    this.#told.add(reason)
    this.#logger.warn({ folder, reason }, 'a folder can not be watched, it is polled')
  }
}

/** Equal for the same folder only. The time of its birth tells it from a later one with the same inode number. */
async function idOf(folder: string): Promise<string | null> {
  try {
    const { dev, ino, birthtimeNs } = await stat(folder, { bigint: true })
    return `${dev}:${ino}:${birthtimeNs}`
  } catch {
    return null
  }
}
