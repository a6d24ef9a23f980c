import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { RotorError } from '../../../src/errors.ts'
import { encodedSubject, parseCertificate, parseCertificates } from '../../../src/trust/certificate.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { ca, certSign, craft, openssl, x509 } from './oracle.ts'

const DAY = 86_400_000
const now = Date.UTC(2026, 10, 22, 12)

describe('certificates', () => {
  let domain: TestDomain
  before(async () => {
    domain = await makeTestDomain({ domain: 'prod', now })
  })

  it('reads from a leaf what openssl reads', async () => {
    const { certificate } = await domain.leaf({
      name: 'orders',
      dns: ['a.example', 'b.example'],
      ip: ['::1'],
    })
    const ask = (...what: string[]): string => openssl(['x509', '-noout', ...what], certificate.pem).trim()
    assert.equal(
      `sha256 Fingerprint=${certificate.sha256}`,
      ask('-fingerprint', '-sha256')
        .replaceAll(':', '')
        .replace(/[0-9A-F]{64}/, (hex) => hex.toLowerCase()),
    )
    assert.equal(ask('-serial').toLowerCase(), `serial=${certificate.serial}`)
    assert.equal(Date.parse(ask('-startdate').replace('notBefore=', '')), certificate.notBefore)
    assert.equal(Date.parse(ask('-enddate').replace('notAfter=', '')), certificate.notAfter)
    assert.equal(certificate.subject, 'CN=orders')
    assert.equal(certificate.issuer, domain.authority().certificate.subject)
    assert.deepEqual(certificate.names, {
      dns: ['a.example', 'b.example'],
      ip: ['::1'],
      uri: ['spiffe://prod/orders'],
    })
    assert.equal(certificate.ca, false)
    assert.equal(certificate.pathLength, null)
    assert.equal(certificate.keyCertSign, false)
    assert.deepEqual(certificate.usages, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
    assert.equal(certificate.authorityKeyId, domain.authority().certificate.subjectKeyId)
    assert.deepEqual(certificate.unknownCritical, [])
    const key = openssl(['x509', '-noout', '-pubkey'], certificate.pem)
    assert.equal(certificate.x509.publicKey.export({ type: 'spki', format: 'pem' }), key)
  })

  it('reads the extensions of a certificate that another library made', async () => {
    const { certificate } = await craft({
      subject: 'CN=elsewhere, O=Some Company',
      notBefore: now,
      notAfter: now + DAY,
      extensions: [
        ca(3),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature,
          true,
        ),
        new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.2']),
        new x509.SubjectAlternativeNameExtension([
          { type: 'dns', value: 'x.example' },
          { type: 'ip', value: '10.0.0.1' },
          { type: 'email', value: 'a@b.example' },
          { type: 'url', value: 'https://x.example/' },
        ]),
        new x509.SubjectKeyIdentifierExtension('0102'),
        new x509.AuthorityKeyIdentifierExtension('0304'),
        new x509.Extension('2.5.29.30', true, Buffer.from('3000', 'hex')),
      ],
    })
    assert.equal(certificate.subject, 'CN=elsewhere, O=Some Company')
    assert.deepEqual([certificate.ca, certificate.pathLength, certificate.keyCertSign], [true, 3, true])
    assert.deepEqual(certificate.usages, ['1.3.6.1.5.5.7.3.2'])
    assert.deepEqual(certificate.names, { dns: ['x.example'], ip: ['10.0.0.1'], uri: ['https://x.example/'] })
    assert.deepEqual([certificate.subjectKeyId, certificate.authorityKeyId], ['0102', '0304'])
    assert.deepEqual(certificate.unknownCritical, ['2.5.29.30'])
  })

  it('reads a certificate without any extension as no CA', async () => {
    const { certificate } = await craft({ subject: 'CN=bare', notBefore: now, notAfter: now + DAY })
    assert.deepEqual(
      [certificate.ca, certificate.keyCertSign, certificate.subjectKeyId],
      [false, false, null],
    )
    assert.equal(certificate.pathLength, null)
  })

  it('gives the same certificate from PEM and from DER, and the encoded subject', () => {
    const { certificate } = domain.authority()
    assert.equal(parseCertificate(certificate.der, 'der').pem, certificate.pem)
    assert.equal(parseCertificate(certificate.pem.replaceAll('\n', '\r\n'), 'pem').sha256, certificate.sha256)
    const subject = Buffer.from(encodedSubject(certificate))
    const common = Buffer.from(certificate.subject.replace(/^CN=|, O=.*$/g, ''))
    assert.ok(subject.includes(common) && Buffer.from(certificate.der).includes(subject))
  })

  it('refuses an extension that appears twice, and a broken one', async () => {
    const make = (...extensions: x509.Extension[]) =>
      craft({ subject: 'CN=bad', notBefore: now, notAfter: now + DAY, extensions })
    await assert.rejects(make(ca(0), ca(1), certSign()), { code: 'ERR_IDENTITY_INVALID' })
    await assert.rejects(make(new x509.Extension('2.5.29.19', true, Buffer.from('0500', 'hex'))), {
      code: 'ERR_IDENTITY_INVALID',
    })
    await assert.rejects(
      make(new x509.Extension('2.5.29.17', false, Buffer.from('3006820461006263', 'hex'))),
      { code: 'ERR_IDENTITY_INVALID' },
    )
  })

  it('refuses bytes after the value of an extension, and path lengths that are none', async () => {
    const make = (id: string, value: string) =>
      craft({
        subject: 'CN=bad',
        notBefore: now,
        notAfter: now + DAY,
        extensions: [new x509.Extension(id, false, Buffer.from(value, 'hex'))],
      })
    const values: Record<string, string> = {
      '2.5.29.19': '30060101ff020100',
      '2.5.29.15': '03020106',
      '2.5.29.37': '300a06082b06010505070301',
      '2.5.29.17': '30038201' + '61',
      '2.5.29.14': '04020102',
      '2.5.29.35': '300480020102',
    }
    for (const [id, value] of Object.entries(values)) {
      await make(id, value)
      for (const rest of ['00', '0500', value]) {
        await assert.rejects(make(id, value + rest), { code: 'ERR_IDENTITY_INVALID' }, `${id} and ${rest}`)
      }
    }
    for (const limit of ['0201ff', '020600ffffffffff', '0200', '02020001']) {
      const value = `30${(3 + limit.length / 2).toString(16).padStart(2, '0')}0101ff${limit}`
      await assert.rejects(make('2.5.29.19', value), { code: 'ERR_IDENTITY_INVALID' }, limit)
    }
  })

  it('reads the same certificate once, and never takes another one for it', async () => {
    const { certificate } = domain.authority()
    assert.equal(parseCertificate(certificate.pem, 'one'), parseCertificate(certificate.der, 'two'))
    const { certificate: other } = await domain.leaf({ name: 'orders' })
    assert.notEqual(parseCertificate(other.pem, 'other'), certificate)
  })

  describe('in PEM text', () => {
    const refused = (text: string, message: RegExp): void =>
      assert.throws(
        () => parseCertificates(text, 'ca.pem'),
        (error: unknown) => {
          assert.ok(RotorError.is(error))
          assert.equal(error.code, 'ERR_IDENTITY_INVALID')
          assert.match(error.message, /^ca\.pem/)
          assert.match(error.message, message)
          return true
        },
      )

    it('reads all certificates in order, past comments and empty lines', () => {
      const [a, b] = domain.authorities.map(({ certificate }) => certificate)
      assert.ok(a !== undefined && b !== undefined)
      const text = `# the old one\n\n${a.pem}\n   \n# the new one\n${b.pem.trimEnd()}`
      assert.deepEqual(
        parseCertificates(text, 'ca.pem').map(({ sha256 }) => sha256),
        [a.sha256, b.sha256],
      )
    })

    it('refuses a text whose last block is cut off at any place, which Go would read in part', () => {
      const [a, b] = domain.authorities.map(({ certificate }) => certificate.pem)
      const whole = `${a}${b}`.trimEnd()
      for (let end = (a ?? '').length + 1; end < whole.length; end += 7) {
        refused(whole.slice(0, end), /./)
      }
      refused(whole.slice(0, -1), /truncated/)
    })

    it('refuses anything else between blocks, other labels, bad base64, empty text and too much text', () => {
      const { pem } = domain.authority().certificate
      refused(`${pem}hello\n${pem}`, /expected "-----BEGIN CERTIFICATE-----"/)
      refused(
        `${pem}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n`,
        /expected "-----BEGIN CERT/,
      )
      refused(pem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE'), /expected "-----BEGIN CERT/)
      refused(pem.replace('\nMII', '\n!MII'), /not base64/)
      refused(pem.replace('MII', 'MIJ'), /expected an X\.509 certificate/)
      refused('-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n', /not base64/)
      refused('', /found none/)
      refused('# nothing here\n', /found none/)
      refused('\n'.repeat(1024 * 1024 + 1), /at most/)
    })

    it('names the certificate that is broken', () => {
      const { pem } = domain.authority().certificate
      refused(`${pem}${pem.replace('MII', 'MIJ')}`, /certificate 2/)
    })

    it('refuses two where one is expected, with the code that was asked for', () => {
      const { pem } = domain.authority().certificate
      assert.throws(() => parseCertificate(pem + pem, 'root', 'ERR_BUNDLE_CHAIN'), {
        code: 'ERR_BUNDLE_CHAIN',
        message: /expected one certificate, found 2/,
      })
    })
  })

  it('refuses DER with something before or after it, PEM given as bytes, and huge input', () => {
    const { der, pem } = domain.authority().certificate
    for (const bytes of [
      Buffer.concat([der, Buffer.of(0)]),
      Buffer.concat([Buffer.of(0), der]),
      Buffer.from(pem),
      Buffer.alloc(0),
      Buffer.alloc(70_000, 0x30),
    ]) {
      assert.throws(() => parseCertificate(bytes, 'peer'), { code: 'ERR_IDENTITY_INVALID' })
    }
  })

  it('throws nothing but RotorError for damaged certificates', () => {
    const { der } = domain.authority().certificate
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (changes) => {
          const bytes = Buffer.from(der)
          for (const [at, value] of changes) bytes[at] = value
          try {
            parseCertificate(bytes, 'peer')
          } catch (error) {
            assert.ok(RotorError.is(error), String(error))
          }
        },
      ),
      { numRuns: 1000 },
    )
  })
})
