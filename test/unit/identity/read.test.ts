import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { openDirectory } from '../../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { factsOf, HOUR, makeMaterials, NOW, temporaryFolder } from './kit.ts'

async function writePlain(dir: string, material: IdentityMaterial, mode = 0o600): Promise<void> {
  await writeFile(join(dir, 'ca.pem'), material.ca)
  await writeFile(join(dir, 'tls.crt'), material.certificate)
  await writeFile(join(dir, 'tls.key'), material.key, { mode })
}

describe('reading an identity', () => {
  let a: IdentityMaterial
  let b: IdentityMaterial

  before(async () => {
    const [first, second] = await makeMaterials(2)
    assert.ok(first && second)
    ;[a, b] = [first, second]
  })

  describe('of files that another tool writes', () => {
    test('gives the set, with a name that changes when the content does', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, a)
      const first = await readIdentity(folder.path, NOW)
      assert.equal(first.key, a.key)
      assert.equal(first.version, 0)
      assert.equal((await readIdentity(folder.path, NOW)).generation, first.generation)
      await writePlain(folder.path, b)
      assert.notEqual((await readIdentity(folder.path, NOW)).generation, first.generation)
    })

    test('waits for a writer that is between certificate and key', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, a)
      await writeFile(join(folder.path, 'tls.crt'), b.certificate)
      const reading = readIdentity(folder.path, NOW)
      await new Promise((resolve) => setTimeout(resolve, 60))
      await writeFile(join(folder.path, 'tls.key'), b.key)
      const { key, certificate } = await reading
      assert.deepEqual({ key, certificate }, { key: b.key, certificate: b.certificate })
    })

    test('waits for a file that is not there yet', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, a)
      await unlink(join(folder.path, 'tls.key'))
      const reading = readIdentity(folder.path, NOW)
      await new Promise((resolve) => setTimeout(resolve, 60))
      await writeFile(join(folder.path, 'tls.key'), a.key, { mode: 0o600 })
      assert.equal((await reading).key, a.key)
    })

    test('gives up on files that stay mismatched or half-written, naming them', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, { ...a, key: b.key })
      const invalid = (message: RegExp) => ({ code: 'ERR_IDENTITY_INVALID', message })
      await assert.rejects(readIdentity(folder.path), invalid(/tls\.key and tls\.crt/))
      await writePlain(folder.path, a)
      await truncate(join(folder.path, 'tls.crt'), 300)
      await assert.rejects(readIdentity(folder.path), invalid(/tls\.crt/))
      await unlink(join(folder.path, 'tls.crt'))
      await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_MISSING', message: /tls\.crt/ })
    })

    test('can be stopped while it waits', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, { ...a, key: b.key })
      const stop = new AbortController()
      const reading = readIdentity(folder.path, NOW, { signal: stop.signal })
      setImmediate(() => stop.abort(new Error('stopped')))
      await assert.rejects(reading, /stopped/)
    })

    test('refuses a key that everybody may read and accepts one for a group', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, a)
      const key = join(folder.path, 'tls.key')
      await chmod(key, 0o644)
      await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_MODE', message: /0644/ })
      await chmod(key, 0o640)
      assert.equal((await readIdentity(folder.path)).key, a.key)
    })

    test('does not hang on a named pipe, nor read an endless file', async () => {
      await using folder = await temporaryFolder()
      await writePlain(folder.path, a)
      const key = join(folder.path, 'tls.key')
      await rm(key)
      execFileSync('mkfifo', ['-m', '600', key])
      await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /tls\.key/ })
      await rm(key)
      await writeFile(key, a.key, { mode: 0o600 })
      await truncate(key, 5_000_000_000)
      await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /tls\.key/ })
    })
  })

  test('an empty or missing directory is told at once', async () => {
    await using folder = await temporaryFolder()
    await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_MISSING' })
    await assert.rejects(readIdentity(join(folder.path, 'none')), { code: 'ERR_IDENTITY_MISSING' })
    await using _directory = await openDirectory(folder.path)
    await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_MISSING' })
  })

  test('dates count only when a time is given', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await directory.publish(await directory.stage(a, factsOf(1), NOW))
    assert.equal((await readIdentity(folder.path)).key, a.key)
    await assert.rejects(readIdentity(folder.path, NOW + 99 * HOUR), {
      code: 'ERR_IDENTITY_INVALID',
      message: /1-1.*ended/,
    })
  })

  test('a generation that is not whole, or a link to nowhere, is told with its path', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    const staged = await directory.stage(a, factsOf(1), NOW)
    await directory.publish(staged)
    await writeFile(join(staged.path, 'ca.pem'), a.ca + b.certificate)
    await assert.rejects(readIdentity(folder.path), {
      code: 'ERR_IDENTITY_INVALID',
      message: /1-1\/ca\.pem/,
    })
    await unlink(join(staged.path, 'tls.crt'))
    await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /tls\.crt/ })
    await rm(staged.path, { recursive: true })
    await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /current/ })
    await unlink(join(folder.path, 'current'))
    await mkdir(join(folder.path, 'current'))
    await assert.rejects(readIdentity(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /current/ })
  })

  test('a link that another tool made to a complete folder elsewhere is followed', async () => {
    await using folder = await temporaryFolder()
    await using other = await temporaryFolder()
    await using directory = await openDirectory(other.path)
    const staged = await directory.stage(a, factsOf(6), NOW)
    await symlink(staged.path, join(folder.path, 'current'))
    const { key, version } = await readIdentity(folder.path, NOW)
    assert.deepEqual({ key, version }, { key: a.key, version: 6 })
  })
})
