/** The targets of an agent.json: defaults, absolute paths, and every mistake by its key. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readAgentConfig, type TargetConfig } from '../../../src/domain/config.ts'
import { RotorError } from '../../../src/errors.ts'

const PLAIN = {
  domain: 'prod',
  agent: 'orders',
  role: 'service',
  identity: './identity',
  servers: ['tls://127.0.0.1:4222'],
}

describe('the targets of an agent.json', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rotor-config-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  async function read(...targets: object[]): Promise<TargetConfig[]> {
    const file = join(folder, 'agent.json')
    await writeFile(file, JSON.stringify({ ...PLAIN, targets }))
    return (await readAgentConfig(file)).targets
  }

  async function refused(target: object, says: readonly RegExp[], hides?: RegExp): Promise<void> {
    await assert.rejects(read(target), (error) => {
      assert.ok(RotorError.is(error))
      assert.equal(error.code, 'ERR_CONFIG_INVALID')
      for (const words of says) assert.match(error.message, words)
      if (hides !== undefined) assert.doesNotMatch(error.message, hides)
      return true
    })
  }

  test('have sensible defaults', async () => {
    assert.deepEqual(
      await read(
        { type: 'signal', pidFile: '/run/orders.pid', probe: { address: '127.0.0.1:8443' } },
        { type: 'exec', command: ['/bin/true'] },
        { type: 'http', url: 'https://orders.test/reload' },
      ),
      [
        {
          type: 'signal',
          pidFile: '/run/orders.pid',
          signal: 'SIGHUP',
          timeout: 10_000,
          probe: { address: '127.0.0.1:8443', kind: 'tls', handshakeFirst: false, accepts: true },
        },
        { type: 'exec', command: ['/bin/true'], timeout: 10_000 },
        {
          type: 'http',
          url: 'https://orders.test/reload',
          method: 'POST',
          expect: [200, 202, 204],
          timeout: 10_000,
        },
      ],
    )
  })

  test('name files relative to the configuration', async () => {
    const [target] = await read({
      type: 'http',
      url: 'https://orders.test/reload',
      headersFile: 'secrets/headers',
      ca: '/etc/ssl/ca.pem',
    })
    assert.deepEqual(target?.type === 'http' && [target.headersFile, target.ca], [
      join(folder, 'secrets/headers'),
      '/etc/ssl/ca.pem',
    ])
  })

  test('tell over plain http on this machine only: everything else could be read and changed on the way', async () => {
    for (const url of [
      'http://127.0.0.1:8080/reload',
      'http://127.255.0.9/reload',
      'http://127.1/reload',
      'http://[::1]:8080/reload',
      'https://orders.test/reload',
      'https://10.0.0.1:8443/',
    ]) {
      await read({ type: 'http', url })
    }
    for (const url of [
      'http://orders.test/reload',
      'http://localhost:8080/reload',
      'http://10.0.0.1/reload',
      'http://0.0.0.0/reload',
      'http://[::]/reload',
      'http://[::ffff:127.0.0.1]/reload',
      'http://127.0.0.1.orders.test/reload',
      'http://127.0.0.1@orders.test/reload',
    ]) {
      await refused({ type: 'http', url }, [/targets\.0\.url: /], /not JSON/)
    }
    await refused({ type: 'http', url: 'http://orders.test/reload' }, [
      /http:\/\/ goes to 127\.0\.0\.1 or \[::1\] only, because anybody on the way could read and change it/,
    ])
    for (const url of [
      '',
      'orders.test',
      '/reload',
      'ftp://127.0.0.1/',
      'unix:/run/orders.sock',
      'https://',
    ]) {
      await refused({ type: 'http', url }, [/targets\.0\.url: expected https:\/\/host\/path/])
    }
  })

  test('hold no secret: a password in a URL and headers in the file are refused and not shown', async () => {
    const says = [/targets\.0\.url: expected no user and password: a secret belongs in headersFile/]
    await refused({ type: 'http', url: 'https://rotor:hunter2@orders.test/reload' }, says, /hunter2/)
    await refused({ type: 'http', url: 'http://hunter2@127.0.0.1/reload' }, says, /hunter2/)
    await refused(
      { type: 'http', url: 'https://orders.test/', headers: { authorization: 'hunter2' } },
      [/"headers"/],
      /hunter2/,
    )
  })

  test('name every mistake', async () => {
    await refused(
      {
        type: 'http',
        url: 'https://orders.test/reload',
        method: 'DELETE',
        expect: [200, 700],
        timeout: 'long',
        serverName: '',
        check: [],
        probe: { address: '127.0.0.1:99999', kind: 'smtp', accepts: 'yes', serverName: '', port: 1 },
      },
      [
        'method:',
        'expect\\.1:',
        'timeout:',
        'serverName:',
        'check:',
        'probe\\.address: expected host:port',
        'probe\\.kind:',
        'probe\\.accepts:',
        'probe\\.serverName:',
        '"port"',
      ].map((words) => new RegExp(words)),
    )
    await refused({ type: 'signal', pidFile: '/run/x.pid', signal: 'SIGTERM', commandLine: '' }, [
      /signal:/,
      /commandLine:/,
    ])
    await refused({ type: 'exec', command: ['a'], probe: { kind: 'tls' } }, [/probe\.address:/])
    await refused({ type: 'http', url: 'https://orders.test/', expect: [] }, [/expect:/])
  })
})
