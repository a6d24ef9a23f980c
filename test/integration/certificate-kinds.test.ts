/**
 * Chains of every kind of key, and very large ones, as others see them: nats-server (Go) as server and as client
 * of its peers, OpenSSL through Node, and our own files and messages. Nothing assumes that keys or certificates are
 * small.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { acceptBundle } from '../../src/bundle/accept.ts'
import { generateSigner } from '../../src/bundle/envelope.ts'
import { caFile } from '../../src/bundle/payload.ts'
import { openDirectory } from '../../src/identity/directory.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { probeListener } from '../../src/probe/probe.ts'
import { epochAt, makeSchedule } from '../../src/schedule.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair, KEY_ALGORITHMS } from '../../src/trust/keys.ts'
import { openProof, proveClaims } from '../../src/trust/proof.ts'
import { MAX_BUNDLE_BYTES } from '../../src/wire/bundle.ts'
import { eventually } from '../support/eventually.ts'
import { makeTestDomain, TestDomain, type TestLeaf } from '../support/test-domain.ts'
import { startTlsServer } from '../support/tls-server.ts'
import { ca, certSign, craft, x509 } from '../unit/trust/oracle.ts'

const TIMEOUT = 30_000

describe('nats-server', { timeout: 120_000 }, () => {
  for (const algorithm of KEY_ALGORITHMS) {
    test(`takes a server leaf and client leaves of every kind of key under a ${algorithm} authority`, async () => {
      const domain = await makeTestDomain({ algorithm })
      const authority = domain.authority().certificate
      const leaf = await domain.leaf({ name: 'server', algorithm })
      await using server = await startTlsServer({ leaf, trusted: [authority], listeners: ['cluster'] })
      for (const clientAlgorithm of KEY_ALGORITHMS) {
        const client = await domain.leaf({ name: 'client', algorithm: clientAlgorithm })
        const material = { ca: authority.pem, key: client.keyPem, certificate: client.chainPem }
        for (const kind of ['client', 'cluster'] as const) {
          const result = await probeListener(
            { kind, address: server.address(kind) },
            { material, timeout: TIMEOUT },
          )
          assert.deepEqual(
            [result.served.sha256, result.untrusted, result.refused, result.trusted, result.accepted],
            [leaf.certificate.sha256, null, null, true, true],
            `${clientAlgorithm}, ${kind}`,
          )
        }
      }
    })
  }
})

describe('certificates of 20 kB', { timeout: 120_000 }, () => {
  const SIZE = 20_000

  /** A domain whose root and authorities have this much in an extension that means nothing to anybody. */
  async function makeLargeDomain(): Promise<TestDomain> {
    const now = Date.now()
    const schedule = makeSchedule()
    const window = { notBefore: now - schedule.validity, notAfter: now + 10 * schedule.validity }
    const padding = (): x509.Extension =>
      new x509.Extension('1.3.6.1.4.1.99999.1', false, Buffer.alloc(SIZE, 7))
    const root = await craft({
      subject: 'CN=large root',
      extensions: [ca(), certSign(), padding()],
      ...window,
    })
    const signer = await generateSigner('ml-dsa-65')
    const made = new TestDomain({ domain: 'test', schedule, now, algorithm: 'P-256', root, signer })
    for (const epoch of [epochAt(schedule, now) - 1, epochAt(schedule, now)]) {
      const extensions = [
        ca(0),
        certSign(),
        padding(),
        new x509.SubjectKeyIdentifierExtension(`0${epoch}`.slice(-2).padStart(40, 'a')),
      ]
      const authority = await craft({ subject: `CN=large ${epoch}`, issuer: root, extensions, ...window })
      made.authorities.push({ epoch, ...authority })
    }
    return made
  }

  const manyNames = Array.from({ length: 330 }, (_, i) => `${'n'.repeat(50)}-${i}.example`)
  const largeLeaf = (domain: TestDomain, name: string): Promise<TestLeaf> =>
    domain.leaf({ name, dns: ['localhost', ...manyNames] })

  test('go through a bundle signed by ML-DSA-65, an identity on disk, requests, TLS and a reload', async (t) => {
    const domain = await makeLargeDomain()
    const [leaf, next, client] = [
      await largeLeaf(domain, 'server'),
      await largeLeaf(domain, 'server'),
      await largeLeaf(domain, 'client'),
    ]
    for (const { certificate } of [domain.root, domain.authority(), leaf]) {
      assert.ok(certificate.der.length > 0.95 * SIZE, `${certificate.subject}: ${certificate.der.length}`)
    }

    const { envelope } = await domain.bundle()
    assert.ok(envelope.length < MAX_BUNDLE_BYTES, `${envelope.length} bytes`)
    const context = { domain: 'test', pinned: [domain.signer.key], held: null, highest: 0, now: domain.now }
    const accepted = await acceptBundle(envelope, context)
    assert.equal(accepted.authorities.length, 2)

    const dir = await mkdtemp(join(tmpdir(), 'rotor-large-'))
    t.after(() => rm(dir, { recursive: true, force: true }))
    await using directory = await openDirectory(dir)
    const staged = await directory.stage(
      { key: client.keyPem, certificate: client.chainPem, ca: caFile(accepted.payload) },
      { version: 1, digest: accepted.digest, epoch: domain.epoch },
      domain.now,
    )
    await directory.publish(staged)
    const material = await readIdentity(dir)
    assert.equal(material.leaf.sha256, client.certificate.sha256)

    const wish = { subject: 'client', dns: manyNames }
    const csr = await makeCsr(await generateKeyPair(), wish)
    assert.deepEqual((await parseCsr(csr)).names.dns, manyNames)
    const claims = {
      v: 1 as const,
      domain: 'test',
      agent: 'client',
      csr,
      epoch: domain.epoch,
      at: new Date(domain.now).toISOString(),
    }
    const proof = await proveClaims(claims, client.privateKey, client.chain)
    const opened = await openProof(Buffer.from(proof), [domain.authority().certificate], domain.now, 0)
    assert.equal(opened.claims.csr, csr)

    const trusted = domain.authorities.map(({ certificate }) => certificate)
    await using server = await startTlsServer({ leaf, trusted, listeners: ['cluster'] })
    const probe = (kind: 'client' | 'cluster') =>
      probeListener({ kind, address: server.address(kind) }, { material, timeout: TIMEOUT })
    for (const kind of ['client', 'cluster'] as const) {
      const result = await probe(kind)
      assert.deepEqual(
        [result.served.sha256, result.untrusted, result.refused],
        [leaf.certificate.sha256, null, null],
      )
    }
    await server.write(next, trusted)
    server.process.kill('SIGHUP')
    await eventually(async () => (await probe('client')).served.sha256 === next.certificate.sha256, {
      timeout: TIMEOUT,
    })
  })
})
