import assert from 'node:assert/strict'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { openDirectory } from '../../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { digestOf, factsOf, HOUR, leftovers, makeMaterials, NOW, temporaryFolder } from './kit.ts'

describe('the identity directory', () => {
  let a: IdentityMaterial
  let b: IdentityMaterial
  let c: IdentityMaterial

  before(async () => {
    const [first, second, third] = await makeMaterials(3)
    assert.ok(first && second && third)
    ;[a, b, c] = [first, second, third]
  })

  test('a published generation is what readers find, through the public paths and through the API', async () => {
    await using folder = await temporaryFolder()
    const dir = join(folder.path, 'etc', 'orders')
    await using directory = await openDirectory(dir)
    assert.equal(await directory.current(), null)
    const staged = await directory.stage(a, factsOf(4), NOW)
    assert.equal(await directory.current(), null)
    assert.equal(await directory.publish(staged), null)

    assert.equal(staged.name, '4-1')
    assert.deepEqual(await directory.current(), {
      name: '4-1',
      path: staged.path,
      manifest: staged.manifest,
    })
    assert.equal(await readlink(join(dir, 'current')), 'generations/4-1')
    assert.equal(await readlink(join(dir, 'tls.key')), 'current/tls.key')
    assert.equal(await readFile(join(dir, 'tls.key'), 'utf8'), a.key)
    assert.equal(await readFile(join(dir, 'tls.crt'), 'utf8'), a.certificate)
    assert.equal(await readFile(join(dir, 'ca.pem'), 'utf8'), a.ca)
    assert.deepEqual(await readIdentity(dir, NOW), staged.snapshot)
  })

  test('the manifest says what the generation was made for', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    const { manifest, snapshot } = await directory.stage(a, factsOf(4, 11), NOW)
    const { files, ...facts } = manifest
    assert.deepEqual(facts, {
      v: 1,
      version: 4,
      digest: digestOf(4),
      epoch: 11,
      leaf: snapshot.leaf.sha256,
      notAfter: new Date(snapshot.leaf.notAfter).toISOString(),
      createdAt: new Date(NOW).toISOString(),
    })
    assert.deepEqual(Object.keys(files).sort(), ['ca.pem', 'tls.crt', 'tls.key'])
  })

  test('keys are 0600 and folders 0700', async () => {
    await using folder = await temporaryFolder()
    const dir = join(folder.path, 'new')
    await using directory = await openDirectory(dir)
    const { path } = await directory.stage(a, factsOf(1), NOW)
    const mode = async (target: string) => (await stat(target)).mode & 0o777
    assert.equal(await mode(join(path, 'tls.key')), 0o600)
    for (const target of [dir, join(dir, 'generations'), join(dir, 'lock'), path]) {
      assert.equal(await mode(target), 0o700)
    }
  })

  test('going back is the same step and needs no valid dates', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await directory.publish(await directory.stage(a, factsOf(1), NOW))
    const previous = await directory.publish(await directory.stage(b, factsOf(2), NOW))
    assert.equal(previous?.name, '1-1')
    assert.ok(previous)
    await directory.putBack(previous)
    assert.equal((await readIdentity(folder.path)).key, a.key)
    assert.equal((await directory.current())?.name, '1-1')
    await assert.rejects(directory.load('1-1', NOW + 99 * HOUR), { code: 'ERR_IDENTITY_INVALID' })
    assert.equal((await directory.load('1-1')).key, a.key)
  })

  test('a second try of the same version gets the next number, also after a restart', async () => {
    await using folder = await temporaryFolder()
    {
      await using directory = await openDirectory(folder.path)
      await directory.publish(await directory.stage(a, factsOf(1), NOW))
      assert.equal((await directory.stage(b, factsOf(2), NOW)).name, '2-1')
      assert.equal((await directory.stage(b, factsOf(2), NOW)).name, '2-2')
    }
    await using directory = await openDirectory(folder.path)
    assert.deepEqual(await directory.list(), ['1-1', '2-2'])
    assert.equal((await directory.stage(c, factsOf(2), NOW)).name, '2-3')
  })

  test('material that is not one valid set is refused and leaves nothing', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await directory.publish(await directory.stage(a, factsOf(1), NOW))
    await assert.rejects(directory.stage({ ...a, key: b.key }, factsOf(2), NOW), {
      code: 'ERR_IDENTITY_INVALID',
    })
    await assert.rejects(directory.stage(b, factsOf(2), NOW + 99 * HOUR), { code: 'ERR_IDENTITY_INVALID' })
    await assert.rejects(directory.stage(b, { ...factsOf(2), digest: 'short' }, NOW), TypeError)
    assert.deepEqual(await directory.list(), ['1-1'])
    assert.deepEqual(await leftovers(folder.path), [])
    assert.equal((await readIdentity(folder.path, NOW)).key, a.key)
  })

  test('a generation that changed on disk is not published, the old one stays', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await directory.publish(await directory.stage(a, factsOf(1), NOW))
    const staged = await directory.stage(b, factsOf(2), NOW)
    await writeFile(join(staged.path, 'tls.crt'), a.certificate)
    await assert.rejects(directory.publish(staged), { code: 'ERR_IDENTITY_INVALID', message: /tls\.crt/ })
    await rm(staged.path, { recursive: true })
    await assert.rejects(directory.publish(staged), { code: 'ERR_IDENTITY_INVALID', message: /2-1/ })
    assert.equal((await readIdentity(folder.path, NOW)).key, a.key)
  })

  test('prune keeps the newest, the current one and the one it replaced', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    for (const version of [1, 2, 9, 10, 11]) {
      await directory.publish(await directory.stage(a, factsOf(version), NOW))
    }
    await directory.prune()
    assert.deepEqual(await directory.list(), ['2-1', '9-1', '10-1', '11-1'])
    await directory.publish({ name: '2-1' })
    await directory.prune(1)
    assert.deepEqual(await directory.list(), ['2-1', '11-1'])
    await directory.stage(b, factsOf(12), NOW)
    await directory.stage(b, factsOf(12), NOW)
    await directory.prune(1)
    assert.deepEqual(await directory.list(), ['2-1', '11-1', '12-2'])
    assert.deepEqual(await leftovers(folder.path), [])
    await assert.rejects(directory.prune(0), TypeError)
  })

  test('opening removes what a crash left and nothing else', async () => {
    await using folder = await temporaryFolder()
    {
      await using directory = await openDirectory(folder.path)
      await directory.publish(await directory.stage(a, factsOf(1), NOW))
      await directory.publish(await directory.stage(b, factsOf(2), NOW))
      const staged = await directory.stage(c, factsOf(3), NOW)
      await unlink(join(staged.path, 'manifest.json'))
    }
    const generations = join(folder.path, 'generations')
    await symlink('generations/3-1', join(folder.path, '.tmp-link-1'))
    await writeFile(join(folder.path, '.tmp-file-1'), '{')
    await mkdir(join(generations, '.tmp-generation-1'))
    await writeFile(join(generations, '.tmp-generation-1', 'tls.key'), 'half')
    await mkdir(join(generations, 'kept-by-hand'))
    await unlink(join(folder.path, 'ca.pem'))

    await using directory = await openDirectory(folder.path)
    assert.deepEqual((await readdir(generations)).sort(), ['1-1', '2-1', 'kept-by-hand'])
    assert.deepEqual((await readdir(folder.path)).sort(), [
      'ca.pem',
      'current',
      'generations',
      'lock',
      'tls.crt',
      'tls.key',
    ])
    assert.equal((await directory.current())?.name, '2-1')
  })

  test('a damaged current generation is reported and everything else is left for a person', async () => {
    await using folder = await temporaryFolder()
    {
      await using directory = await openDirectory(folder.path)
      await directory.publish(await directory.stage(a, factsOf(1), NOW))
      const staged = await directory.stage(b, factsOf(2), NOW)
      await directory.publish(staged)
      await unlink(join(staged.path, 'tls.key'))
    }
    await using directory = await openDirectory(folder.path)
    await assert.rejects(directory.current(), { code: 'ERR_IDENTITY_INVALID', message: /2-1.*tls\.key/ })
    assert.deepEqual(await directory.list(), ['1-1', '2-1'])
    await directory.putBack({ name: '1-1' })
    assert.equal((await readIdentity(folder.path, NOW)).key, a.key)
  })

  test('files of somebody else are not overwritten', async () => {
    await using folder = await temporaryFolder()
    await writeFile(join(folder.path, 'tls.key'), a.key, { mode: 0o600 })
    await assert.rejects(openDirectory(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /tls\.key/ })
    assert.equal(await readFile(join(folder.path, 'tls.key'), 'utf8'), a.key)
    await rename(join(folder.path, 'tls.key'), join(folder.path, 'moved.key'))
    await mkdir(join(folder.path, 'current'))
    await assert.rejects(openDirectory(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /current/ })
    await rm(join(folder.path, 'current'), { recursive: true })
    await symlink('../elsewhere/1-1', join(folder.path, 'current'))
    await assert.rejects(openDirectory(folder.path), { code: 'ERR_IDENTITY_INVALID', message: /current/ })
    assert.ok((await lstat(join(folder.path, 'current'))).isSymbolicLink())
  })

  test('a key that others may read, or a folder that others may change, is refused', async () => {
    await using folder = await temporaryFolder()
    const key = join(folder.path, 'generations', '1-1', 'tls.key')
    {
      await using directory = await openDirectory(folder.path)
      await directory.publish(await directory.stage(a, factsOf(1), NOW))
      await chmod(key, 0o640)
      await assert.rejects(directory.current(), { code: 'ERR_IDENTITY_MODE', message: /tls\.key.*0640/ })
    }
    await assert.rejects(openDirectory(folder.path), { code: 'ERR_IDENTITY_MODE', message: /tls\.key/ })
    await chmod(key, 0o600)
    for (const path of [folder.path, join(folder.path, 'generations')]) {
      await chmod(path, 0o770)
      await assert.rejects(openDirectory(folder.path), { code: 'ERR_IDENTITY_MODE', message: /0770/ })
      await chmod(path, 0o700)
    }
    await using directory = await openDirectory(folder.path)
    assert.equal((await directory.current())?.name, '1-1')
  })

  test('a directory of another user is refused', async () => {
    await using folder = await temporaryFolder()
    if (process.geteuid?.() === 0) {
      await chown(folder.path, 65_534, 65_534)
      await assert.rejects(openDirectory(folder.path), { code: 'ERR_IDENTITY_MODE', message: /user 65534/ })
    } else {
      // Only root can give a folder away; everybody has root's.
      await assert.rejects(openDirectory('/'), { code: 'ERR_IDENTITY_MODE', message: /user 0/ })
    }
  })

  test('a closed directory does nothing more, and closing twice is fine', async () => {
    await using folder = await temporaryFolder()
    const directory = await openDirectory(folder.path)
    await directory.close()
    await directory.close()
    await assert.rejects(directory.current(), TypeError)
    await assert.rejects(directory.stage(a, factsOf(1), NOW), TypeError)
    await assert.rejects(directory.prune(), TypeError)
    await assert.rejects(directory.readState(), TypeError)
  })
})
