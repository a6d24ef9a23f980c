/** The block `vault` of issuer.json: what it takes, what it refuses, and where its files are. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readVaultConfig } from '../../../src/domain/vault-config.ts'
import { RotorError } from '../../../src/errors.ts'

describe('the configuration of OpenBao', () => {
  let dir: string
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rotor-vault-config-'))
  })
  after(() => rm(dir, { recursive: true, force: true }))

  const auth = { method: 'approle', roleIdFile: './role-id', secretIdFile: '/run/secret-id' }
  const good = { address: 'https://bao.example:8200', auth }
  const read = async (value: object) => {
    const file = join(dir, 'vault.json')
    await writeFile(file, JSON.stringify(value))
    return readVaultConfig(file)
  }
  const problems = async (value: object): Promise<string> => {
    const cause = await read(value).catch((error) => error)
    assert.ok(RotorError.is(cause), 'it was taken')
    assert.equal(cause.code, 'ERR_CONFIG_INVALID')
    return cause.message
  }

  test('has a default for everything but address and login, and absolute paths', async () => {
    assert.deepEqual(await read(good), {
      address: 'https://bao.example:8200',
      mounts: { root: 'rotor-root', authorities: 'rotor-authorities', kv: 'rotor-kv' },
      role: 'rotor-leaf',
      kvPrefix: 'ca-bundles',
      auth: {
        method: 'approle',
        mount: 'approle',
        roleIdFile: join(dir, 'role-id'),
        secretIdFile: '/run/secret-id',
      },
      timeout: 10_000,
    })
  })

  test('sends a token over plain HTTP to this machine only', async () => {
    for (const address of ['http://127.0.0.1:8200', 'http://[::1]:8200', 'https://bao.example']) {
      assert.equal((await read({ ...good, address })).address, address)
    }
    for (const address of [
      'http://bao.example:8200',
      'http://localhost:8200',
      'http://127.0.0.1.example:8200',
    ]) {
      assert.match(await problems({ ...good, address }), /address: http:\/\/ goes to 127\.0\.0\.1/)
    }
  })

  test('names every problem at once, and shows no password of an address', async () => {
    const text = await problems({
      address: 'https://user:hunter2@bao.example',
      mounts: { root: '/pki', authorities: '../pki' },
      role: 'a/b',
      auth: { method: 'approle', roleIdFile: './role-id' },
      secretId: 'x',
    })
    for (const word of [/address/, /mounts\.root/, /mounts\.authorities/, /role/, /secretIdFile/, /secretId/])
      assert.match(text, word)
    assert.ok(!text.includes('hunter2'))
    assert.match(await problems({ ...good, address: 'https://bao.example/v1' }), /nothing after the port/)
    assert.match(await problems({ ...good, auth: { method: 'ldap' } }), /auth\.method/)
  })
})
