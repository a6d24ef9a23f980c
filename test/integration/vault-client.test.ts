/** Calls to OpenBao when it is sealed, silent, somebody else, or answers nonsense; and what the environment must not do. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Vault } from '../../issuer/authority/vault/client.ts'
import { type VaultConfig, vaultBlock } from '../../src/domain/vault-config.ts'
import { RotorError } from '../../src/errors.ts'
import { silentLogger } from '../../src/log.ts'
import { type EngineDomain, TestEngine } from '../support/engine.ts'
import { eventually } from '../support/eventually.ts'
import { makeTestDomain } from '../support/test-domain.ts'

const ALLOWED = 'authorities-test/issuers'
const unavailable = { code: 'ERR_AUTHORITY_UNAVAILABLE' }

describe('an OpenBao with TLS and a disk', () => {
  let engine: TestEngine
  let vault: EngineDomain
  before(async () => {
    const domain = await makeTestDomain()
    const leaf = await domain.leaf()
    const tls = { certificate: leaf.chainPem, key: leaf.keyPem, ca: domain.root.certificate.pem }
    engine = await TestEngine.start({ tls })
    vault = await engine.domain('test')
  })
  after(() => engine[Symbol.asyncDispose]())

  test('is trusted by the file of the configuration, and by nothing else', async () => {
    await (await vault.open()).list(ALLOWED)
    const other = await makeTestDomain({ domain: 'other' })
    const caFile = join(engine.bao.dir, 'other.pem')
    await writeFile(caFile, other.root.certificate.pem)
    const { caFile: _, ...config } = vault.config
    process.env.VAULT_SKIP_VERIFY = '1'
    try {
      for (const changed of [{ ...config, caFile }, config]) {
        await using client = await Vault.open({ config: changed, name: 'issuer', logger: silentLogger })
        await assert.rejects(client.list(ALLOWED), { ...unavailable, message: /certificate/ })
      }
    } finally {
      delete process.env.VAULT_SKIP_VERIFY
    }
  })

  test('needs a trust file that holds a certificate', async () => {
    const caFile = join(engine.bao.dir, 'empty.pem')
    await writeFile(caFile, 'nothing')
    await assert.rejects(vault.open({ caFile }), { code: 'ERR_CONFIG_INVALID', message: /caFile/ })
  })

  test('that is sealed is waited for, and the same token goes on when it is unsealed', async () => {
    const client = await vault.open()
    await client.list(ALLOWED)
    const ends = client.state().tokenEnds
    await engine.bao.seal()
    await assert.rejects(client.list(ALLOWED), { ...unavailable, message: /sealed.*unseal/ })
    const { status, error } = client.state()
    assert.deepEqual([status, error?.code], ['waiting', 'ERR_AUTHORITY_UNAVAILABLE'])
    await engine.bao.unseal()
    await eventually(() => client.list(ALLOWED).then(() => true), { timeout: 30_000 })
    assert.equal(client.state().status, 'ready')
    assert.equal(client.state().tokenEnds, ends)
  })

  test('that says nothing is given up after the time-out, also while it is asked for a token', async () => {
    const [known, fresh] = [await vault.open({ timeout: 300 }), await vault.open({ timeout: 300 })]
    await known.list(ALLOWED)
    engine.bao.pause()
    try {
      // its threads stop one by one, and may answer until then
      await eventually(() =>
        assert
          .rejects(known.list(ALLOWED), { ...unavailable, message: /no answer within 300ms/ })
          .then(() => true),
      )
      await assert.rejects(fresh.list(ALLOWED), { ...unavailable, message: /no answer within 300ms/ })
      const ended = fresh.list(ALLOWED)
      await Promise.all([fresh.close(), assert.rejects(ended)])
    } finally {
      engine.bao.resume()
    }
    await eventually(() => known.list(ALLOWED).then(() => true))
  })

  test('that was started again is found again', async () => {
    const client = await vault.open()
    await client.list(ALLOWED)
    await engine.bao.stop()
    await assert.rejects(client.list(ALLOWED), unavailable)
    await engine.bao.start()
    await eventually(() => client.list(ALLOWED).then(() => true), { timeout: 30_000 })
  })

  test('is asked below the namespace of the configuration', async () => {
    await engine.root.write('sys/namespaces/team')
    const { config } = vault
    const open = (namespace: string) =>
      Vault.open({
        config: { ...config, namespace },
        name: 'operator',
        token: engine.bao.rootToken,
        logger: silentLogger,
      })
    await using team = await open('team')
    await team.write('sys/mounts/only-here', { type: 'kv' })
    assert.ok((await team.read('sys/mounts'))?.['only-here/'])
    assert.equal((await engine.root.read('sys/mounts'))?.['only-here/'], undefined)
  })

  test('answers 404 as "there is none", and removes what is gone without an error', async () => {
    assert.equal(await engine.root.read('rotor-kv/data/ca-bundles/test/1'), null)
    assert.deepEqual(await engine.root.list('rotor-kv/metadata/ca-bundles/test'), [])
    await engine.root.remove('rotor-kv/metadata/ca-bundles/test/1')
    await assert.rejects(engine.root.read('no/engine/here'), {
      code: 'ERR_AUTHORITY_REFUSED',
      message: /no handler for route/,
    })
    const cause = await engine.root.write('authorities-test/intermediate/set-signed', {}).catch((e) => e)
    assert.ok(RotorError.is(cause))
    assert.deepEqual([cause.code, cause.details.status], ['ERR_AUTHORITY_REFUSED', 400])
  })
})

describe('something else at the address of OpenBao', () => {
  const TOKEN = 's.never-to-be-shown'

  async function against(listener: RequestListener, check: (client: Vault, seen: string[]) => Promise<void>) {
    const seen: string[] = []
    const server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url} ${JSON.stringify(request.headers)}`)
      listener(request, response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const config: VaultConfig = vaultBlock.parse({
      address: `http://127.0.0.1:${port}`,
      timeout: '1s',
      auth: { method: 'token', tokenFile: '/none' },
    })
    try {
      await using client = await Vault.open({ config, name: 'issuer', token: TOKEN, logger: silentLogger })
      await check(client, seen)
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  const refused = (client: Vault, message: RegExp) =>
    assert.rejects(client.read('any'), (cause: Error) => {
      assert.ok(RotorError.is(cause))
      assert.equal(cause.code, 'ERR_AUTHORITY_UNAVAILABLE')
      assert.match(cause.message, message)
      assert.ok(!cause.message.includes(TOKEN))
      assert.equal(cause.cause, undefined)
      return true
    })

  test('does not get our token by a redirect', async () => {
    let followed = 0
    await against(
      (request, response) => {
        if (request.url?.startsWith('/elsewhere') === true) followed += 1
        response.writeHead(307, { location: '/elsewhere' }).end()
      },
      async (client) => {
        await refused(client, /307.*redirects are not followed/)
        assert.equal(followed, 0)
      },
    )
  })

  test('that is a web page, half an answer, or one without an end, is no answer', async () => {
    await against(
      (_, response) => response.end('<html>welcome</html>'),
      (client) => refused(client, /expected the JSON/),
    )
    await against(
      (_, response) => {
        response.writeHead(200, { 'content-length': '100' })
        response.write('{"data":')
        setImmediate(() => response.destroy())
      },
      (client) => refused(client, /closed in the middle|aborted|reset/),
    )
    await against(
      (_, response) => {
        const more = () => {
          if (!response.destroyed) response.write('x'.repeat(1024 * 1024), () => setImmediate(more))
        }
        more()
      },
      (client) => refused(client, /larger than|no answer within/),
    )
  })

  test('that says our token back does not put it into an error', () =>
    against(
      (request, response) => {
        response
          .writeHead(500)
          .end(JSON.stringify({ errors: [`who is ${request.headers['x-vault-token']}?`] }))
      },
      (client) => refused(client, /500 who is \*\*\*\?/),
    ))

  test('gets nothing from the environment: no token, namespace, prefix or proxy', async () => {
    const traps = {
      VAULT_TOKEN: 's.of-the-environment',
      VAULT_NAMESPACE: 'of-the-environment',
      VAULT_PREFIX: '/of-the-environment',
      HTTP_PROXY: 'http://127.0.0.1:1',
      http_proxy: 'http://127.0.0.1:1',
    }
    Object.assign(process.env, traps)
    try {
      await against(
        (_, response) => response.end(JSON.stringify({ data: { ttl: 0 } })),
        async (client, seen) => {
          await client.read('any')
          assert.match(seen[0] ?? '', /^GET \/v1\/auth\/token\/lookup-self /)
          assert.match(seen[1] ?? '', /^GET \/v1\/any .*"x-vault-token":"s\.never-to-be-shown"/)
          assert.ok(!seen.join('').includes('of-the-environment'))
        },
      )
    } finally {
      for (const name of Object.keys(traps)) delete process.env[name]
    }
  })
})
