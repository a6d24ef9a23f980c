/** What we put together on the bytes is what the X.509 library makes of the same facts, byte for byte. */
import assert from 'node:assert/strict'
import type { KeyObject, webcrypto } from 'node:crypto'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import { makeCsr } from '../../../src/trust/csr.ts'
import { DerReader, TAG } from '../../../src/trust/der.ts'
import { issueLeaf } from '../../../src/trust/issue.ts'
import { generateKeyPair, KEY_ALGORITHMS, type KeyAlgorithm, type KeyPair } from '../../../src/trust/keys.ts'
import type { Names } from '../../../src/trust/names.ts'
import { decodePem } from '../../../src/trust/pem.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { x509 } from './oracle.ts'

const HOUR = 3_600_000

/** In the words of Web Crypto. */
const ALGORITHM: Readonly<
  Record<KeyAlgorithm, webcrypto.EcKeyImportParams & webcrypto.RsaHashedImportParams>
> = {
  'P-256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  'P-384': { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  Ed25519: { name: 'Ed25519', namedCurve: '', hash: '' },
  'RSA-3072': { name: 'RSASSA-PKCS1-v1_5', namedCurve: '', hash: 'SHA-256' },
}

const web = (key: KeyObject, algorithm: KeyAlgorithm): webcrypto.CryptoKey =>
  key.toCryptoKey(ALGORITHM[algorithm], true, [key.type === 'private' ? 'sign' : 'verify'])

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)
const anyNames: fc.Arbitrary<Names> = fc.record({
  dns: fc.array(
    fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.')),
    { maxLength: 4 },
  ),
  ip: fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 3 }),
  uri: fc.array(
    label.map((text) => `spiffe://test/${text}`),
    { maxLength: 3 },
  ),
})
const anyCommonName = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
  .filter((text) => text.length <= 64 && !/[\p{C}\ufffd]/u.test(text))

/** The library wants IPv6 addresses with groups in hex only. */
const plainIp = (ip: string): string =>
  ip.includes(':') ? new URL(`tls://[${ip}]`).hostname.slice(1, -1) : ip

/** The names as an extension of the library; none for no names. */
function alternatives({ dns, ip, uri }: Names): x509.Extension[] {
  const list: x509.JsonGeneralNames = [
    ...dns.map((value) => ({ type: 'dns' as const, value })),
    ...ip.map((value) => ({ type: 'ip' as const, value: plainIp(value) })),
    ...uri.map((value) => ({ type: 'url' as const, value })),
  ]
  return list.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(list)]
}

const subjectOf = (name: string): x509.Name => new x509.Name([{ CN: [{ utf8String: name }] }])

/** All of a certificate or request but the signature. */
function unsigned(der: Uint8Array): Buffer[] {
  const parts = new DerReader(der, 'test').sequence()
  return [parts.take(TAG.sequence).whole, parts.take(TAG.sequence).whole]
}

describe('the bytes that we put together', () => {
  let domain: TestDomain
  const keys = new Map<KeyAlgorithm, KeyPair>()
  const keyPairOf = (algorithm: KeyAlgorithm): KeyPair => keys.get(algorithm) ?? assert.fail()
  before(async () => {
    domain = await makeTestDomain()
    for (const algorithm of KEY_ALGORITHMS) keys.set(algorithm, await generateKeyPair(algorithm))
  })

  it('are those of the library for a leaf, whatever its names, dates and key are', async () => {
    const authority = domain.authority()
    const issuer = new x509.X509Certificate(Buffer.from(authority.certificate.der))
    const { digitalSignature, keyEncipherment } = x509.KeyUsageFlags
    const made = async (names: Names, commonName: string, algorithm: KeyAlgorithm, length: number) => {
      const { publicKey } = keyPairOf(algorithm)
      const window = { notBefore: domain.now, notAfter: domain.now + 1000 + length }
      const leaf = parseCertificate(
        await issueLeaf({ authority, publicKey, commonName, names, ...window }),
        'leaf',
      )
      const rsa = algorithm === 'RSA-3072' ? keyEncipherment : 0
      const again = await x509.X509CertificateGenerator.create({
        serialNumber: leaf.serial,
        subject: subjectOf(commonName),
        issuer: issuer.subjectName,
        notBefore: new Date(leaf.notBefore),
        notAfter: new Date(leaf.notAfter),
        publicKey: publicKey.export({ type: 'spki', format: 'der' }),
        signingKey: web(authority.privateKey, 'P-256'),
        signingAlgorithm: ALGORITHM['P-256'],
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(digitalSignature | rsa, true),
          new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']),
          ...alternatives(names),
          new x509.SubjectKeyIdentifierExtension(leaf.subjectKeyId ?? ''),
          new x509.AuthorityKeyIdentifierExtension(authority.certificate.subjectKeyId ?? ''),
        ],
      })
      assert.deepEqual(unsigned(leaf.der), unsigned(new Uint8Array(again.rawData)))
    }
    await fc.assert(
      fc.asyncProperty(
        anyNames,
        anyCommonName,
        fc.constantFrom(...KEY_ALGORITHMS),
        fc.integer({ min: 1, max: HOUR }),
        made,
      ),
      { numRuns: 80 },
    )
  })

  it('are those of the library for a request, whatever its names and key are', async () => {
    const made = async (names: Names, name: string, algorithm: KeyAlgorithm) => {
      const { publicKey, privateKey } = keyPairOf(algorithm)
      const csr = await makeCsr({ publicKey, privateKey }, { subject: name, ...names })
      const again = await x509.Pkcs10CertificateRequestGenerator.create({
        name: subjectOf(name),
        keys: { publicKey: web(publicKey, algorithm), privateKey: web(privateKey, algorithm) },
        signingAlgorithm: ALGORITHM[algorithm],
        extensions: alternatives(names),
      })
      const [der = Buffer.alloc(0)] = decodePem(csr, 'CERTIFICATE REQUEST', 'request', 'ERR_INTERNAL')
      assert.deepEqual(unsigned(der), unsigned(new Uint8Array(again.rawData)))
      assert.ok(await new x509.Pkcs10CertificateRequest(der).verify())
    }
    await fc.assert(fc.asyncProperty(anyNames, anyCommonName, fc.constantFrom(...KEY_ALGORITHMS), made), {
      numRuns: 40,
    })
  })
})
