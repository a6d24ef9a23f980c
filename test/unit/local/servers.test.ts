/** How the setup script finds server binaries. */
import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { compareVersions, findServer } from '../../../scripts/servers.mjs'

describe('a server binary', () => {
  let root: string
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'rotor-servers-'))
  })
  after(() => rm(root, { recursive: true, force: true }))

  /** A program that says it is this version of nats-server. */
  async function fake(folder: string, version: string): Promise<string> {
    const path = join(root, folder, 'nats-server')
    await mkdir(join(root, folder), { recursive: true })
    await writeFile(path, `#!/bin/sh\necho "nats-server: v${version}"\n`)
    await chmod(path, 0o755)
    return path
  }

  test('is the one the variable names, before all others', async () => {
    const named = await fake('named', '2.1.0')
    await fake('on-path', '2.14.0')
    const env = { NATS_SERVER_BIN: named, PATH: join(root, 'on-path') }
    assert.deepEqual(findServer('nats-server', { env, root }), { path: named, version: '2.1.0' })
  })

  test('named by the variable must run: another one is not taken silently', () => {
    const env = { NATS_SERVER_BIN: join(root, 'nothing'), PATH: '' }
    assert.throws(() => findServer('nats-server', { env, root }), /NATS_SERVER_BIN=.*nothing/)
  })

  test('is the first on PATH whose version will do', async () => {
    const old = await fake('old', '2.9.10')
    const recent = await fake('recent', '2.12.0')
    const env = { PATH: `${join(root, 'old')}:${join(root, 'recent')}` }
    assert.equal(findServer('nats-server', { env, root })?.path, recent)
    assert.equal(findServer('nats-server-oldest', { env, root })?.path, old)
  })

  test('is the installed one when there is no other', async () => {
    const path = await fake('.servers/nats-server-2.15.1', '2.15.1')
    await writeFile(join(root, '.servers/nats-server-2.15.1/version'), '2.15.1\n')
    assert.deepEqual(findServer('nats-server', { env: { PATH: '' }, root }), { path, version: '2.15.1' })
  })

  test('that is nowhere is null', () => {
    assert.equal(findServer('bao', { env: { PATH: '' }, root }), null)
  })

  test('has a version that is compared by number', () => {
    assert.ok(compareVersions('2.9.10', '2.10.0') < 0)
    assert.ok(compareVersions('2.10.0', '2.9.99') > 0)
    assert.equal(compareVersions('2.10.0-rc.1', '2.10.0'), 0)
  })
})
