/** `rotor vault setup` against a real OpenBao: what it makes is enough for an issuer, and no more. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { VaultAuthority } from '../../issuer/authority/vault/authority.ts'
import { Vault } from '../../issuer/authority/vault/client.ts'
import { findServer } from '../../scripts/servers.mjs'
import { readIssuerConfig } from '../../src/domain/config.ts'
import { readVaultConfig } from '../../src/domain/vault-config.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { type BaoServer, startBao } from '../../src/local/bao-server.ts'
import { silentLogger } from '../../src/log.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'
import { rotor } from '../support/cli.ts'

interface Step {
  readonly what: string
  readonly finding: string
  readonly differences: readonly string[]
}

describe('rotor vault setup', () => {
  let dir: string
  let bao: BaoServer
  let configFile: string
  let tokenFile: string
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rotor-setup-'))
    bao = await startBao({ dev: true })
    configFile = join(dir, 'vault.json')
    tokenFile = join(dir, 'root-token')
    const auth = { method: 'approle', roleIdFile: './role-id', secretIdFile: './secret-id' }
    await writeFile(configFile, JSON.stringify({ address: bao.address, auth }))
    await writeFile(tokenFile, bao.rootToken, { mode: 0o600 })
  })
  after(async () => {
    await bao[Symbol.asyncDispose]()
    await rm(dir, { recursive: true, force: true })
  })

  const setup = async (...args: string[]) => {
    const all = ['vault', 'setup', '--domain', 'prod', '--config', configFile, '--token-file', tokenFile]
    const { code, stdout } = await rotor(...all, ...args, '--json')
    const value = JSON.parse(stdout)
    const steps: Step[] = value.steps ?? []
    return { code, value, findings: steps.map(({ finding }) => finding), steps }
  }
  const operator = async () =>
    Vault.open({
      config: await readVaultConfig(configFile),
      name: 'operator',
      token: bao.rootToken,
      logger: silentLogger,
    })

  test('prints commands and the policy, and asks nobody', async () => {
    const { code, stdout } = await rotor('vault', 'setup', '--domain', 'prod', '--config', configFile)
    assert.equal(code, 0)
    assert.match(stdout, /^bao write sys\/mounts\/rotor-root - <<'EOF'$/m)
    assert.match(stdout, /^bao policy write rotor-prod - <<'EOF'$/m)
    assert.match(
      stdout,
      /path "rotor-authorities\/issuer\/\+\/sign\/rotor-leaf" \{\n {2}capabilities = \["update"\]/,
    )
  })

  test('says what is missing, makes it, and does nothing the second time', async () => {
    const first = await setup('--check')
    assert.equal(first.code, 1)
    assert.ok(first.findings.every((finding) => finding === 'missing'))
    const made = await setup('--apply')
    assert.equal(made.code, 0, JSON.stringify(made.value))
    assert.deepEqual(made.value.written, [join(dir, 'role-id'), join(dir, 'secret-id')])
    for (const file of made.value.written) assert.equal((await stat(file)).mode & 0o777, 0o600)
    const secretId = await readFile(join(dir, 'secret-id'), 'utf8')
    const again = await setup('--apply')
    assert.equal(again.code, 0)
    assert.ok(again.findings.every((finding) => finding === 'there'))
    assert.deepEqual(again.value.written, [])
    assert.equal(await readFile(join(dir, 'secret-id'), 'utf8'), secretId)
  })

  test('makes a policy for the whole life of an authority, and for nothing besides', async () => {
    const config = await readVaultConfig(configFile)
    await using client = await Vault.open({ config, name: 'issuer', logger: silentLogger })
    const { mounts, role } = config
    const authority = new VaultAuthority({ client, domain: 'prod', mounts, role })
    const now = Date.now()
    const window = { notBefore: now - 60_000, notAfter: now + 3_600_000 }
    const keyPair = await generateKeyPair()
    assert.deepEqual(await authority.list(), [])
    assert.equal((await authority.roots()).length, 1)
    for (const epoch of [1, 2]) await authority.prepare(epoch, window)
    await authority.activate(2)
    const names = { dns: ['orders.example'], ip: ['127.0.0.1'], uri: ['spiffe://prod/orders'] }
    const csr = await parseCsr(await makeCsr(keyPair, { subject: 'orders' }))
    const request = { csr, commonName: 'orders', names, ...window }
    assert.match(await authority.sign(2, request), /BEGIN CERTIFICATE/)
    await authority.delete(1)
    assert.deepEqual(
      (await authority.list()).map(({ epoch }) => epoch),
      [2],
    )
    const bundle = `${mounts.kv}/data/ca-bundles/prod/1`
    await client.write(bundle, { data: { envelope: 'x' }, options: { cas: 0 } })
    assert.ok(await client.read(bundle))
    assert.deepEqual(await client.list(`${mounts.kv}/metadata/ca-bundles/prod`), ['1'])
    await client.remove(`${mounts.kv}/metadata/ca-bundles/prod/1`)

    const foreign = { ...names, uri: ['spiffe://other/orders'] }
    await assert.rejects(authority.sign(2, { ...request, names: foreign }), {
      code: 'ERR_AUTHORITY_REFUSED',
    })
    const denied: [verb: 'read' | 'list' | 'remove' | 'write', path: string][] = [
      ['read', 'sys/mounts'],
      ['read', 'sys/policies/acl/rotor-prod'],
      ['write', 'sys/policies/acl/rotor-prod'],
      ['write', 'auth/approle/role/rotor-prod/secret-id'],
      ['write', 'auth/token/create'],
      ['write', `${mounts.root}/root/generate/internal`],
      ['write', `${mounts.root}/root/rotate/internal`],
      ['write', `${mounts.root}/root/sign-self-issued`],
      ['write', `${mounts.root}/sign-verbatim`],
      ['write', `${mounts.root}/roles/any`],
      ['write', `${mounts.root}/config/issuers`],
      ['remove', `${mounts.root}/issuer/default`],
      ['remove', `${mounts.root}/root`],
      ['list', `${mounts.root}/keys`],
      ['write', `${mounts.authorities}/issuers/generate/intermediate/exported`],
      ['write', `${mounts.authorities}/keys/generate/exported`],
      ['write', `${mounts.authorities}/issuers/import/bundle`],
      ['write', `${mounts.authorities}/roles/${role}`],
      ['write', `${mounts.authorities}/issuer/default/sign-verbatim`],
      ['write', `${mounts.authorities}/issuer/default/issue/${role}`],
      ['write', `${mounts.authorities}/issuer/default/sign-intermediate`],
      ['remove', `${mounts.authorities}/root`],
      ['write', `${mounts.authorities}/config/urls`],
      ['read', `${mounts.kv}/data/ca-bundles/other/1`],
      ['read', `${mounts.kv}/data/else`],
      ['list', `${mounts.kv}/metadata`],
    ]
    for (const [verb, path] of denied) {
      await assert.rejects(client[verb](path), { code: 'ERR_AUTHORITY_DENIED' }, `${verb} ${path}`)
    }
  })

  test('is all that rotor init needs: no root and no authority are on the disk of the issuer', async () => {
    const config = await readVaultConfig(configFile)
    const out = join(dir, 'prod')
    const init = async () => {
      const nodes = ['--server', 'nats-1=127.0.0.1:4222', '--service', 'orders']
      const args = ['init', '--domain', 'prod', '--out', out, '--vault', configFile, ...nodes, '--json']
      const { code, stdout } = await rotor(...args)
      return { exit: code, ...JSON.parse(stdout) }
    }
    const refused = await init()
    assert.deepEqual([refused.exit, refused.code], [78, 'ERR_CONFIG_INVALID'])
    assert.match(refused.message, /expected no authority of the domain prod, found epochs 2/)
    await using client = await Vault.open({ config, name: 'issuer', logger: silentLogger })
    const { mounts, role } = config
    const authority = new VaultAuthority({ client, domain: 'prod', mounts, role })
    await authority.delete(2)
    const founded = await init()
    assert.equal(founded.exit, 0, founded.message)
    assert.deepEqual((await readdir(join(out, 'issuer', 'keys'))).sort(), ['genesis.jws', 'signer.key'])
    const written = await readIssuerConfig(founded.issuerConfig)
    assert.deepEqual(written.vault, config)
    assert.equal((await authority.prepare(founded.epoch, { notBefore: 0, notAfter: 0 })).epoch, founded.epoch)
    const { ca } = await readIdentity(join(out, 'agents', 'orders', 'identity'))
    assert.deepEqual(
      parseCertificates(ca, 'ca.pem').map(({ sha256 }) => sha256),
      (await authority.list()).map(({ sha256 }) => sha256),
    )
  })

  test('changes nothing when something is there and different, and names it', async () => {
    await using client = await operator()
    await client.write('sys/policies/acl/rotor-other', { policy: 'path "*" { capabilities = ["sudo"] }' })
    await client.write('sys/mounts/other-kv', { type: 'kv', options: { version: '1' } })
    const file = join(dir, 'other.json')
    await writeFile(
      file,
      JSON.stringify({
        address: bao.address,
        mounts: { root: 'other-root', authorities: 'other-authorities', kv: 'other-kv' },
        auth: { method: 'approle', roleIdFile: './role-2', secretIdFile: './secret-2' },
      }),
    )
    const args = ['vault', 'setup', '--domain', 'other', '--config', file, '--token-file', tokenFile]
    const { code, stdout } = await rotor(...args, '--apply', '--json')
    assert.equal(code, 78)
    const { message } = JSON.parse(stdout)
    assert.match(message, /nothing was changed.*other-kv.*options\.version: expected "2", found "1"/)
    assert.match(message, /policy rotor-other/)
    assert.equal((await client.read('sys/mounts'))?.['other-root/'], undefined)
    assert.match(String((await client.read('sys/policies/acl/rotor-other'))?.policy), /sudo/)
  })

  test('prints commands that make the same', async () => {
    const file = join(dir, 'by-hand.json')
    const mounts = { root: 'hand/root', authorities: 'hand/authorities', kv: 'hand/kv' }
    const auth = { method: 'approle', mount: 'hand', roleIdFile: './role-3', secretIdFile: './secret-3' }
    await writeFile(file, JSON.stringify({ address: bao.address, mounts, auth }))
    const args = ['vault', 'setup', '--domain', 'hand', '--config', file]
    const { stdout } = await rotor(...args)
    const binary = findServer('bao')
    assert.ok(binary !== null)
    const path = `${dirname(binary.path)}:${process.env.PATH}`
    const env = { PATH: path, HOME: dir, BAO_ADDR: bao.address, BAO_TOKEN: bao.rootToken }
    const script = `set -e\n${stdout}`
    await promisify(execFile)('sh', ['-c', script], { env })
    const check = await rotor(...args, '--token-file', tokenFile, '--check')
    assert.equal(check.code, 0, check.stdout)
  })

  test('takes the token of the operator from a file or the environment, never as an argument', async () => {
    const args = ['vault', 'setup', '--domain', 'prod', '--config', configFile, '--check', '--json']
    const { BAO_TOKEN, VAULT_TOKEN } = process.env
    delete process.env.VAULT_TOKEN
    delete process.env.BAO_TOKEN
    try {
      const { code, stdout } = await rotor(...args)
      assert.equal(code, 64)
      assert.match(JSON.parse(stdout).message, /BAO_TOKEN/)
      process.env.BAO_TOKEN = bao.rootToken
      assert.equal((await rotor(...args)).code, 0)
    } finally {
      if (BAO_TOKEN === undefined) delete process.env.BAO_TOKEN
      if (VAULT_TOKEN !== undefined) process.env.VAULT_TOKEN = VAULT_TOKEN
    }
  })
})
