/**
 * How does an agent change what its node holds? One owner at a time, and one step that moves readers from a complete
 * generation to another complete one; going back is the same step. `layout.ts` shows what is where.
 */
import { join } from 'node:path'
import { RotorError } from '../errors.ts'
import type { Instant } from '../time.ts'
import { fsyncDir, replaceSymlink } from './durable.ts'
import {
  type GenerationFacts,
  listGenerations,
  readGeneration,
  removeGeneration,
  writeGeneration,
} from './generations.ts'
import type { IdentitySnapshot } from './identity.ts'
import { CURRENT, currentTarget, GENERATIONS, LOCK } from './layout.ts'
import { currentGeneration, ensurePublicLinks } from './links.ts'
import { acquireLock, type DirectoryLock } from './lock.ts'
import type { GenerationManifest } from './manifest.ts'
import type { CheckOptions, IdentityMaterial } from './material.ts'
import { nameOf, snapshotOf } from './read.ts'
import { abandoned, prepareFolders, recover } from './recover.ts'
import { type AcceptedState, readState, writeState } from './state.ts'
import type { Trace } from './steps.ts'

export interface Generation {
  /** `<version>-<n>`. */
  readonly name: string
  /** Its folder, absolute. */
  readonly path: string
  readonly manifest: GenerationManifest
}

export interface StagedGeneration extends Generation {
  /** As it was loaded back from disk. */
  readonly snapshot: IdentitySnapshot
}

export interface OpenOptions {
  /** Called after each step that changes the disk. @default nothing */
  readonly trace?: Trace
}

/**
 * Opens a directory for its one agent: makes missing folders (0700), takes the lock, removes what a crash left.
 * Throws ERR_IDENTITY_LOCKED when another process has it, ERR_IDENTITY_MODE for a wrong owner or mode,
 * ERR_IDENTITY_INVALID when files of somebody else are in the way, ERR_IDENTITY_WRITE when the disk refuses.
 */
export async function openDirectory(dir: string, options: OpenOptions = {}): Promise<IdentityDirectory> {
  const trace = options.trace ?? (() => {})
  const path = await prepareFolders(dir)
  const lock = await acquireLock(join(path, LOCK))
  try {
    await recover(path, trace)
    return new IdentityDirectory(path, lock, trace)
  } catch (cause) {
    await lock.release()
    throw cause
  }
}

/** Made by `openDirectory`. assumption: one call at a time, the agent applies in single flight. */
export class IdentityDirectory implements AsyncDisposable {
  /** Absolute, without links. */
  readonly path: string
  readonly #generations: string
  readonly #lock: DirectoryLock
  readonly #trace: Trace
  /** The generation that the present one replaced; null before the first `publish` since the start. */
  #previous: string | null = null
  /** For each bundle version, the last name that was given: one that was pruned must not come back. */
  readonly #given = new Map<number, string>()
  #closed = false

  constructor(path: string, lock: DirectoryLock, trace: Trace) {
    this.path = path
    this.#generations = join(path, GENERATIONS)
    this.#lock = lock
    this.#trace = trace
  }

  /** The published generation; null before the first. Throws ERR_IDENTITY_INVALID when it is damaged. */
  async current(): Promise<Generation | null> {
    const name = await this.#currentName()
    return name === null ? null : await this.#find(name)
  }

  /** Names of all generations on disk, oldest first. */
  async list(): Promise<string[]> {
    this.#assertOpen()
    return await listGenerations(this.#generations)
  }

  /**
   * What a generation holds. With `now` it is verified as `checkMaterial` does; without, it only has to be whole, so
   * that an agent which slept too long can still say who it was.
   */
  async load(name: string, now?: Instant, options: CheckOptions = {}): Promise<IdentitySnapshot> {
    this.#assertOpen()
    const path = this.#folder(name)
    const { material, manifest } = await this.#read(name)
    return snapshotOf(material, nameOf(name, manifest), now, options, path)
  }

  /**
   * Writes a complete new generation and loads it back; readers see nothing of it. Throws ERR_IDENTITY_INVALID when
   * the material is not one valid set, ERR_IDENTITY_WRITE with path and reason; then nothing is left behind.
   */
  async stage(
    material: IdentityMaterial,
    facts: GenerationFacts,
    now: Instant,
    options: CheckOptions = {},
  ): Promise<StagedGeneration> {
    this.#assertOpen()
    const trace = this.#trace
    const last = this.#given.get(facts.version) ?? null
    const name = await writeGeneration(this.#generations, material, facts, now, { ...options, trace, last })
    this.#given.set(facts.version, name)
    return { ...(await this.#find(name)), snapshot: await this.load(name) }
  }

  /**
   * Makes a generation the current one: one rename, durable when it returns. Returns the one that was current, to be
   * given to `putBack`; null when there was none that could be put back. Throws ERR_IDENTITY_INVALID or
   * ERR_IDENTITY_MISSING, and changes nothing, when the generation is not whole any more.
   */
  async publish(next: Pick<Generation, 'name'>): Promise<Generation | null> {
    await this.#find(next.name)
    const before = await this.#currentName()
    const previous = before === null ? null : await this.#find(before).catch(() => null)
    await ensurePublicLinks(this.path)
    this.#trace('publish:links')
    if (before !== next.name) {
      const link = join(this.path, CURRENT)
      await replaceSymlink(currentTarget(next.name), link, () => this.#trace('publish:link'))
      this.#previous = before
    }
    this.#trace('publish:switched')
    await fsyncDir(this.path)
    this.#trace('publish:durable')
    return previous
  }

  /** Makes the generation current again that `publish` returned. The same step, the same errors. */
  async putBack(previous: Pick<Generation, 'name'>): Promise<void> {
    await this.publish(previous)
  }

  /**
   * Removes old generations. The newest `keep` up to the current one stay, always the current one, the one it
   * replaced and the newest; newer ones that were not published go.
   */
  async prune(keep = 4): Promise<void> {
    if (!Number.isInteger(keep) || keep < 1) throw new TypeError(`keep: expected 1 or more, found ${keep}`)
    const current = await this.#currentName()
    const names = await this.list()
    const drop = new Set(abandoned(names, current))
    const upTo = current === null ? -1 : names.indexOf(current)
    for (const name of names.slice(0, Math.max(0, upTo + 1 - keep))) drop.add(name)
    for (const name of names) {
      const stays = name === current || name === this.#previous || !drop.has(name)
      if (!stays) await removeGeneration(this.#folder(name), this.#trace)
    }
  }

  /** What the agent has accepted; null before the first `writeState`. Throws ERR_RECORD_INVALID. */
  async readState(): Promise<AcceptedState | null> {
    this.#assertOpen()
    return await readState(this.path)
  }

  /** Replaces the state, durable when it returns. Never lowers the highest version; see `state.ts` for errors. */
  async writeState(state: AcceptedState): Promise<void> {
    this.#assertOpen()
    await writeState(this.path, state, this.#trace)
  }

  /** Gives the lock back. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#lock.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #folder(name: string): string {
    return join(this.#generations, name)
  }

  async #find(name: string): Promise<Generation> {
    this.#assertOpen()
    const { manifest } = await this.#read(name)
    return { name, path: this.#folder(name), manifest }
  }

  async #read(name: string): ReturnType<typeof readGeneration> {
    const path = this.#folder(name)
    try {
      return await readGeneration(path, 'owner')
    } catch (cause) {
      if (!RotorError.is(cause) || cause.code !== 'ERR_IDENTITY_MISSING') throw cause
      const message = `${path}: expected a complete generation, ${cause.message}`
      throw new RotorError('ERR_IDENTITY_INVALID', message, { cause, details: { path } })
    }
  }

  async #currentName(): Promise<string | null> {
    this.#assertOpen()
    return await currentGeneration(this.path)
  }

  #assertOpen(): void {
    if (this.#closed) throw new TypeError(`${this.path}: the directory was closed`)
  }
}
