import assert from 'node:assert/strict'
import { utimesSync } from 'node:fs'
import { link, mkdir, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import type { RotorError } from '../../../src/errors.ts'
import { openDirectory } from '../../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import { type WatchedIdentity, type WatchOptions, watchIdentity } from '../../../src/identity/watch.ts'
import { eventually } from '../../support/eventually.ts'
import { factsOf, HOUR, makeAuthority, makeMaterial, makeMaterials, NOW, temporaryFolder } from './kit.ts'
import { SecretVolume, writePlain } from './writers.ts'

/** Longer than a test: what it sees then, it was told by the file system. */
const NEVER = 60_000

const tellingNow = { now: () => NOW }

/** Each read asks for the time once. */
function countingClock() {
  const clock = {
    time: NOW,
    reads: 0,
    now: () => {
      clock.reads += 1
      return clock.time
    },
  }
  return clock
}

interface Watch extends AsyncDisposable {
  readonly identity: WatchedIdentity
  /** Keys in the order in which they were told. */
  readonly told: string[]
  readonly problems: RotorError[]
}

async function watching(dir: string, options: WatchOptions = {}): Promise<Watch> {
  const problems: RotorError[] = []
  const identity = await watchIdentity(dir, {
    poll: NEVER,
    clock: tellingNow,
    onProblem: (problem) => problems.push(problem),
    ...options,
  })
  const told: string[] = []
  identity.onChange((next) => told.push(next.key))
  return { identity, told, problems, [Symbol.asyncDispose]: () => identity.close() }
}

const holds = (identity: WatchedIdentity, { key, certificate, ca }: IdentityMaterial): boolean => {
  const held = identity.current()
  return held.key === key && held.certificate === certificate && held.ca === ca
}

describe('an identity that follows files', () => {
  let a: IdentityMaterial
  let b: IdentityMaterial
  let c: IdentityMaterial
  let many: IdentityMaterial[]

  before(async () => {
    many = await makeMaterials(12)
    const authorities = await Promise.all([1, 2, 3].map((epoch) => makeAuthority(epoch)))
    const [first, second, third] = await Promise.all(authorities.map((authority) => makeMaterial(authority)))
    assert.ok(first && second && third)
    ;[a, b, c] = [first, second, third]
  })

  test('sees each generation that an agent of ours publishes, with the epoch of its leaf', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await directory.publish(await directory.stage(a, factsOf(1, 1), NOW))
    await using watch = await watching(folder.path)
    const { identity, told } = watch
    await directory.publish(await directory.stage(b, factsOf(2, 2), NOW))
    await eventually(() => holds(identity, b))
    const { generation, version, epoch } = identity.current()
    assert.deepEqual({ generation, version, epoch }, { generation: '2-1', version: 2, epoch: 2 })
    await directory.putBack({ name: '1-1' })
    await eventually(() => holds(identity, a))
    assert.deepEqual(told, [b.key, a.key])
  })

  test('sees the swap of a Kubernetes secret, ten times in a row, and never half of one', async () => {
    await using folder = await temporaryFolder()
    const volume = new SecretVolume(folder.path)
    const [first, ...others] = many
    assert.ok(first)
    await volume.write(first)
    await using watch = await watching(folder.path)
    const { identity, told, problems } = watch
    for (const next of others) await volume.write(next)
    const last = others.at(-1)
    assert.ok(last)
    await eventually(() => holds(identity, last))
    for (const key of told) assert.ok(many.some((material) => material.key === key))
    await volume.write(a)
    await eventually(() => holds(identity, a))
    assert.deepEqual(problems, [])
  })

  test('takes files that are written one by one, in a bad order, only when they are one set', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    await using watch = await watching(folder.path)
    const { identity, told, problems } = watch
    await writeFile(join(folder.path, 'tls.key'), b.key)
    await eventually(() => problems.length > 0)
    assert.equal(problems[0]?.code, 'ERR_IDENTITY_INVALID')
    assert.ok(holds(identity, a))
    await writeFile(join(folder.path, 'tls.crt'), b.certificate.slice(0, 300))
    await writeFile(join(folder.path, 'ca.pem'), b.ca)
    await writeFile(join(folder.path, 'tls.crt'), b.certificate)
    await eventually(() => holds(identity, b))
    assert.deepEqual(told, [b.key])
  })

  test('a set that stays torn is told once however often it is polled, and again when it comes back', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    const clock = countingClock()
    await using watch = await watching(folder.path, { poll: 10, clock })
    const { identity, problems } = watch
    await writeFile(join(folder.path, 'tls.key'), b.key)
    const since = clock.reads
    await eventually(() => clock.reads > since + 4)
    assert.deepEqual(
      problems.map(({ code }) => code),
      ['ERR_IDENTITY_INVALID'],
    )
    assert.ok(holds(identity, a))
    await writeFile(join(folder.path, 'tls.key'), a.key)
    const mended = clock.reads
    await eventually(() => clock.reads > mended + 2)
    await unlink(join(folder.path, 'tls.key'))
    await eventually(() => problems.length > 1)
    assert.equal(problems[1]?.code, 'ERR_IDENTITY_MISSING')
  })

  test('a set that has ended is not taken, and one that ends while it is held stays and is told once', async () => {
    await using folder = await temporaryFolder()
    const clock = countingClock()
    const authority = await makeAuthority()
    const ended = await makeMaterial(authority, undefined, { notBefore: NOW - HOUR, notAfter: NOW - 1000 })
    await writePlain(folder.path, a)
    await using watch = await watching(folder.path, { poll: 20, clock })
    const { identity, problems, told } = watch
    await writePlain(folder.path, ended)
    await eventually(() => problems.some(({ message }) => message.includes('ended')))
    assert.ok(holds(identity, a))
    await writePlain(folder.path, b)
    await eventually(() => holds(identity, b))
    problems.length = 0
    clock.time = NOW + 13 * HOUR
    const before = clock.reads
    await eventually(() => clock.reads > before + 3)
    assert.equal(problems.length, 1)
    assert.match(problems[0]?.message ?? '', /ended/)
    assert.ok(holds(identity, b))
    assert.deepEqual(told, [b.key])
  })

  test('a directory that is deleted leaves the last set in use, and is followed again when it is back', async () => {
    await using folder = await temporaryFolder()
    const dir = join(folder.path, 'tls')
    await mkdir(dir)
    await writePlain(dir, a)
    await using watch = await watching(dir)
    const { identity, problems } = watch
    for (const next of [b, c]) {
      await rm(dir, { recursive: true })
      await eventually(() => problems.at(-1)?.code === 'ERR_IDENTITY_MISSING')
      problems.length = 0
      await mkdir(dir)
      await writePlain(dir, next)
      await eventually(() => holds(identity, next))
    }
    await writePlain(dir, a)
    await eventually(() => holds(identity, a))
  })

  test('follows a directory that is replaced, and links that are swapped anywhere on the way', async () => {
    await using folder = await temporaryFolder()
    const at = (...parts: string[]): string => join(folder.path, ...parts)
    for (const [name, material] of [
      ['v1', a],
      ['v2', b],
      ['v3', c],
    ] as const) {
      await mkdir(at(name, 'tls'), { recursive: true })
      await writePlain(at(name, 'tls'), material)
    }
    await symlink('v1', at('live'))
    await using watch = await watching(at('live', 'tls'))
    const { identity, problems } = watch
    await symlink('v2', at('next'))
    await rename(at('next'), at('live'))
    await eventually(() => holds(identity, b))
    await rename(at('v2', 'tls'), at('v2', 'old'))
    await rename(at('v3', 'tls'), at('v2', 'tls'))
    await eventually(() => holds(identity, c))
    await writePlain(at('v2', 'tls'), a)
    await eventually(() => holds(identity, a))
    assert.ok(problems.every(({ code }) => code === 'ERR_IDENTITY_MISSING'))
  })

  test('files may have other names, lie elsewhere and be links to files that are written in place', async () => {
    await using folder = await temporaryFolder()
    await using elsewhere = await temporaryFolder()
    const authorities = join(elsewhere.path, 'authorities.pem')
    const write = async (material: IdentityMaterial): Promise<void> => {
      await writeFile(join(elsewhere.path, 'key1.pem'), material.key, { mode: 0o600 })
      await writeFile(join(folder.path, 'fullchain.pem'), material.certificate)
      await writeFile(authorities, material.ca)
    }
    await write(a)
    await symlink(join(elsewhere.path, 'key1.pem'), join(folder.path, 'privkey.pem'))
    const files = { ca: authorities, certificate: 'fullchain.pem', key: 'privkey.pem' }
    await using watch = await watching(folder.path, { files })
    const { identity, problems } = watch
    await write(b)
    await eventually(() => holds(identity, b))
    await writeFile(join(elsewhere.path, 'key1.pem'), a.key)
    await eventually(() => problems.some(({ message }) => message.includes('privkey.pem and fullchain.pem')))
  })

  test('what the file system does not report is found by polling', async () => {
    await using folder = await temporaryFolder()
    await using elsewhere = await temporaryFolder()
    await writePlain(elsewhere.path, a)
    for (const name of ['ca.pem', 'tls.crt', 'tls.key']) {
      // a second name of the same file: what is written through the first one is no event of this folder
      await link(join(elsewhere.path, name), join(folder.path, name))
    }
    await using watch = await watching(folder.path, { poll: 50 })
    await writePlain(elsewhere.path, b)
    await eventually(() => holds(watch.identity, b))
  })

  test('several hundred events make one read or two', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    const clock = countingClock()
    await using watch = await watching(folder.path, { clock })
    const before = clock.reads
    for (let i = 0; i < 300; i++) utimesSync(join(folder.path, 'tls.crt'), i, i)
    await eventually(() => clock.reads > before)
    await writePlain(folder.path, b)
    await eventually(() => holds(watch.identity, b))
    assert.ok(clock.reads - before < 10, `${clock.reads - before} reads`)
  })

  test('nobody is told of files that were written again with the same content', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    const clock = countingClock()
    await using watch = await watching(folder.path, { clock })
    const before = clock.reads
    await writePlain(folder.path, a)
    await eventually(() => clock.reads > before)
    await writePlain(folder.path, b)
    await eventually(() => holds(watch.identity, b))
    assert.deepEqual(watch.told, [b.key])
  })

  test('a listener for problems that throws stops nothing', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    let problems = 0
    const onProblem = () => {
      problems += 1
      throw new Error('broken')
    }
    await using watch = await watching(folder.path, { onProblem })
    await unlink(join(folder.path, 'tls.key'))
    await eventually(() => problems > 0)
    await writePlain(folder.path, b)
    await eventually(() => holds(watch.identity, b))
  })
})
