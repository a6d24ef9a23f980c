import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import { assertIssuedBy, verifyLeaf } from '../../../src/trust/chain.ts'
import { issueAuthority, issueLeaf, issueRoot, type KeyedCertificate } from '../../../src/trust/issue.ts'
import { generateKeyPair, type KeyAlgorithm } from '../../../src/trust/keys.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { openssl, opensslVerify } from './oracle.ts'

const HOUR = 3_600_000
const now = Date.UTC(2026, 10, 22, 12)
const window = { notBefore: now - HOUR, notAfter: now + HOUR }
const ALGORITHMS: readonly KeyAlgorithm[] = ['P-256', 'P-384', 'Ed25519', 'RSA-3072']
const names = { dns: ['a.example'], ip: ['127.0.0.1', '2001:db8::1'], uri: ['spiffe://prod/orders'] }
const text = (pem: string): string => openssl(['x509', '-noout', '-text'], pem).replace(/\s+/g, ' ')

describe('issuing', () => {
  let domain: TestDomain
  let authority: KeyedCertificate
  before(async () => {
    domain = await makeTestDomain({ domain: 'prod', now })
    authority = domain.authority()
  })

  for (const algorithm of ALGORITHMS) {
    it(`${algorithm}: openssl verifies the chain strictly, to the root and to the authority alone`, async () => {
      const own = await makeTestDomain({ domain: 'prod', now, algorithm })
      for (const leafAlgorithm of ALGORITHMS) {
        const leaf = await own.leaf({ algorithm: leafAlgorithm })
        const trusted = own.root.certificate.pem
        const middle = own.authority().certificate.pem
        assert.equal(opensslVerify(leaf.certificate.pem, { trusted, untrusted: middle }, now), '')
        for (const purpose of ['sslserver', 'sslclient']) {
          const options = ['-partial_chain', '-purpose', purpose]
          assert.equal(opensslVerify(leaf.certificate.pem, { trusted: middle }, now, options), '')
        }
        verifyLeaf(leaf.chain, [own.root.certificate], now, { usage: 'serverAuth' })
      }
    })
  }

  it('makes leaves with the fields of RFC 5280 4.2', async () => {
    const { publicKey } = await generateKeyPair()
    const shown = text(await issueLeaf({ authority, publicKey, commonName: 'orders', names, ...window }))
    assert.match(shown, /Version: 3 \(0x2\)/)
    assert.match(shown, /Issuer: CN = prod authority epoch \d+ [0-9a-f]{8}, O = prod/)
    assert.match(shown, /Not Before: Nov 22 11:55:00 2026 GMT Not After : Nov 22 13:00:00 2026 GMT/)
    assert.match(shown, /Subject: CN = orders /)
    assert.match(
      shown,
      /Basic Constraints: critical CA:FALSE X509v3 Key Usage: critical Digital Signature X509v3 Ext/,
    )
    assert.match(shown, /Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication/)
    assert.match(
      shown,
      /DNS:a\.example, IP Address:127\.0\.0\.1, IP Address:2001:DB8:0:0:0:0:0:1, URI:spiffe:\/\/prod\/orders/,
    )
    assert.match(shown, /Subject Key Identifier: ([0-9A-F]{2}:){19}/)
    const rsa = await generateKeyPair('RSA-3072')
    const withRsa = text(
      await issueLeaf({ authority, publicKey: rsa.publicKey, commonName: 'orders', names, ...window }),
    )
    assert.match(withRsa, /Key Usage: critical Digital Signature, Key Encipherment/)
  })

  it('makes authorities that may sign leaves only, and roots that may sign authorities and one other root', () => {
    const shown = text(authority.certificate.pem)
    assert.match(
      shown,
      /Basic Constraints: critical CA:TRUE, pathlen:0 X509v3 Key Usage: critical Certificate Sign, CRL Sign/,
    )
    const root = domain.root.certificate
    assert.match(
      text(root.pem),
      /Subject: CN = prod root [0-9a-f]{8}, O = prod .*CA:TRUE, pathlen:2 .*critical Certificate Sign, CRL Sign/,
    )
    assert.equal(authority.certificate.authorityKeyId, root.subjectKeyId)
    assertIssuedBy(root, root)
    assertIssuedBy(authority.certificate, root)
  })

  it('gives every try of an epoch its own name, key identifier and serial number', async () => {
    const make = async () =>
      parseCertificate(
        await issueAuthority({
          domain: 'prod',
          epoch: 7,
          keyPair: await generateKeyPair(),
          root: domain.root,
          ...window,
        }),
        'authority',
      )
    const [a, b] = [await make(), await make()]
    assert.notEqual(a.subject, b.subject)
    assert.notEqual(a.subjectKeyId, b.subjectKeyId)
    assert.notEqual(a.serial, b.serial)
  })

  it('makes serial numbers that are positive, of 16 bytes and never the same', async () => {
    const { publicKey } = await generateKeyPair()
    const serials = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const pem = await issueLeaf({ authority, publicKey, commonName: 'x', names, ...window })
      const { serial } = parseCertificate(pem, 'leaf')
      assert.match(serial, /^[4-7][0-9a-f]{31}$/)
      serials.add(serial)
    }
    assert.equal(serials.size, 200)
  })

  it('keeps the common name in 64 characters for the longest domain, with its unique end', async () => {
    const long = 'd'.repeat(63)
    const own = await makeTestDomain({ domain: long, now })
    for (const { certificate } of [own.root, ...own.authorities]) {
      const name = /^CN=([^,]*), O=d{63}$/.exec(certificate.subject)?.[1] ?? ''
      assert.equal(name.length, 64)
      assert.match(name, / [0-9a-f]{8}$/)
    }
  })

  it('rounds dates down to whole seconds and never leaves the window of the authority', async () => {
    const { publicKey } = await generateKeyPair()
    const { certificate } = authority
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: -100 * HOUR, max: 100 * HOUR }),
        fc.integer({ min: 1, max: 100 * HOUR }),
        async (from, length) => {
          const notBefore = now + from
          const notAfter = notBefore + length
          const start = Math.max(notBefore, certificate.notBefore)
          const end = Math.min(notAfter, certificate.notAfter)
          const made = issueLeaf({ authority, publicKey, commonName: 'x', names, notBefore, notAfter })
          if (Math.floor(start / 1000) >= Math.floor(end / 1000)) {
            await assert.rejects(made, { code: 'ERR_SIGN_REFUSED', message: /window/ })
            return
          }
          const leaf = parseCertificate(await made, 'leaf')
          assert.equal(leaf.notBefore, Math.floor(start / 1000) * 1000)
          assert.equal(leaf.notAfter, Math.floor(end / 1000) * 1000)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('ends an authority with its root, and writes dates after 2049', async () => {
    const keyPair = await generateKeyPair()
    const notAfter = Date.UTC(2061, 0, 1)
    const root = parseCertificate(
      await issueRoot({ domain: 'prod', keyPair, notBefore: now, notAfter }),
      'root',
    )
    assert.equal(root.notAfter, notAfter)
    const pem = await issueAuthority({
      domain: 'prod',
      epoch: 1,
      keyPair: await generateKeyPair(),
      root: { certificate: root, privateKey: keyPair.privateKey },
      notBefore: now,
      notAfter: Date.UTC(2099, 0, 1),
    })
    assert.equal(parseCertificate(pem, 'authority').notAfter, notAfter)
    assert.match(text(pem), /Not After : Jan 1 00:00:00 2061 GMT/)
  })

  it('refuses names that can not stand in a certificate, a key that is not the authority’s, and a dead authority', async () => {
    const { publicKey, privateKey } = await generateKeyPair()
    const good = { authority, publicKey, commonName: 'orders', names, ...window }
    const refused = { code: 'ERR_SIGN_REFUSED' }
    await assert.rejects(issueLeaf({ ...good, commonName: '' }), refused)
    await assert.rejects(issueLeaf({ ...good, commonName: 'x'.repeat(65) }), refused)
    await assert.rejects(issueLeaf({ ...good, names: { ...names, dns: ['a b'] } }), refused)
    await assert.rejects(issueLeaf({ ...good, names: { ...names, ip: ['nowhere'] } }), refused)
    await assert.rejects(issueLeaf({ ...good, notBefore: authority.certificate.notAfter }), refused)
    const wrong = { certificate: authority.certificate, privateKey }
    await assert.rejects(issueLeaf({ ...good, authority: wrong }), { code: 'ERR_AUTHORITY_MISSING' })
  })

  it('makes a leaf without names when none are given', async () => {
    const { publicKey } = await generateKeyPair()
    const none = { dns: [], ip: [], uri: [] }
    const pem = await issueLeaf({ authority, publicKey, commonName: 'orders', names: none, ...window })
    assert.deepEqual(parseCertificate(pem, 'leaf').names, none)
    assert.doesNotMatch(text(pem), /Alternative Name/)
  })
})
