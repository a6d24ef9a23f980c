import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chown, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { openDirectory } from '../../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { privateSpace } from '../../support/private-space.ts'
import { without } from '../../support/without.ts'
import type { Outcome } from './disk-child.ts'
import { factsOf, makeMaterials, NOW, stateOf, temporaryFolder } from './kit.ts'

const run = promisify(execFile)
const child = join(import.meta.dirname, 'disk-child.ts')

/** A folder with `id/`, empty, and the materials for the child beside it. */
async function prepare(path: string, materials: readonly IdentityMaterial[]) {
  const [dir, file] = [join(path, 'id'), join(path, 'materials.json')]
  await mkdir(dir, { mode: 0o700 })
  await writeFile(file, JSON.stringify(materials))
  return { dir, file }
}

/** Runs a shell command that ends in `exec "$@"`, which becomes the child. */
async function runChild(program: string, before: readonly string[], args: readonly string[]) {
  const command = [...before, process.execPath, child, ...args]
  const { stdout } = await run(program, command)
  return JSON.parse(stdout) as Outcome
}

const TINY_DISK = 'mount -t tmpfs -o size=128k,mode=700 tiny "$1" && shift && exec "$@"'

describe('a disk that refuses writes', () => {
  let materials: IdentityMaterial[]
  let mount: readonly string[] | null

  before(async () => {
    materials = await makeMaterials(2)
    mount = await privateSpace(['--mount'], 'mount -t tmpfs -o size=64k t /tmp')
  })

  function assertOldStays(outcome: Outcome, reasons: readonly string[]): void {
    assert.deepEqual(
      outcome.refused,
      reasons.map((reason) => `ERR_IDENTITY_WRITE ${reason}`),
    )
    assert.deepEqual(outcome.leftovers, [], 'nothing is left behind')
    assert.ok(outcome.oldStayed, 'the old generation and state stay in use')
    assert.ok(outcome.recovered, 'it works when the disk is good again')
    for (const [i, reason] of reasons.entries()) {
      const message = outcome.messages[i] ?? ''
      assert.ok(message.includes(reason) && message.includes('/id/'), `path and reason are in: ${message}`)
    }
  }

  test('full: every file in turn finds no space, the old generation stays and nothing is left', async (t) => {
    if (mount === null) {
      // The next test is the same promise with a limit that every system has.
      return without(
        t,
        'no right to mount a tiny disk here: ENOSPC itself is not tested, only a file size limit',
      )
    }
    await using folder = await temporaryFolder()
    const { dir, file } = await prepare(folder.path, materials)
    const outcome = await runChild(
      'unshare',
      [...mount, 'sh', '-c', TINY_DISK, 'sh', dir],
      ['full', dir, file],
    )
    assertOldStays(outcome, Array(8).fill('ENOSPC'))
  })

  test('a limit in the middle of a file: half of it is written, the old generation stays', async () => {
    await using folder = await temporaryFolder()
    const { dir, file } = await prepare(folder.path, materials)
    {
      await using directory = await openDirectory(dir)
      await directory.writeState(stateOf(1))
      await directory.publish(await directory.stage(materials[0] ?? assert.fail(), factsOf(1), NOW))
    }
    // POSIX: units of 512 bytes; a chain of two certificates has more than 1024.
    const outcome = await runChild('sh', ['-c', 'ulimit -f 2 && exec "$@"', 'sh'], ['limited', dir, file])
    assertOldStays(outcome, ['EFBIG', 'EFBIG'])
  })

  test('read-only by its modes: every change is refused, reading goes on', async () => {
    await using folder = await temporaryFolder()
    const { dir, file } = await prepare(folder.path, materials)
    if (process.getuid?.() === 0) {
      await chown(dir, 65_534, 65_534)
      await chown(folder.path, 65_534, 65_534)
    }
    assertOldStays(
      await runChild('sh', ['-c', 'exec "$@"', 'sh'], ['read-only', dir, file]),
      Array(4).fill('EACCES'),
    )
  })

  test('read-only by its mount: every change is refused, reading goes on', async (t) => {
    if (mount === null) {
      return without(t, 'no right to mount here: EROFS itself is not tested, only modes')
    }
    await using folder = await temporaryFolder()
    const { dir, file } = await prepare(folder.path, materials)
    const outcome = await runChild(
      'unshare',
      [...mount, 'sh', '-c', TINY_DISK, 'sh', dir],
      ['read-only', dir, file, 'mount'],
    )
    assertOldStays(outcome, Array(4).fill('EROFS'))
  })

  test('a path through a file can not become a directory, and is named', async () => {
    await using folder = await temporaryFolder()
    await writeFile(join(folder.path, 'file'), '')
    const dir = join(folder.path, 'file', 'id')
    await assert.rejects(openDirectory(dir), { code: 'ERR_IDENTITY_WRITE', message: /file\/id.*ENOTDIR/ })
    await assert.rejects(readIdentity(dir), { code: 'ERR_IDENTITY_MISSING', message: /file\/id/ })
  })
})
