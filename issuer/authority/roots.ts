/**
 * The roots of the embedded authority: several at a time while one follows another. Number 1 is `<dir>/root.crt` and
 * `root.key`; each later one has a folder, `<dir>/roots/<number>/`, with the same two and, when old and new signed each
 * other's key, `by-<old>.crt` (its own key, signed by the old root) and `of-<old>.crt` (the key of the old one, signed
 * by it). A folder appears by one rename, so a root is there whole or not at all.
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RotorError } from '../../src/errors.ts'
import { errorCode, fsyncDir, writeFileDurable } from '../../src/identity/durable.ts'
import type { HeldRoot } from '../../src/rotation/state.ts'
import { type Certificate, parseCertificate } from '../../src/trust/certificate.ts'
import { issueCross, issueRoot, type KeyedCertificate } from '../../src/trust/issue.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem } from '../../src/trust/keys.ts'
import type { RootStore, WantedRoot } from './authority.ts'

interface LoadedRoot extends KeyedCertificate {
  readonly number: number
  /** By the number of the other root. */
  readonly by: ReadonlyMap<number, Certificate>
  readonly of: ReadonlyMap<number, Certificate>
}

export interface EmbeddedRootsOptions {
  readonly domain: string
  /** Directory of the key store. */
  readonly dir: string
  readonly passphrase?: string | undefined
}

export class EmbeddedRoots implements RootStore {
  readonly #options: EmbeddedRootsOptions
  /** Decrypted once. */
  readonly #loaded = new Map<number, Promise<LoadedRoot>>()
  /** By the SHA-256 of an authority: signing must not read the disk. */
  readonly #crosses = new Map<string, Promise<readonly Certificate[]>>()
  #work: Promise<unknown> = Promise.resolve()

  constructor(options: EmbeddedRootsOptions) {
    this.#options = options
  }

  async held(): Promise<readonly HeldRoot[]> {
    return (await this.#all()).map(({ number, certificate }) => ({
      number,
      certificate: certificate.pem,
      sha256: certificate.sha256,
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
    }))
  }

  create(wanted: WantedRoot): Promise<HeldRoot> {
    const made = this.#work.then(async () => {
      if (!(await this.#numbers()).includes(wanted.number)) await this.#make(wanted)
      const root = (await this.held()).find(({ number }) => number === wanted.number)
      if (root === undefined)
        throw new RotorError('ERR_INTERNAL', `root ${wanted.number} was made and is not there`)
      return root
    })
    this.#work = made.catch(() => {})
    return made
  }

  async delete(number: number): Promise<void> {
    this.#forget(number)
    const { dir } = this.#options
    if (number === 1) {
      // the key first: what is left half deleted must not be able to sign
      for (const name of ['root.key', 'root.crt']) await rm(join(dir, name), { force: true })
      await fsyncDir(dir)
      return
    }
    await rm(join(this.#folder, String(number)), { recursive: true, force: true })
    await fsyncDir(this.#folder).catch(() => {})
  }

  /** Certificate and key of a root, by SHA-256. Throws ERR_AUTHORITY_MISSING. */
  async keyed(sha256: string): Promise<LoadedRoot> {
    const root = (await this.#all()).find(({ certificate }) => certificate.sha256 === sha256)
    if (root !== undefined) return root
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `${this.#options.dir}: expected the root ${sha256}, which the bundle names, and its key; restore it from a backup`,
    )
  }

  /**
   * What leads from the root that signed this authority to the other roots that are held: certificates for its key,
   * signed by those. Whoever trusts only one of the roots verifies a chain with them.
   */
  crossCertificates(authority: Certificate): Promise<readonly Certificate[]> {
    const known = this.#crosses.get(authority.sha256)
    if (known !== undefined) return known
    const found = this.#crossesFor(authority)
    this.#crosses.set(authority.sha256, found)
    found.catch(() => this.#crosses.delete(authority.sha256))
    return found
  }

  async #crossesFor(authority: Certificate): Promise<readonly Certificate[]> {
    const all = await this.#all()
    const own = all.find(({ certificate }) => certificate.subjectKeyId === authority.authorityKeyId)
    if (own === undefined) return []
    return all.flatMap(({ number, of }) => {
      const other = own.by.get(number) ?? of.get(own.number)
      return other === undefined ? [] : [other]
    })
  }

  get #folder(): string {
    return join(this.#options.dir, 'roots')
  }

  async #all(): Promise<LoadedRoot[]> {
    const numbers = await this.#numbers()
    for (const number of this.#loaded.keys()) if (!numbers.includes(number)) this.#forget(number)
    return Promise.all(numbers.map((number) => this.#load(number)))
  }

  #forget(number: number): void {
    this.#loaded.delete(number)
    this.#crosses.clear()
  }

  async #numbers(): Promise<number[]> {
    const { dir } = this.#options
    const later = await names(this.#folder)
    const first = (await names(dir)).includes('root.key') ? [1] : []
    return [...first, ...later.filter((name) => /^[1-9]\d*$/.test(name)).map(Number)].sort((a, b) => a - b)
  }

  #load(number: number): Promise<LoadedRoot> {
    const known = this.#loaded.get(number)
    if (known !== undefined) return known
    const loading = this.#read(number)
    this.#crosses.clear()
    this.#loaded.set(number, loading)
    loading.catch(() => this.#loaded.delete(number))
    return loading
  }

  async #read(number: number): Promise<LoadedRoot> {
    const { dir, passphrase } = this.#options
    const folder = number === 1 ? dir : join(this.#folder, String(number))
    const file = join(folder, 'root.key')
    const crosses = async (kind: 'by' | 'of') => {
      const found = (number === 1 ? [] : await names(folder)).flatMap((name) => {
        const [, other] = new RegExp(`^${kind}-(\\d+)\\.crt$`).exec(name) ?? []
        return other === undefined ? [] : [{ other: Number(other), name }]
      })
      return new Map(
        await Promise.all(
          found.map(async ({ other, name }) => [other, await readCertificate(join(folder, name))] as const),
        ),
      )
    }
    return {
      number,
      certificate: await readCertificate(join(folder, 'root.crt')),
      privateKey: privateKeyFromPem(await read(file), passphrase, file),
      by: await crosses('by'),
      of: await crosses('of'),
    }
  }

  async #make({ number, notBefore, notAfter, cross }: WantedRoot): Promise<void> {
    const { domain, passphrase } = this.#options
    const keyPair = await generateKeyPair()
    const pem = await issueRoot({ domain, keyPair, notBefore, notAfter })
    const files = [
      { name: 'root.key', text: privateKeyToPem(keyPair.privateKey, passphrase), mode: 0o600 },
      { name: 'root.crt', text: pem, mode: 0o644 },
    ]
    if (cross !== null) {
      const old = await this.keyed(cross.root)
      const fresh = { certificate: parseCertificate(pem, 'new root'), privateKey: keyPair.privateKey }
      const window = { notBefore, notAfter: cross.notAfter }
      const by = await issueCross({ subject: fresh.certificate, root: old, ...window })
      const of = await issueCross({ subject: old.certificate, root: fresh, ...window })
      files.push({ name: `by-${old.number}.crt`, text: by, mode: 0o644 })
      files.push({ name: `of-${old.number}.crt`, text: of, mode: 0o644 })
    }
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const temporary = await mkdtemp(join(this.#folder, '.new-'))
    for (const { name, text, mode } of files) await writeFileDurable(join(temporary, name), text, mode)
    await fsyncDir(temporary)
    await rename(temporary, join(this.#folder, String(number))).catch(async (cause) => {
      // Another issuer on this directory was first: its root is the one with this number.
      if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(cause))) throw cause
      await rm(temporary, { recursive: true, force: true })
    })
    await fsyncDir(this.#folder)
    await fsyncDir(this.#options.dir)
  }
}

async function names(folder: string): Promise<string[]> {
  return readdir(folder).catch((cause) => {
    if (errorCode(cause) === 'ENOENT') return []
    throw new RotorError('ERR_AUTHORITY_MISSING', `${folder}: ${cause.message}`, { cause })
  })
}

const readCertificate = async (file: string): Promise<Certificate> =>
  parseCertificate(await read(file), file, 'ERR_AUTHORITY_MISSING')

async function read(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause) => {
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `expected ${file} of the embedded authority: ${cause.message}`,
      {
        cause,
      },
    )
  })
}
