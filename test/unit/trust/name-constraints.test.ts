import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { type Certificate, parseCertificate } from '../../../src/trust/certificate.ts'
import { verifyLeaf } from '../../../src/trust/chain.ts'
import { issueAuthority, issueLeaf, type KeyedCertificate } from '../../../src/trust/issue.ts'
import { generateKeyPair, type KeyPair } from '../../../src/trust/keys.ts'
import {
  describePermitted,
  namesOutside,
  type Permitted,
  readPermitted,
  writePermitted,
} from '../../../src/trust/name-constraints.ts'
import { type Names, NO_NAMES } from '../../../src/trust/names.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { lintCertificate } from '../../support/x509-lint.ts'
import { der, openssl, opensslVerify, sequence } from './oracle.ts'

const HOUR = 3_600_000
const now = Date.UTC(2026, 10, 22, 12)
const window = { notBefore: now - HOUR, notAfter: now + HOUR }

const PERMITTED: Permitted = {
  dns: ['example.com', 'localhost'],
  ip: ['10.0.0.0/8', '192.0.2.7/32', '2001:db8::/33'],
  uri: ['prod', '.hosts.example'],
}

/** A name of one kind, and whether it may stand under PERMITTED. */
const CASES: readonly (readonly [keyof Names, string, boolean])[] = [
  ['dns', 'example.com', true],
  ['dns', 'a.b.EXAMPLE.com', true],
  ['dns', '*.example.com', true],
  ['dns', 'notexample.com', false],
  ['dns', 'example.com.org', false],
  ['dns', 'com', false],
  ['dns', 'localhost', true],
  ['ip', '10.255.0.1', true],
  ['ip', '11.0.0.1', false],
  ['ip', '192.0.2.7', true],
  ['ip', '192.0.2.8', false],
  ['ip', '2001:db8:7fff::1', true],
  ['ip', '2001:db8:8000::1', false],
  ['ip', '::ffff:10.0.0.1', false],
  ['uri', 'spiffe://prod/orders', true],
  ['uri', 'spiffe://a.prod/orders', false],
  ['uri', 'https://a.hosts.example:8443/path', true],
  ['uri', 'https://hosts.example/', false],
  ['uri', 'https://10.0.0.1/', false],
  ['uri', 'urn:prod:orders', false],
]

const only = (kind: keyof Names, name: string): Names => ({ ...NO_NAMES, [kind]: [name] })

describe('name constraints', () => {
  let domain: TestDomain
  let keyPair: KeyPair
  let twin: KeyedCertificate
  before(async () => {
    domain = await makeTestDomain({ now })
    keyPair = await generateKeyPair()
    twin = await authority()
  })

  /** One name and key: what the one without limits signs verifies under every other. */
  async function authority(permitted?: Permitted): Promise<KeyedCertificate> {
    const options = { domain: 'test', epoch: 9, keyPair, root: domain.root, permitted, ...window }
    const certificate = parseCertificate(await issueAuthority(options), 'authority')
    return { certificate, privateKey: keyPair.privateKey }
  }

  async function leaf(by: KeyedCertificate, names: Names): Promise<Certificate> {
    const options = { authority: by, publicKey: keyPair.publicKey, commonName: 'orders', names, ...window }
    return parseCertificate(await issueLeaf(options), 'leaf')
  }

  /** Does OpenSSL take it under this authority? */
  const taken = ({ pem }: Certificate, { certificate }: KeyedCertificate): boolean =>
    opensslVerify(pem, { trusted: certificate.pem }, now, ['-partial_chain']) === ''

  it('are written as openssl shows them, critical, and read again; the linter finds nothing', async () => {
    const { certificate } = await authority(PERMITTED)
    assert.match(
      openssl(['x509', '-noout', '-text'], certificate.pem).replace(/\s+/g, ' '),
      /X509v3 Name Constraints: critical Permitted: DNS:example\.com DNS:localhost IP:10\.0\.0\.0\/255\.0\.0\.0 IP:192\.0\.2\.7\/255\.255\.255\.255 IP:2001:DB8:0:0:0:0:0:0\/FFFF:FFFF:8000:0:0:0:0:0 URI:prod URI:\.hosts\.example/,
    )
    assert.deepEqual(certificate.permitted, PERMITTED)
    assert.deepEqual(certificate.unknownCritical, [])
    assert.deepEqual(lintCertificate(certificate.der, domain.root.certificate.der), [])
    assert.equal((await authority()).certificate.permitted, null)
    assert.equal((await authority(NO_NAMES)).certificate.permitted, null)
  })

  it('hold each kind of name to its own limits, as OpenSSL does, in signing and in verifying', async () => {
    const limited = await authority(PERMITTED)
    for (const [kind, name, fits] of CASES) {
      const names = only(kind, name)
      assert.deepEqual(namesOutside(names, PERMITTED), fits ? [] : [name])
      const made = await leaf(twin, names)
      assert.equal(taken(made, limited), fits, `openssl: ${name}`)
      const chain = [made, limited.certificate]
      const verify = () => verifyLeaf(chain, [limited.certificate], now)
      const sign = leaf(limited, names)
      if (fits) {
        verify()
        await sign
      } else {
        assert.throws(verify, { code: 'ERR_IDENTITY_INVALID', message: /name constraints/ }, name)
        await assert.rejects(sign, { code: 'ERR_SIGN_REFUSED', message: /name constraints/ }, name)
      }
    }
  })

  it('of one kind leave the others free', async () => {
    const limited = await authority({ ...NO_NAMES, dns: ['example.com'] })
    const names = { dns: ['a.example.com'], ip: ['192.0.2.1'], uri: ['spiffe://other/x'] }
    const made = await leaf(limited, names)
    assert.ok(taken(made, limited))
    verifyLeaf([made, limited.certificate], [limited.certificate], now)
  })

  it('never let a name pass that OpenSSL refuses', async () => {
    const label = fc.constantFrom('a', 'b', 'ab', '_b', 'A')
    const domainName = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'))
    // below the limit, often
    const before = fc.constantFrom('', '', 'a.', '*.', 'b.a.', '_b.a.', 'a')
    const byte = fc.constantFrom(0, 1, 127, 128, 255)
    const address = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'))
    const block = fc.constantFrom('0.0.0.0/0', '128.0.0.0/1', '1.0.0.0/8', '127.128.0.0/9')
    let passed = 0
    await fc.assert(
      fc.asyncProperty(domainName, block, domainName, before, address, before, async (...drawn) => {
        const [dns, ip, host, beforeDns, oneIp, beforeHost] = drawn
        const permitted = { dns: [dns], ip: [ip], uri: [host, `.${host}`] }
        const uri = `x://${beforeHost.replace('*', 'b')}${host.toUpperCase()}/y`
        const names = { dns: [beforeDns + dns], ip: [oneIp], uri: [uri] }
        if (namesOutside(names, permitted).length > 0) return
        passed += 1
        assert.ok(taken(await leaf(twin, names), await authority(permitted)))
      }),
      { numRuns: 150 },
    )
    assert.ok(passed > 5, `${passed} looked at by openssl`)
  })

  it('come back as they were written', () => {
    const label = fc.stringMatching(/^[a-z0-9]{1,8}$/)
    const host = fc
      .tuple(fc.stringMatching(/^[a-z]{1,8}$/), fc.array(label, { maxLength: 3 }))
      .map(([last, labels]) => [...labels, last].join('.'))
    const ip = fc.constantFrom(
      '0.0.0.0/0',
      '10.0.0.0/8',
      '192.0.2.128/25',
      '::/0',
      '2001:db8::/32',
      '::1/128',
    )
    const limits = {
      dns: fc.array(host, { maxLength: 4 }),
      ip: fc.array(ip, { maxLength: 4 }),
      uri: fc.array(
        fc.oneof(
          host,
          host.map((text) => `.${text}`),
        ),
        { maxLength: 4 },
      ),
    }
    const permitted = fc.record(limits, { noNullPrototype: true })
    fc.assert(
      fc.property(permitted, (limits) => {
        const value = writePermitted(limits)
        if (value === null) return describePermitted(limits) === 'none'
        assert.deepEqual(readPermitted(value), limits)
        return true
      }),
    )
  })

  it('that are no subtrees are refused before they are written', () => {
    for (const wrong of [
      { dns: ['.example.com'] },
      { dns: ['*.example.com'] },
      { dns: [''] },
      { ip: ['10.0.0.1/8'] },
      { ip: ['10.0.0.0'] },
      { ip: ['10.0.0.0/33'] },
      { ip: ['fe80::1%eth0/64'] },
      { uri: ['spiffe://prod'] },
      { uri: ['10.0.0.1'] },
      { uri: ['.'] },
    ]) {
      assert.throws(() => writePermitted({ ...NO_NAMES, ...wrong }), TypeError, JSON.stringify(wrong))
    }
  })

  it('that are not understood make a certificate that is not used, and broken ones are none', async () => {
    const dns = sequence(der(0x82, Buffer.from('example.com')))
    const holed = sequence(der(0x87, Buffer.from('0a000000ff00ff00', 'hex')))
    for (const value of [
      sequence(),
      sequence(der(0xa1, dns)), // excluded
      sequence(der(0xa0, dns), der(0xa1, dns)),
      sequence(der(0xa0, sequence(der(0x81, Buffer.from('example.com'))))), // e-mail
      sequence(der(0xa0, sequence(der(0x82, Buffer.from('example.com')), der(0x80, Buffer.of(1))))), // minimum
      sequence(der(0xa0, holed)),
    ]) {
      assert.equal(readPermitted(value), null, value.toString('hex'))
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          readPermitted(bytes)
        } catch (cause) {
          assert.ok(cause instanceof SyntaxError)
        }
      }),
    )
  })
})
