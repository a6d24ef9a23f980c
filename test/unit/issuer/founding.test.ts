import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type FoundingPlan, found } from '../../../issuer/founding/found.ts'
import { readAgentConfig, readIssuerConfig } from '../../../src/domain/config.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { makeSchedule } from '../../../src/schedule.ts'
import { algorithmOfKey } from '../../../src/trust/keys.ts'

const plan = (out: string, more: Partial<FoundingPlan>): FoundingPlan => ({
  domain: 'prod',
  out,
  schedule: makeSchedule(),
  servers: [{ name: 'nats-1', host: '127.0.0.1', clientPort: 4222, clusterPort: 6222 }],
  services: [{ name: 'orders' }],
  ...more,
})

test('a domain is founded with the kind of key and the join endpoint that were asked for', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-founding-'))
  try {
    const out = join(dir, 'prod')
    const founded = await found(plan(out, { key: 'P-384', join: 'rotor.example:9443' }))
    const orders = await readAgentConfig(founded.agentConfigs.orders ?? '')
    const { leaf } = await readIdentity(orders.identity)
    assert.deepEqual([orders.key, algorithmOfKey(leaf.x509.publicKey)], ['P-384', 'P-384'])
    const { join: endpoint } = await readIssuerConfig(founded.issuerConfig)
    assert.deepEqual(endpoint, { listen: '0.0.0.0:9443', addresses: ['rotor.example:9443'] })
    const plain = await found(plan(join(dir, 'plain'), { join: '127.0.0.1:9443' }))
    const { join: local } = await readIssuerConfig(plain.issuerConfig)
    assert.deepEqual(local, { listen: '127.0.0.1:9443' })
    await assert.rejects(found(plan(join(dir, 'bad'), { join: 'nowhere' })), {
      code: 'ERR_CONFIG_INVALID',
      message: /join: expected "host:port"/,
    })
  } finally {
    await rm(dir, { recursive: true })
  }
})

test('several issuers are founded with an identity each, and only on an encrypted key store', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-founding-'))
  try {
    const issuers = ['issuer-a', 'issuer-b']
    await assert.rejects(found(plan(join(dir, 'open'), { issuers })), {
      code: 'ERR_CONFIG_INVALID',
      message: /expected a passphrase file, because several issuers share the key store/,
    })
    const passphraseFile = join(dir, 'passphrase')
    await writeFile(passphraseFile, 'secret', { mode: 0o600 })
    const { issuerConfig, agentConfigs } = await found(plan(join(dir, 'prod'), { issuers, passphraseFile }))
    for (const name of issuers) {
      assert.equal((await readIssuerConfig(issuerConfig, name)).name, name)
      const { agent, role, identity } = await readAgentConfig(agentConfigs[name] ?? '')
      assert.deepEqual([agent, role], [name, 'issuer'])
      assert.deepEqual((await readIdentity(identity)).leaf.names.uri, [`spiffe://prod/${name}`])
    }
    assert.equal((await readIssuerConfig(issuerConfig)).name, 'issuer-a')
    await assert.rejects(readIssuerConfig(issuerConfig, 'orders'), {
      message: /agents\.orders\.role: expected issuer/,
    })
    const config = JSON.parse(await readFile(issuerConfig, 'utf8'))
    delete config.passphraseFile
    await writeFile(issuerConfig, JSON.stringify({ ...config, lease: '10ms' }))
    await assert.rejects(readIssuerConfig(issuerConfig), {
      code: 'ERR_CONFIG_INVALID',
      message: /passphraseFile: expected one.*issuer-a, issuer-b.*lease: expected 1s to 10m/,
    })
  } finally {
    await rm(dir, { recursive: true })
  }
})
