/** Bundles in the key store of the embedded authority: `<keys>/bundles/<version>.jws`, durable before they are published. */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RotorError } from '../../src/errors.ts'
import { createFile, errorCode, fsyncDir, writing } from '../../src/identity/durable.ts'
import { isUnfinished } from '../../src/identity/layout.ts'
import { type BundleHistory, type KeptBundle, newestOf, versionsIn } from './history.ts'

const END = '.jws'

export class FileHistory implements BundleHistory {
  readonly #dir: string

  /** `dir` is made when the first bundle is kept. */
  constructor(dir: string) {
    this.#dir = dir
  }

  async store(version: number, envelope: Uint8Array): Promise<Uint8Array> {
    const kept = await this.read(version)
    if (kept !== null) return kept
    await writing(this.#dir, () => mkdir(this.#dir, { recursive: true, mode: 0o700 }))
    const created = await createFile(this.#file(version), envelope, 0o600)
    // the name of the folder itself
    await fsyncDir(join(this.#dir, '..'))
    // another issuer was first
    return created ? envelope : ((await this.read(version)) ?? envelope)
  }

  async read(version: number): Promise<Uint8Array | null> {
    return missingIsNull(this.#file(version), (file) => readFile(file))
  }

  newest(): Promise<KeptBundle | null> {
    return newestOf(this)
  }

  async list(): Promise<readonly number[]> {
    const names = await this.#names()
    return versionsIn(names.flatMap((name) => (name.endsWith(END) ? [name.slice(0, -END.length)] : [])))
  }

  async prune(keepFrom: number): Promise<void> {
    for (const version of (await this.list()).slice(0, -1)) {
      if (version < keepFrom)
        await writing(this.#file(version), () => rm(this.#file(version), { force: true }))
    }
    // of an issuer that died while it kept one; one that is late there keeps it again
    for (const name of await this.#names()) {
      if (isUnfinished(name)) await writing(this.#dir, () => rm(join(this.#dir, name), { force: true }))
    }
  }

  async #names(): Promise<string[]> {
    return (await missingIsNull(this.#dir, (dir) => readdir(dir))) ?? []
  }

  #file(version: number): string {
    return join(this.#dir, `${version}${END}`)
  }
}

async function missingIsNull<T>(path: string, read: (path: string) => Promise<T>): Promise<T | null> {
  try {
    return await read(path)
  } catch (cause) {
    const code = errorCode(cause)
    if (code === 'ENOENT') return null
    throw new RotorError('ERR_AUTHORITY_MISSING', `${path}: expected a bundle that can be read: ${code}`, {
      cause,
    })
  }
}
