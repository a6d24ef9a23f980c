import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import { watchIdentity } from '../../../src/identity/watch.ts'
import { silentLogger } from '../../../src/log.ts'
import { eventually } from '../../support/eventually.ts'
import { makeMaterials, NOW, temporaryFolder } from './kit.ts'
import { SecretVolume, writePlain } from './writers.ts'

const clock = { now: () => NOW }
const run = promisify(execFile)
const CHILD = fileURLToPath(new URL('watch-child.ts', import.meta.url))

describe('the first read of an identity that follows files, and the last', () => {
  let a: IdentityMaterial
  let b: IdentityMaterial

  before(async () => {
    const [first, second] = await makeMaterials(2)
    assert.ok(first && second)
    ;[a, b] = [first, second]
  })

  test('nothing to begin with, or no valid set, is thrown with its code', async () => {
    await using folder = await temporaryFolder()
    await assert.rejects(watchIdentity(folder.path, { clock }), { code: 'ERR_IDENTITY_MISSING' })
    await assert.rejects(watchIdentity(join(folder.path, 'none'), { clock }), {
      code: 'ERR_IDENTITY_MISSING',
    })
    await writePlain(folder.path, { ...a, key: b.key })
    await assert.rejects(watchIdentity(folder.path, { clock }), { code: 'ERR_IDENTITY_INVALID' })
    await assert.rejects(watchIdentity(folder.path, { poll: 0 }), TypeError)
  })

  test('a key that everybody may read is refused, and the message says what to do', async () => {
    await using folder = await temporaryFolder()
    await new SecretVolume(folder.path, 0o644).write(a)
    await assert.rejects(watchIdentity(folder.path, { clock }), {
      code: 'ERR_IDENTITY_MODE',
      message: /0644.*defaultMode: 0440.*keyMode: 'any'/,
    })
    await using identity = await watchIdentity(folder.path, { clock, keyMode: 'any' })
    assert.equal(identity.current().key, a.key)
  })

  test('a key that loses its mode later is a problem that goes away when it is mended', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    const codes: string[] = []
    await using identity = await watchIdentity(folder.path, {
      clock,
      poll: 60_000,
      onProblem: ({ code }) => codes.push(code),
    })
    await chmod(join(folder.path, 'tls.key'), 0o666)
    await writePlain(folder.path, b)
    await eventually(() => codes.length > 0)
    assert.deepEqual([codes, identity.current().key], [['ERR_IDENTITY_MODE'], a.key])
    await chmod(join(folder.path, 'tls.key'), 0o640)
    await eventually(() => identity.current().key === b.key)
  })

  test('the log has each problem once, with its code, and no secret', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    const lines: string[] = []
    const keep = (fields: object, message?: string) => void lines.push(JSON.stringify({ ...fields, message }))
    await using identity = await watchIdentity(folder.path, {
      clock,
      poll: 10,
      logger: { ...silentLogger, info: keep, warn: keep, error: keep },
    })
    await writeFile(join(folder.path, 'tls.key'), b.key)
    await eventually(() => lines.some((line) => line.includes('"code":"ERR_IDENTITY_INVALID"')))
    await writePlain(folder.path, b)
    await eventually(() => identity.current().key === b.key)
    await eventually(() => lines.some((line) => line.includes('the identity is read')))
    assert.equal(lines.filter((line) => line.includes('ERR_IDENTITY_INVALID')).length, 1, lines.join('\n'))
    assert.ok(lines.every((line) => !line.includes('PRIVATE KEY')))
  })

  test('a signal ends the wait for the first set, and later the watching', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, { ...a, key: b.key })
    const stop = new AbortController()
    const starting = watchIdentity(folder.path, { clock, signal: stop.signal })
    setImmediate(() => stop.abort(new Error('stopped')))
    await assert.rejects(starting, /stopped/)
    await assert.rejects(watchIdentity(folder.path, { clock, signal: stop.signal }), /stopped/)
    await writePlain(folder.path, a)
    const later = new AbortController()
    let reads = 0
    const counting = {
      now: () => {
        reads += 1
        return NOW
      },
    }
    const identity = await watchIdentity(folder.path, { clock: counting, poll: 5, signal: later.signal })
    await eventually(() => reads > 3)
    later.abort()
    await identity.close()
    const before = reads
    await writePlain(folder.path, b)
    await using another = await watchIdentity(folder.path, { clock })
    assert.equal(another.current().key, b.key)
    assert.deepEqual([reads, identity.current().key], [before, a.key])
  })

  test('close leaves nothing: a process that watched ends by itself', async () => {
    await using folder = await temporaryFolder()
    await writePlain(folder.path, a)
    for (const way of ['close', 'close in a read', 'signal', 'failed start']) {
      const { stdout } = await run(process.execPath, [CHILD, folder.path, way], { timeout: 20_000 })
      assert.deepEqual(JSON.parse(stdout), { way, left: [] })
    }
  })
})
