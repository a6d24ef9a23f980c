/**
 * A disk in memory that keeps no more than it has promised: what was not synced may be gone after a power cut, a file
 * may be torn, and entries of a folder come back as they were at any moment since the folder was synced (a file system
 * with a journal keeps their order, each folder on its own). It can also stop, or have no room, at any operation.
 */
import type { Random } from '../random.ts'

export class File {
  data = Buffer.alloc(0)
  durable = Buffer.alloc(0)
  readonly mode: number
  constructor(mode: number) {
    this.mode = mode
  }
}

export class Link {
  readonly target: string
  constructor(target: string) {
    this.target = target
  }
}

export class Folder {
  entries = new Map<string, Node>()
  /** As it was at each change since the last sync, the synced one first. */
  history: ReadonlyMap<string, Node>[] = [new Map()]
  readonly mode: number
  constructor(mode: number) {
    this.mode = mode
  }

  changed(): void {
    this.history.push(new Map(this.entries))
  }

  sync(): void {
    this.history = [new Map(this.entries)]
  }
}

export type Node = File | Link | Folder

/** What happens at one of the operations. */
export type Trouble = 'stop before' | 'stop after' | 'no room'

export class MemoryDisk {
  readonly root = new Folder(0o700)
  /** Operations that change something, so far. */
  operations = 0
  /** Says that it has synced, and has not; to see that a test notices. */
  lies = false
  #at: { readonly operation: number; readonly trouble: Trouble } | null = null
  #full = false
  readonly #stopped = Promise.withResolvers<'stopped'>()

  /** Resolves when the machine stopped. */
  get stopped(): Promise<'stopped'> {
    return this.#stopped.promise
  }

  /** Makes trouble at the operation of this number, counted from 1. */
  trouble(operation: number, trouble: Trouble): void {
    this.#at = { operation, trouble }
  }

  makeRoom(): void {
    this.#full = false
    this.#at = null
  }

  /** One operation that changes something. Never returns when the machine stops at it. */
  async change<T>(code: string, work: () => T): Promise<T> {
    this.operations += 1
    const trouble = this.#at?.operation === this.operations ? this.#at.trouble : null
    if (trouble === 'no room') this.#full = true
    if (this.#full && TAKES_ROOM.has(code)) throw failure('ENOSPC', code)
    if (trouble === 'stop before') return this.#stop()
    const result = work()
    if (trouble === 'stop after') return this.#stop()
    return result
  }

  /** The disk after the power came back. */
  powerCut(random: Random): void {
    cut(this.root, random)
  }

  #stop<T>(): Promise<T> {
    this.#stopped.resolve('stopped')
    return new Promise<T>(() => {})
  }
}

/** Removing and syncing go on when a disk is full. */
const TAKES_ROOM: ReadonlySet<string> = new Set(['open', 'write', 'mkdir', 'symlink', 'link'])

function cut(folder: Folder, random: Random): void {
  folder.entries = new Map(folder.history[random.int(0, folder.history.length - 1)])
  folder.sync()
  for (const node of folder.entries.values()) {
    if (node instanceof Folder) cut(node, random)
    if (node instanceof File && !node.data.equals(node.durable)) {
      node.data = random.pick([
        node.durable,
        node.data,
        node.data.subarray(0, random.int(0, node.data.length)),
      ])
      node.durable = node.data
    }
  }
}

export const failure = (code: string, what: string): Error =>
  Object.assign(new Error(`${code}: ${what}`), { code })

/** The disk of the test that runs now. */
let present: MemoryDisk | null = null

export function useDisk(disk: MemoryDisk | null): void {
  present = disk
}

export function currentDisk(): MemoryDisk {
  if (present === null) throw new TypeError('expected a disk in memory to be in use')
  return present
}
