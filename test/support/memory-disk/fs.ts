/** `node:fs/promises` on the disk in memory, as far as the identity directory uses it. */
import { constants } from 'node:fs'
import { currentDisk, File, Folder, type Folder as FolderType, failure, Link, type Node } from './disk.ts'

interface Place {
  readonly folder: FolderType
  readonly name: string
}

const MOST_LINKS = 20

/** The folder a path leads to, and the last name in it. Links on the way are followed. */
function placeOf(path: string, hops = 0): Place {
  const names = path.split('/').filter((name) => name !== '' && name !== '.')
  const last = names.pop() ?? ''
  let folder = currentDisk().root
  let at = ''
  for (const name of names) {
    at += `/${name}`
    const node = follow(folder.entries.get(name), at, hops)
    if (node === undefined) throw failure('ENOENT', path)
    if (!(node instanceof Folder)) throw failure('ENOTDIR', path)
    folder = node
  }
  return { folder, name: last }
}

function follow(node: Node | undefined, path: string, hops: number): Node | undefined {
  if (!(node instanceof Link)) return node
  if (hops > MOST_LINKS) throw failure('ELOOP', path)
  const target = node.target.startsWith('/')
    ? node.target
    : `${path.slice(0, path.lastIndexOf('/'))}/${node.target}`
  const { folder, name } = placeOf(target, hops + 1)
  return follow(folder.entries.get(name), target, hops + 1)
}

function nodeAt(path: string, links: 'follow' | 'see'): Node {
  if (path === '/') return currentDisk().root
  const { folder, name } = placeOf(path)
  const node = folder.entries.get(name)
  const found = links === 'follow' ? follow(node, path, 0) : node
  if (found === undefined) throw failure('ENOENT', path)
  return found
}

const uid = process.geteuid?.() ?? 0

const statOf = (node: Node) => ({
  mode: node instanceof Link ? 0o777 : node.mode,
  uid,
  size: node instanceof File ? node.data.length : 0,
  isFile: () => node instanceof File,
  isDirectory: () => node instanceof Folder,
})

class Handle {
  readonly #node: Node
  constructor(node: Node) {
    this.#node = node
  }

  async writeFile(data: string | Uint8Array): Promise<void> {
    const node = this.#node
    if (!(node instanceof File)) throw failure('EISDIR', 'write')
    await currentDisk().change('write', () => {
      node.data = Buffer.from(data)
    })
  }

  async readFile(): Promise<Buffer> {
    if (!(this.#node instanceof File)) throw failure('EISDIR', 'read')
    return Buffer.from(this.#node.data)
  }

  async stat() {
    return statOf(this.#node)
  }

  async sync(): Promise<void> {
    const node = this.#node
    await currentDisk().change('sync', () => {
      if (currentDisk().lies) return
      if (node instanceof File) node.durable = node.data
      if (node instanceof Folder) node.sync()
    })
  }

  async close(): Promise<void> {}
}

export async function open(path: string, flags: string | number = 'r', mode = 0o666): Promise<Handle> {
  const { folder, name } = placeOf(path)
  const there = folder.entries.get(name)
  if (flags === 'wx' || (flags === 'a' && there === undefined)) {
    if (there !== undefined) throw failure('EEXIST', path)
    return await currentDisk().change('open', () => {
      const file = new File(mode)
      folder.entries.set(name, file)
      folder.changed()
      return new Handle(file)
    })
  }
  const readable =
    ['r', 'r+', 'a'].includes(String(flags)) || flags === (constants.O_RDONLY | constants.O_NONBLOCK)
  if (!readable) throw new TypeError(`open: flags ${flags} are not known here`)
  return new Handle(nodeAt(path, 'follow'))
}

export async function mkdir(
  path: string,
  options: number | { recursive?: boolean; mode?: number } = {},
): Promise<string | undefined> {
  let first: string | undefined
  const { recursive = false, mode = 0o777 } = typeof options === 'number' ? { mode: options } : options
  const names = path.split('/').filter((name) => name !== '')
  for (const [i] of names.entries()) {
    const last = i === names.length - 1
    if (!last && !recursive) continue
    const { folder, name } = placeOf(`/${names.slice(0, i + 1).join('/')}`)
    if (folder.entries.has(name)) {
      if (recursive) continue
      throw failure('EEXIST', path)
    }
    await currentDisk().change('mkdir', () => {
      folder.entries.set(name, new Folder(mode))
      folder.changed()
    })
    first ??= `/${names.slice(0, i + 1).join('/')}`
  }
  return recursive ? first : undefined
}

export async function readdir(path: string, options: { withFileTypes?: boolean } = {}) {
  const folder = nodeAt(path, 'follow')
  if (!(folder instanceof Folder)) throw failure('ENOTDIR', path)
  const entries = [...folder.entries]
  return options.withFileTypes === true
    ? entries.map(([name, node]) => ({ name, isDirectory: () => node instanceof Folder }))
    : entries.map(([name]) => name)
}

export async function rename(from: string, to: string): Promise<void> {
  const [source, target] = [placeOf(from), placeOf(to)]
  const node = source.folder.entries.get(source.name)
  if (node === undefined) throw failure('ENOENT', from)
  const there = target.folder.entries.get(target.name)
  if (there instanceof Folder && there.entries.size > 0) throw failure('ENOTEMPTY', to)
  await currentDisk().change('rename', () => {
    source.folder.entries.delete(source.name)
    target.folder.entries.set(target.name, node)
    target.folder.changed()
    if (source.folder !== target.folder) source.folder.changed()
  })
}

export async function rm(
  path: string,
  options: { recursive?: boolean; force?: boolean } = {},
): Promise<void> {
  let place: Place
  try {
    place = placeOf(path)
    nodeAt(path, 'see')
  } catch (error) {
    if (options.force === true) return
    throw error
  }
  const { folder, name } = place
  const node = folder.entries.get(name)
  // one entry after the other, so that half a tree may be left
  if (node instanceof Folder) {
    for (const inside of [...node.entries.keys()]) await rm(`${path}/${inside}`, options)
  }
  await currentDisk().change('rm', () => {
    folder.entries.delete(name)
    folder.changed()
  })
}

export async function symlink(target: string, path: string): Promise<void> {
  const { folder, name } = placeOf(path)
  if (folder.entries.has(name)) throw failure('EEXIST', path)
  await currentDisk().change('symlink', () => {
    folder.entries.set(name, new Link(target))
    folder.changed()
  })
}

export async function link(from: string, path: string): Promise<void> {
  const node = nodeAt(from, 'see')
  if (node instanceof Folder) throw failure('EPERM', from)
  const { folder, name } = placeOf(path)
  if (folder.entries.has(name)) throw failure('EEXIST', path)
  await currentDisk().change('link', () => {
    folder.entries.set(name, node)
    folder.changed()
  })
}

export async function readlink(path: string): Promise<string> {
  const node = nodeAt(path, 'see')
  if (!(node instanceof Link)) throw failure('EINVAL', path)
  return node.target
}

export const readFile = async (path: string, encoding?: 'utf8'): Promise<string | Buffer> => {
  const node = nodeAt(path, 'follow')
  if (!(node instanceof File)) throw failure('EISDIR', path)
  return encoding === undefined ? Buffer.from(node.data) : node.data.toString(encoding)
}

export const stat = async (path: string) => statOf(nodeAt(path, 'follow'))
export const lstat = async (path: string) => statOf(nodeAt(path, 'see'))
export const realpath = async (path: string): Promise<string> => {
  nodeAt(path, 'follow')
  return path
}
