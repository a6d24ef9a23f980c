import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import { issueAuthority, issueCross, issueLeaf, issueRoot } from '../../../src/trust/issue.ts'
import { generateKeyPair, KEY_ALGORITHMS } from '../../../src/trust/keys.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { lintCertificate } from '../../support/x509-lint.ts'
import { ca, certSign, craftDer, der, sequence, x509 } from './oracle.ts'

const HOUR = 3_600_000
const now = Date.UTC(2026, 10, 22, 12)
const window = { notBefore: now - HOUR, notAfter: now + HOUR }

describe('the certificate linter', () => {
  for (const algorithm of KEY_ALGORITHMS) {
    it(`${algorithm}: finds nothing in a root, a cross-signed one, an authority and the leaves of every kind of key`, async () => {
      const domain = await makeTestDomain({ domain: 'prod', now, algorithm })
      const root = domain.root.certificate.der
      const authority = domain.authority().certificate.der
      assert.deepEqual(lintCertificate(root), [])
      assert.deepEqual(lintCertificate(authority, root), [])
      const { root: other } = await makeTestDomain({ domain: 'prod', now, algorithm: 'P-384' })
      const window = { notBefore: now, notAfter: now + HOUR }
      const cross = await issueCross({ subject: other.certificate, root: domain.root, ...window })
      assert.deepEqual(lintCertificate(parseCertificate(cross, 'cross').der, root), [])
      for (const leafAlgorithm of KEY_ALGORITHMS) {
        const { certificate } = await domain.leaf({
          algorithm: leafAlgorithm,
          dns: ['localhost', '*.nats.example', 'a_b.example'],
          ip: ['127.0.0.1', '2001:db8::1'],
        })
        assert.deepEqual(lintCertificate(certificate.der, authority), [], leafAlgorithm)
      }
    })
  }

  it('finds nothing in a leaf without names, with a foreign name, and in certificates of the next century', async () => {
    const keyPair = await generateKeyPair()
    const long = { domain: 'd'.repeat(63), keyPair, notBefore: now, notAfter: Date.UTC(2150, 0, 1) }
    const root = parseCertificate(await issueRoot(long), 'root')
    const key = await generateKeyPair()
    const authority = parseCertificate(
      await issueAuthority({
        ...long,
        keyPair: key,
        epoch: 123_456_789,
        root: { certificate: root, privateKey: keyPair.privateKey },
        notAfter: Date.UTC(2050, 0, 1),
      }),
      'authority',
    )
    assert.deepEqual(lintCertificate(root.der), [])
    assert.deepEqual(lintCertificate(authority.der, root.der), [])
    for (const commonName of ['orders', 'Bestellungen für Zoë']) {
      const pem = await issueLeaf({
        authority: { certificate: authority, privateKey: key.privateKey },
        publicKey: (await generateKeyPair()).publicKey,
        commonName,
        names: { dns: [], ip: [], uri: [] },
        notBefore: now,
        notAfter: Date.UTC(2049, 11, 31, 23, 59, 59),
      })
      assert.deepEqual(lintCertificate(parseCertificate(pem, 'leaf').der, authority.der), [])
    }
  })

  describe('finds', () => {
    let domain: TestDomain
    let leaf: Buffer
    let authority: Buffer
    let root: Buffer
    before(async () => {
      domain = await makeTestDomain({ domain: 'prod', now })
      leaf = Buffer.from((await domain.leaf()).certificate.der)
      authority = Buffer.from(domain.authority().certificate.der)
      root = Buffer.from(domain.root.certificate.der)
    })

    /** The certificate with one run of bytes replaced by another of the same length; the signature is not looked at. */
    function changed(certificate: Buffer, from: string, to: string): Buffer {
      const hex = certificate.toString('hex')
      assert.equal(from.length, to.length)
      assert.ok(hex.includes(from), `no ${from}`)
      return Buffer.from(hex.replace(from, to), 'hex')
    }

    function assertFinds(section: RegExp, certificate: Uint8Array, issuer?: Uint8Array): void {
      const found = lintCertificate(certificate, issuer)
      assert.ok(
        found.some((text) => section.test(text)),
        `expected ${section}, found ${JSON.stringify(found)}`,
      )
    }

    it('what is changed in the frame', () => {
      assertFinds(/4\.1\.2\.1/, changed(leaf, 'a003020102', 'a003020101'), authority)
      const serial = leaf.toString('hex').indexOf('0210')
      const withSerial = (first: string): Buffer =>
        Buffer.from(
          leaf.toString('hex').slice(0, serial + 4) +
            first +
            leaf.toString('hex').slice(serial + 4 + first.length),
          'hex',
        )
      assertFinds(/4\.1\.2\.2: .*positive/, withSerial('80'), authority)
      assertFinds(/8\.3\.2/, withSerial('0001'), authority)
      assertFinds(/4\.1\.2\.2: .*zero/, withSerial('00'.repeat(16)), authority)
      // the first of the two algorithms: SHA-384 inside, SHA-256 outside
      assertFinds(/4\.1\.1\.2: the two/, changed(leaf, '2a8648ce3d040302', '2a8648ce3d040303'), authority)
      assertFinds(/4\.1\.2\.4: the issuer is not/, leaf, root)
      assertFinds(/4\.2\.1\.1: authorityKeyIdentifier is not/, leaf, root)
      assertFinds(
        /10\.1|8\.1\.3|longer|cut/,
        changed(leaf, leaf.toString('hex').slice(0, 8), '30820001'),
        authority,
      )
      assertFinds(/bytes after/, Buffer.concat([leaf, Buffer.of(5, 0)]), authority)
      assertFinds(/three parts/, sequence(), authority)
    })

    it('what is changed in dates, keys and extensions', () => {
      const start = Buffer.from('261122').toString('hex')
      assertFinds(
        /4\.1\.2\.5: .*before it starts/,
        changed(leaf, start, Buffer.from('491122').toString('hex')),
        authority,
      )
      assertFinds(
        /4\.1\.2\.5: it begins before/,
        changed(leaf, start, Buffer.from('201122').toString('hex')),
        authority,
      )
      assertFinds(
        /4\.1\.2\.5: .*no time/,
        changed(leaf, start, Buffer.from('261322').toString('hex')),
        authority,
      )
      // keyUsage: keyEncipherment for an elliptic curve, no digitalSignature
      assertFinds(/RFC 8813/, changed(leaf, '03020780', '03020520'), authority)
      assertFinds(/4\.2\.1\.3: a leaf that does not sign/, changed(leaf, '03020780', '03020520'), authority)
      assertFinds(/11\.2\.2/, changed(leaf, '03020780', '03020480'), authority)
      assertFinds(/11\.2\.1/, changed(leaf, '03020780', '03020781'), authority)
      // an extension twice: extendedKeyUsage becomes a second keyUsage
      assertFinds(
        /4\.2: extension 2\.5\.29\.15 is there twice/,
        changed(leaf, '0603551d25', '0603551d0f'),
        authority,
      )
      // clientAuth becomes serverAuth
      assertFinds(/4\.2\.1\.12/, changed(leaf, '2b06010505070302', '2b06010505070301'), authority)
      const critical = changed(authority, '0603551d130101ff', '0603551d13010100')
      assertFinds(/4\.1: critical FALSE/, critical, root)
      assertFinds(
        /4\.2\.1\.9: the path length/,
        changed(authority, '30060101ff020100', '30060101ff02017f'),
        root,
      )
      assertFinds(/RFC 5480 2\.2/, changed(leaf, '03420004', '03420002'), authority)
      assertFinds(
        /4\.2\.1\.6: .*no DNS name/,
        changed(leaf, '82096c6f63616c686f7374', '8209206f63616c686f7374'),
        authority,
      )
    })

    it('what another tool may make', async () => {
      const { KeyUsagesExtension, KeyUsageFlags, BasicConstraintsExtension, Extension } = x509
      const make = (...extensions: x509.Extension[]) =>
        craftDer({ subject: 'CN=other', ...window, extensions, issuer: domain.authority() })
      const findings: [RegExp, x509.Extension[]][] = [
        [/4\.2\.1\.3: no keyUsage/, []],
        [/4\.2\.1\.2: no subjectKeyIdentifier/, []],
        [/4\.2\.1\.1: no authorityKeyIdentifier/, []],
        [
          /4\.2\.1\.3: keyUsage is not critical/,
          [new KeyUsagesExtension(KeyUsageFlags.digitalSignature, false)],
        ],
        [/4\.2\.1\.9: keyCertSign without cA/, [certSign()]],
        [/4\.2\.1\.9: basicConstraints of a CA/, [new BasicConstraintsExtension(true, 0, false), certSign()]],
        [/4\.2\.1\.9: the issuer allows no CA/, [ca(0), certSign()]],
        [/4\.2: unknown extension 1\.2\.3/, [new Extension('1.2.3', true, der(5))]],
        [/4\.2\.1\.6: an empty/, [new Extension('2.5.29.17', false, sequence())]],
        [
          /4\.2\.1\.6: .*no URI/,
          [new Extension('2.5.29.17', false, sequence(der(0x86, Buffer.from('orders'))))],
        ],
        [/4\.2\.1\.6: an IP/, [new Extension('2.5.29.17', false, sequence(der(0x87, Buffer.alloc(5))))]],
        [
          /4\.2\.1\.6: a name of the kind/,
          [new Extension('2.5.29.17', false, sequence(der(0x81, Buffer.from('a@b'))))],
        ],
        [/4\.2\.1\.12: an empty/, [new Extension('2.5.29.37', false, sequence())]],
        [/4\.2\.1\.10/, [new Extension('2.5.29.30', false, sequence())]],
        [/must not be critical/, [new Extension('1.3.6.1.5.5.7.1.1', true, sequence())]],
        [/10\.2: a OCTET STRING is constructed/, [new Extension('2.5.29.14', false, der(0x24, der(4)))]],
      ]
      for (const [section, extensions] of findings) {
        assertFinds(section, await make(...extensions), authority)
      }
    })
  })
})
