import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import fc from 'fast-check'
import { type Generation, type IdentityDirectory, openDirectory } from '../../../src/identity/directory.ts'
import { checkMaterial, type IdentityMaterial } from '../../../src/identity/material.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { factsOf, leftovers, makeMaterials, NOW, temporaryFolder } from './kit.ts'

type Command =
  | { readonly do: 'stage'; readonly material: number; readonly version: number }
  | { readonly do: 'stage-mismatched'; readonly material: number }
  | { readonly do: 'publish'; readonly staged: number }
  | { readonly do: 'put-back' }
  | { readonly do: 'prune'; readonly keep: number }
  | { readonly do: 'restart' }

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('stage'), material: fc.nat(), version: fc.nat(6) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('stage-mismatched'), material: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('publish'), staged: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('put-back') }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('prune'), keep: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart') }) },
)

/** The directory under test beside what it must hold. */
class Model {
  readonly #materials: readonly IdentityMaterial[]
  readonly #dir: string
  readonly #staged: string[] = []
  /** Every name ever given, with the material it was given for last: after a restart one that was never published may come back. */
  readonly #names = new Map<string, IdentityMaterial>()
  #directory: IdentityDirectory
  #current: IdentityMaterial | null = null
  #previous: Generation | null = null

  constructor(directory: IdentityDirectory, materials: readonly IdentityMaterial[]) {
    this.#directory = directory
    this.#dir = directory.path
    this.#materials = materials
  }

  async run(step: Command): Promise<void> {
    const directory = this.#directory
    switch (step.do) {
      case 'stage': {
        const material = this.#material(step.material)
        const { name } = await directory.stage(material, factsOf(step.version), NOW)
        const before = this.#names.get(name)
        assert.ok(
          before === undefined || before === material || !this.#wasSeen.has(name),
          `${name} came twice`,
        )
        this.#names.set(name, material)
        this.#staged.push(name)
        return
      }
      case 'stage-mismatched': {
        const [one, other] = [this.#material(step.material), this.#material(step.material + 1)]
        await assert.rejects(directory.stage({ ...one, key: other.key }, factsOf(9), NOW), {
          code: 'ERR_IDENTITY_INVALID',
        })
        return
      }
      case 'publish': {
        const name = this.#staged[step.staged % Math.max(1, this.#staged.length)]
        const material = this.#names.get(name ?? '')
        if (name !== undefined && material !== undefined) await this.#switchTo(name, material)
        return
      }
      case 'put-back': {
        const back = this.#previous
        const material = back === null ? undefined : this.#names.get(back.name)
        if (back !== null && material !== undefined) await this.#switchTo(back.name, material)
        return
      }
      case 'prune':
        await directory.prune(step.keep)
        return
      case 'restart':
        await directory.close()
        this.#directory = await openDirectory(this.#dir)
    }
  }

  readonly #wasSeen = new Set<string>()

  async #switchTo(name: string, material: IdentityMaterial): Promise<void> {
    const there = (await this.#directory.list()).includes(name)
    if (!there) {
      await assert.rejects(this.#directory.publish({ name }), { code: 'ERR_IDENTITY_INVALID' })
      return
    }
    const before = await this.#directory.current()
    const returned = await this.#directory.publish({ name })
    assert.deepEqual(returned, before)
    this.#previous = returned
    this.#current = material
    this.#wasSeen.add(name)
  }

  async check(): Promise<void> {
    assert.deepEqual(await leftovers(this.#dir), [])
    for (const name of await this.#directory.list()) {
      const { key } = await this.#directory.load(name, NOW)
      assert.equal(key, this.#names.get(name)?.key, `${name} is what was staged under it`)
    }
    if (this.#current === null) {
      assert.equal(await this.#directory.current(), null)
      return
    }
    const { key, certificate, ca } = await readIdentity(this.#dir, NOW)
    assert.deepEqual({ key, certificate, ca }, this.#current)
    const open = (file: string) => readFile(join(this.#dir, file), 'utf8')
    const found = { key: await open('tls.key'), certificate: await open('tls.crt'), ca: await open('ca.pem') }
    checkMaterial(found, NOW)
    assert.deepEqual(found, this.#current)
  }

  async close(): Promise<void> {
    await this.#directory.close()
  }

  #material(index: number): IdentityMaterial {
    return this.#materials[index % this.#materials.length] ?? assert.fail('there are materials')
  }
}

describe('the identity directory under any sequence of steps', () => {
  let materials: IdentityMaterial[]

  before(async () => {
    materials = await makeMaterials(4)
  })

  test('one complete generation is always there: the published one, through every path (I3)', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 14 }), async (steps) => {
        await using folder = await temporaryFolder()
        const model = new Model(await openDirectory(folder.path), materials)
        try {
          for (const step of steps) {
            await model.run(step)
            await model.check()
          }
        } finally {
          await model.close()
        }
      }),
      { numRuns: 40 },
    )
  })
})
