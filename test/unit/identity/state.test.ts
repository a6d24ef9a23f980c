import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { openDirectory } from '../../../src/identity/directory.ts'
import { digestOf, leftovers, stateOf, temporaryFolder } from './kit.ts'

describe('the accepted state', () => {
  test('is null before the first write and survives a restart after it', async () => {
    await using folder = await temporaryFolder()
    {
      await using directory = await openDirectory(folder.path)
      assert.equal(await directory.readState(), null)
      await directory.writeState(stateOf(3))
    }
    await using again = await openDirectory(folder.path)
    assert.deepEqual(await again.readState(), stateOf(3))
    assert.equal((await stat(join(folder.path, 'state.json'))).mode & 0o777, 0o600)
    assert.deepEqual(await leftovers(folder.path), [])
  })

  test('the highest version never goes down and keeps its digest', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await directory.writeState({ ...stateOf(1), highest: null })
    await directory.writeState(stateOf(3))
    await assert.rejects(directory.writeState(stateOf(2)), { code: 'ERR_BUNDLE_REPLAYED' })
    await assert.rejects(directory.writeState({ ...stateOf(3), highest: null }), {
      code: 'ERR_BUNDLE_REPLAYED',
    })
    const forked = { ...stateOf(3), highest: { version: 3, digest: digestOf(99) } }
    await assert.rejects(directory.writeState(forked), { code: 'ERR_BUNDLE_FORKED' })
    const proven = { version: 3, digest: digestOf(3), generation: '3-1' }
    await directory.writeState({ ...stateOf(3), proven })
    assert.deepEqual((await directory.readState())?.proven, proven)
  })

  for (const [what, damage] of [
    ['an empty file', (path: string) => truncate(path, 0)],
    ['half a file', (path: string) => truncate(path, 60)],
    ['JSON that is not a state', (path: string) => writeFile(path, '{"v":1}')],
    [
      'a state of a newer program',
      async (path: string) => {
        await writeFile(path, (await readFile(path, 'utf8')).replace('"v": 1', '"v": 2'))
      },
    ],
    ['bytes that are no text', (path: string) => writeFile(path, Buffer.from([0xff, 0xfe, 0]))],
    ['an endless file', (path: string) => truncate(path, 8 * 1024 * 1024)],
  ] as const) {
    test(`${what} is refused and never replaced by a fresh start`, async () => {
      await using folder = await temporaryFolder()
      const path = join(folder.path, 'state.json')
      await using directory = await openDirectory(folder.path)
      await directory.writeState(stateOf(3))
      await damage(path)
      const damaged = await readFile(path)
      await assert.rejects(directory.readState(), { code: 'ERR_RECORD_INVALID', message: /state\.json/ })
      await assert.rejects(directory.writeState(stateOf(4)), { code: 'ERR_RECORD_INVALID' })
      await directory.close()
      await using again = await openDirectory(folder.path)
      await assert.rejects(again.readState(), { code: 'ERR_RECORD_INVALID' })
      assert.deepEqual(await readFile(path), damaged)
    })
  }

  test('a folder in its place is refused', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await mkdir(join(folder.path, 'state.json'))
    await assert.rejects(directory.readState(), { code: 'ERR_RECORD_INVALID' })
    assert.ok((await readdir(folder.path)).includes('state.json'))
  })

  test('a state that could not be read again is not written', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await assert.rejects(directory.writeState({ ...stateOf(1), signers: [] }), TypeError)
    await assert.rejects(directory.writeState({ ...stateOf(1), envelope: 'x'.repeat(300_000) }), TypeError)
    assert.equal(await directory.readState(), null)
  })
})
