/** The ways in which others write the three files of an identity. */
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { IdentityMaterial } from '../../../src/identity/material.ts'

/** A script: one file after the other, each truncated and written in place. */
export async function writePlain(dir: string, material: IdentityMaterial, ca = 'ca.pem'): Promise<void> {
  await writeFile(join(dir, ca), material.ca)
  await writeFile(join(dir, 'tls.crt'), material.certificate)
  await writeFile(join(dir, 'tls.key'), material.key, { mode: 0o600 })
}

/** The volume of a Kubernetes secret: a new folder, and one link that is swapped; the old folder goes. */
export class SecretVolume {
  readonly #dir: string
  readonly #mode: number
  #count = 0

  constructor(dir: string, mode = 0o600) {
    this.#dir = dir
    this.#mode = mode
  }

  async write(material: IdentityMaterial): Promise<void> {
    const before = `..generation_${this.#count++}`
    const folder = `..generation_${this.#count}`
    await mkdir(join(this.#dir, folder))
    await writeFile(join(this.#dir, folder, 'ca.crt'), material.ca)
    await writeFile(join(this.#dir, folder, 'tls.crt'), material.certificate)
    await writeFile(join(this.#dir, folder, 'tls.key'), material.key, { mode: this.#mode })
    await symlink(folder, join(this.#dir, '..data_tmp'))
    await rename(join(this.#dir, '..data_tmp'), join(this.#dir, '..data'))
    if (this.#count > 1) return await rm(join(this.#dir, before), { recursive: true })
    for (const name of ['ca.crt', 'tls.crt', 'tls.key']) {
      await symlink(join('..data', name), join(this.#dir, name))
    }
  }
}
