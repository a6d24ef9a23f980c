import assert from 'node:assert/strict'
import { generateKeyPairSync, sign } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { RotorError } from '../../../src/errors.ts'
import { makeCsr, parseCsr } from '../../../src/trust/csr.ts'
import { generateKeyPair, type KeyPair, spkiSha256 } from '../../../src/trust/keys.ts'
import { writeNames, writeSubject } from '../../../src/trust/names.ts'
import { decodePem, encodePem } from '../../../src/trust/pem.ts'
import { altNames, der, openssl, opensslRequest, sequence, type x509 } from './oracle.ts'

const LABEL = 'CERTIFICATE REQUEST'
const malformed = { code: 'ERR_SIGN_MALFORMED', message: /^signing request/ }
const bytesOf = (csr: string): Buffer => decodePem(csr, LABEL, 'csr', 'ERR_INTERNAL')[0] ?? Buffer.alloc(0)

/** ecdsa-with-SHA256 */
const ECDSA = sequence(Buffer.from('06082a8648ce3d040302', 'hex'))

/** A request whose signed part is put together by hand, signed with a P-256 key. */
function craftCsr(
  keyPair: KeyPair,
  parts: { subject?: Buffer; version?: number; attributes?: Buffer[]; algorithm?: Buffer } = {},
): string {
  const info = sequence(
    der(0x02, Buffer.of(parts.version ?? 0)),
    parts.subject ?? writeSubject('agent'),
    keyPair.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa0, ...(parts.attributes ?? [])),
  )
  const signature = der(0x03, Buffer.of(0), sign('sha256', info, keyPair.privateKey))
  return encodePem(LABEL, sequence(info, parts.algorithm ?? ECDSA, signature))
}

const EXTENSION_REQUEST = Buffer.from('06092a864886f70d01090e', 'hex')
const requestOf = (...extensions: x509.Extension[]): Buffer =>
  sequence(EXTENSION_REQUEST, der(0x31, sequence(...extensions.map(({ rawData }) => Buffer.from(rawData)))))

/** The same request with three bytes of length where two are enough. */
const notMinimal = (request: Buffer): Buffer =>
  Buffer.concat([Buffer.of(0x30, 0x83, 0), request.subarray(request.length < 0x100 + 3 ? 1 : 2)])

describe('signing requests', () => {
  for (const algorithm of ['P-256', 'P-384', 'Ed25519', 'RSA-3072'] as const) {
    it(`${algorithm}: reads what it made; openssl verifies it`, async () => {
      const keyPair = await generateKeyPair(algorithm)
      const wish = {
        dns: ['a.example', '*.b.example'],
        ip: ['10.1.2.3', '::1'],
        uri: ['spiffe://prod/orders'],
      }
      const csr = await makeCsr(keyPair, { subject: 'orders', ...wish })
      const read = await parseCsr(csr)
      assert.equal(read.subject, 'orders')
      assert.deepEqual(read.names, wish)
      assert.ok(read.publicKey.equals(keyPair.publicKey))
      assert.equal(read.spkiSha256, spkiSha256(keyPair.publicKey))
      assert.deepEqual(
        Buffer.from(read.publicKeyDer),
        keyPair.publicKey.export({ type: 'spki', format: 'der' }),
      )
      const text = openssl(['req', '-verify', '-noout', '-text'], csr)
      assert.match(text, /CN = orders/)
      assert.match(text, /DNS:a\.example, DNS:\*\.b\.example, IP Address:10\.1\.2\.3/)
    })
  }

  it('makes a request without names, and refuses to make one with a bad name', async () => {
    const keyPair = await generateKeyPair()
    assert.deepEqual((await parseCsr(await makeCsr(keyPair, { subject: 'x' }))).names, {
      dns: [],
      ip: [],
      uri: [],
    })
    await assert.rejects(makeCsr(keyPair, { subject: '' }), TypeError)
    await assert.rejects(makeCsr(keyPair, { subject: 'x', dns: ['a b'] }), TypeError)
  })

  it('reads requests of openssl, and ignores wishes other than names', async () => {
    const { privateKey } = await generateKeyPair()
    const extensions = [
      '-addext',
      'subjectAltName=DNS:a.example',
      '-addext',
      'basicConstraints=critical,CA:TRUE',
    ]
    const own = opensslRequest(privateKey, '-subj', '/O=Shop/CN=orders', ...extensions)
    const read = await parseCsr(own)
    assert.deepEqual([read.subject, read.names.dns], ['orders', ['a.example']])
  })

  it('refuses a request that the key in it did not sign', async () => {
    const mine = await generateKeyPair()
    const theirs = await generateKeyPair()
    const stolen = craftCsr({ publicKey: theirs.publicKey, privateKey: mine.privateKey })
    await assert.rejects(parseCsr(stolen), { ...malformed, message: /signature is not by the key/ })
    const rsa = await generateKeyPair('RSA-3072')
    await assert.rejects(
      parseCsr(craftCsr({ publicKey: rsa.publicKey, privateKey: mine.privateKey })),
      malformed,
    )
  })

  it('refuses a signature with SHA-1', async () => {
    const { privateKey } = await generateKeyPair('RSA-3072')
    const csr = opensslRequest(privateKey, '-sha1', '-subj', '/CN=orders')
    await assert.rejects(parseCsr(csr), malformed)
  })

  it('refuses weak and unusual keys', async () => {
    const pairs = [
      generateKeyPairSync('rsa', { modulusLength: 1024 }),
      generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
      generateKeyPairSync('ec', { namedCurve: 'secp224r1' }),
    ]
    for (const { privateKey } of pairs) {
      const csr = opensslRequest(privateKey, '-subj', '/CN=orders')
      await assert.rejects(parseCsr(csr), { code: 'ERR_SIGN_REFUSED', message: /expected an? .*key/ })
    }
    const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' })
    assert.equal((await parseCsr(await makeCsr(p521, { subject: 'x' }))).subject, 'x')
  })

  it('refuses requests of another shape', async () => {
    const keyPair = await generateKeyPair()
    const good = await makeCsr(keyPair, { subject: 'x', dns: ['a.example'] })
    const name = altNames(writeNames({ dns: ['a.example'], ip: [], uri: [] }))
    const nul = altNames(sequence(der(0x82, Buffer.from('a.example\0.evil'))))
    const space = altNames(sequence(der(0x82, Buffer.from('a b'))))
    const commonName = (tag: number, bytes: Buffer): Buffer =>
      sequence(der(0x31, sequence(Buffer.from('0603550403', 'hex'), der(tag, bytes))))
    assert.equal((await parseCsr(craftCsr(keyPair, { attributes: [requestOf(name)] }))).names.dns.length, 1)
    assert.equal(
      (await parseCsr(craftCsr(keyPair, { subject: commonName(0x13, Buffer.from('x')) }))).subject,
      'x',
    )
    const cases: Record<string, string> = {
      empty: '',
      'not PEM': 'hello',
      'a certificate label': good.replaceAll(LABEL, 'CERTIFICATE'),
      'two requests': good + good,
      truncated: good.slice(0, -10),
      huge: good + '\n'.repeat(40 * 1024),
      'bytes after it': encodePem(LABEL, Buffer.concat([bytesOf(good), Buffer.of(0)])),
      'version 2': craftCsr(keyPair, { version: 1 }),
      'two lists of names': craftCsr(keyPair, { attributes: [requestOf(name, name)] }),
      'two attributes with names': craftCsr(keyPair, {
        attributes: [requestOf(name), requestOf(name)],
      }),
      'a NUL in a name': craftCsr(keyPair, { attributes: [requestOf(nul)] }),
      'a space in a name': craftCsr(keyPair, { attributes: [requestOf(space)] }),
      'an attribute that is no sequence': craftCsr(keyPair, { attributes: [der(0x05)] }),
      'a subject that is no name': craftCsr(keyPair, {
        subject: sequence(der(0x02, Buffer.of(1))),
      }),
      'a common name that is a number': craftCsr(keyPair, { subject: commonName(0x02, Buffer.of(1)) }),
      'a common name that is no UTF-8': craftCsr(keyPair, { subject: commonName(0x0c, Buffer.of(0xff)) }),
      'parameters of the signature algorithm': craftCsr(keyPair, {
        algorithm: sequence(ECDSA.subarray(2), der(0x05)),
      }),
      'a length that is not minimal': encodePem(LABEL, notMinimal(bytesOf(good))),
    }
    for (const [what, csr] of Object.entries(cases)) await assert.rejects(parseCsr(csr), malformed, what)
  })

  it('refuses every damaged byte with a RotorError', async () => {
    const bytes = bytesOf(await makeCsr(await generateKeyPair(), { subject: 'orders', dns: ['a.example'] }))
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        const damaged = Buffer.from(bytes)
        damaged.writeUInt8(damaged.readUInt8(at) ^ mask, at)
        await assert.rejects(parseCsr(encodePem(LABEL, damaged)), (error) => RotorError.is(error))
      }),
      { numRuns: 500 },
    )
  })
})
