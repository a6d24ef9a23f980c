/**
 * The embedded authority: keys made in this process and kept in a directory, 0600, encrypted when a passphrase is
 * given. Roots as roots.ts has them, and one folder for each epoch: `authorities/<epoch>/ca.crt`, `ca.key`.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { RotorError } from '../../src/errors.ts'
import { fsyncDir, writeFileDurable } from '../../src/identity/durable.ts'
import type { HeldAuthority } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import { type Certificate, parseCertificate } from '../../src/trust/certificate.ts'
import { issueAuthority, issueLeaf, issueRoot } from '../../src/trust/issue.ts'
import { generateKeyPair, type KeyPair, privateKeyFromPem, privateKeyToPem } from '../../src/trust/keys.ts'
import type { Permitted } from '../../src/trust/name-constraints.ts'
import type { Authority, LeafRequest } from './authority.ts'
import { EmbeddedRoots } from './roots.ts'

/** Folders of authorities that are being removed, and of such that are being made. */
const GONE = '.gone-'
const NEW = '.new-'

interface KeyedCertificate {
  readonly certificate: Certificate
  readonly privateKey: KeyPair['privateKey']
}

export interface EmbeddedOptions {
  readonly domain: string
  /** Directory of the key store, 0700. */
  readonly dir: string
  /** Encrypts keys at rest. @default none */
  readonly passphrase?: string | undefined
  /** What new authorities may certify (name constraints). @default every name */
  readonly permitted?: Permitted | undefined
}

/** Makes the root of a new domain; refuses a directory that already has one. */
export async function createRoot(
  options: EmbeddedOptions & { notBefore: Instant; notAfter: Instant },
): Promise<string> {
  const keyPair = await generateKeyPair()
  const certificate = await issueRoot({
    domain: options.domain,
    keyPair,
    notBefore: options.notBefore,
    notAfter: options.notAfter,
  })
  await mkdir(options.dir, { recursive: true, mode: 0o700 })
  await writeFileDurable(
    join(options.dir, 'root.key'),
    privateKeyToPem(keyPair.privateKey, options.passphrase),
    0o600,
  )
  await writeFileDurable(join(options.dir, 'root.crt'), certificate, 0o644)
  return certificate
}

export class EmbeddedAuthority implements Authority {
  readonly #options: EmbeddedOptions
  readonly rootStore: EmbeddedRoots
  /**
   * Decrypted once; signing must not read the disk. Another issuer may work on the same directory: `stamp` tells that the
   * folder of an epoch is not the one that was read.
   */
  readonly #loaded = new Map<Epoch, { readonly stamp: string; readonly keyed: Promise<KeyedCertificate> }>()
  #work: Promise<unknown> = Promise.resolve()

  constructor(options: EmbeddedOptions) {
    this.#options = options
    this.rootStore = new EmbeddedRoots(options)
  }

  prepare(
    epoch: Epoch,
    window: { notBefore: Instant; notAfter: Instant },
    root?: string,
  ): Promise<HeldAuthority> {
    const made = this.#work.then(async () => {
      if (!(await this.#epochs()).includes(epoch)) await this.#create(epoch, window, root)
      return held(epoch, (await this.#look(epoch)).certificate)
    })
    this.#work = made.catch(() => {})
    return made
  }

  async list(): Promise<HeldAuthority[]> {
    const epochs = await this.#epochs()
    for (const epoch of this.#loaded.keys()) if (!epochs.includes(epoch)) this.#loaded.delete(epoch)
    return Promise.all(epochs.map(async (epoch) => held(epoch, (await this.#look(epoch)).certificate)))
  }

  async sign(epoch: Epoch, request: LeafRequest): Promise<string> {
    const authority = await (this.#loaded.get(epoch)?.keyed ?? this.#look(epoch))
    const { csr, ...rest } = request
    const leaf = await issueLeaf({ authority, publicKey: csr.publicKey, ...rest })
    const crosses = await this.rootStore.crossCertificates(authority.certificate)
    return [leaf, authority.certificate.pem, ...crosses.map(({ pem }) => pem)].join('')
  }

  /** Nobody else signs with these keys. */
  async activate(): Promise<void> {}

  async delete(epoch: Epoch): Promise<void> {
    this.#loaded.delete(epoch)
    // nothing that we make now is taken for something that was left
    await this.#work
    await this.#setAside(String(epoch))
    // also what an issuer left that died while it made one; one that is late there makes it again
    for (const name of await this.#names()) if (name.startsWith(NEW)) await this.#setAside(name)
    // and what one left that died right here
    for (const name of await this.#names()) {
      if (name.startsWith(GONE)) await rm(join(this.#authorities, name), { recursive: true, force: true })
    }
    await fsyncDir(this.#authorities).catch(() => {})
  }

  /** Gone by one rename: another issuer never finds a half of it, and can not finish it either. */
  async #setAside(name: string): Promise<void> {
    const gone = join(this.#authorities, `${GONE}${name}-${randomUUID()}`)
    await rename(join(this.#authorities, name), gone).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause
    })
  }

  async roots(): Promise<string[]> {
    const held = await this.rootStore.held()
    if (held.length > 0) return held.map(({ certificate }) => certificate).reverse()
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `expected ${join(this.#options.dir, 'root.key')} of the embedded authority, or the key of a later root`,
    )
  }

  get #authorities(): string {
    return join(this.#options.dir, 'authorities')
  }

  #folder(epoch: Epoch): string {
    return join(this.#authorities, String(epoch))
  }

  async #names(): Promise<string[]> {
    return readdir(this.#authorities).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return []
      throw new RotorError('ERR_AUTHORITY_MISSING', `${this.#authorities}: ${cause.message}`, { cause })
    })
  }

  async #epochs(): Promise<Epoch[]> {
    return (await this.#names())
      .filter((name) => /^-?\d+$/.test(name))
      .map(Number)
      .sort((a, b) => a - b)
  }

  /** Key and certificate appear together, by one rename: after a crash the epoch is there whole or not at all. */
  async #create(
    epoch: Epoch,
    window: { notBefore: Instant; notAfter: Instant },
    by: string | undefined,
  ): Promise<void> {
    const [newest = ''] = by === undefined ? await this.roots() : []
    const root = await this.rootStore.keyed(by ?? parseCertificate(newest, 'root').sha256)
    const keyPair = await generateKeyPair()
    const certificate = await issueAuthority({
      ...window,
      domain: this.#options.domain,
      epoch,
      keyPair,
      root,
      permitted: this.#options.permitted,
    })
    await mkdir(this.#authorities, { recursive: true, mode: 0o700 })
    const temporary = await mkdtemp(join(this.#authorities, NEW))
    await writeFileDurable(
      join(temporary, 'ca.key'),
      privateKeyToPem(keyPair.privateKey, this.#options.passphrase),
      0o600,
    )
    await writeFileDurable(join(temporary, 'ca.crt'), certificate, 0o644)
    await rename(temporary, this.#folder(epoch)).catch(async (cause: NodeJS.ErrnoException) => {
      // Another issuer on this directory was first: its authority is the one of the epoch.
      if (cause.code !== 'ENOTEMPTY' && cause.code !== 'EEXIST') throw cause
      await rm(temporary, { recursive: true, force: true })
    })
    await fsyncDir(this.#authorities)
  }

  /** Key and certificate as they are on disk now. */
  async #look(epoch: Epoch): Promise<KeyedCertificate> {
    const stamp = await this.#stamp(this.#folder(epoch))
    const known = this.#loaded.get(epoch)
    if (known?.stamp === stamp) return known.keyed
    const loaded = { stamp, keyed: this.#keyed(this.#folder(epoch)) }
    this.#loaded.set(epoch, loaded)
    loaded.keyed.catch(() => {
      if (this.#loaded.get(epoch) === loaded) this.#loaded.delete(epoch)
    })
    return loaded.keyed
  }

  /** A folder is never changed, only made and removed. */
  async #stamp(folder: string): Promise<string> {
    const { ino, mtimeMs } = await stat(folder).catch((cause) => {
      throw new RotorError(
        'ERR_AUTHORITY_MISSING',
        `expected ${folder} of the embedded authority: ${cause.message}`,
        { cause },
      )
    })
    return `${ino} ${mtimeMs}`
  }

  async #keyed(dir: string): Promise<KeyedCertificate> {
    const keyFile = join(dir, 'ca.key')
    const certificateFile = join(dir, 'ca.crt')
    return {
      certificate: parseCertificate(
        await this.#read(certificateFile),
        certificateFile,
        'ERR_AUTHORITY_MISSING',
      ),
      privateKey: privateKeyFromPem(await this.#read(keyFile), this.#options.passphrase, keyFile),
    }
  }

  async #read(file: string): Promise<string> {
    return readFile(file, 'utf8').catch((cause) => {
      throw new RotorError(
        'ERR_AUTHORITY_MISSING',
        `expected ${file} of the embedded authority: ${cause.message}`,
        { cause },
      )
    })
  }
}

const held = (epoch: Epoch, certificate: Certificate): HeldAuthority => ({
  epoch,
  certificate: certificate.pem,
  sha256: certificate.sha256,
  notBefore: certificate.notBefore,
  notAfter: certificate.notAfter,
})
