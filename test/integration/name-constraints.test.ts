/**
 * Authorities that may certify some names only. First story: nats-server (Go) takes a client inside of the limits and
 * refuses one outside of them. Second story: a running domain gets limits, rotates, and lives on under them.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { editJson } from '../../demo/domain.ts'
import { probeListener } from '../../src/probe/probe.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { issueAuthority } from '../../src/trust/issue.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { makeTestDomain } from '../support/test-domain.ts'
import { startTlsServer } from '../support/tls-server.ts'

test('nats-server takes the leaves that an authority may certify, and no others', {
  timeout: 60_000,
}, async () => {
  const domain = await makeTestDomain()
  const keyPair = await generateKeyPair()
  const window = { notBefore: domain.now - 60_000, notAfter: domain.now + 3_600_000 }
  const options = { domain: 'test', epoch: 0, keyPair, root: domain.root, ...window }
  const permitted = { dns: ['localhost'], ip: ['127.0.0.0/8'], uri: ['test'] }
  const limited = parseCertificate(await issueAuthority({ ...options, permitted }), 'limited')
  // the same name and key without limits: it signs what the other one would not
  const free = parseCertificate(await issueAuthority(options), 'free')
  domain.authorities.push({ epoch: 0, keyPair, privateKey: keyPair.privateKey, certificate: free })
  const leafOf = (names: { dns?: string[]; ip?: string[]; uri?: string[] }) =>
    domain.leaf({ epoch: 0, ...names })

  await using server = await startTlsServer({ leaf: await leafOf({}), trusted: [limited] })
  const look = async (leaf: Awaited<ReturnType<typeof leafOf>>) => {
    const material = { ca: limited.pem, key: leaf.keyPem, certificate: leaf.certificate.pem + limited.pem }
    const listener = { kind: 'client', address: server.address('client') } as const
    return probeListener(listener, { material, timeout: PATIENCE })
  }
  const inside = await look(await leafOf({}))
  assert.deepEqual([inside.trusted, inside.untrusted, inside.accepted], [true, null, true])
  for (const names of [{ dns: ['localhost.evil'] }, { ip: ['10.0.0.1'] }, { uri: ['spiffe://prod/agent'] }]) {
    assert.equal((await look(await leafOf(names))).accepted, false, JSON.stringify(names))
  }
})

test('a running domain gets limits by the next rotation, and rotates on under them', {
  timeout: 180_000,
}, async () => {
  await using domain = await RunningDomain.start()
  const file = domain.local.founded.issuerConfig
  const permitted = { ip: ['127.0.0.0/8'], uri: [domain.local.name] }
  await editJson(file, { authorities: { permitted: { ...permitted, uri: ['elsewhere'] } } })
  await assert.rejects(domain.startIssuer(), {
    code: 'ERR_CONFIG_INVALID',
    message: /authorities\.permitted: expected it to permit what agents\.issuer gets: spiffe:/,
  })
  await editJson(file, { authorities: { permitted } })
  await domain.startAll()
  const limits = async () => {
    const { certificate } = await domain.identity(domain.serverNames[0] ?? '')
    const [, authority] = certificate.split(/(?=-----BEGIN)/)
    return parseCertificate(authority ?? '', 'authority').permitted
  }
  assert.equal(await limits(), null)
  for (let rotation = 0; rotation < 2; rotation++) {
    await domain.rotate()
    assert.deepEqual(await limits(), { dns: [], ...permitted })
  }
})
