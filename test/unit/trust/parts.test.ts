import assert from 'node:assert/strict'
import { generateKeyPairSync, sign } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import { issueRoot } from '../../../src/trust/issue.ts'
import { generateKeyPair } from '../../../src/trust/keys.ts'
import { readParts, readValidity } from '../../../src/trust/parts.ts'
import { isSignedBy, isSignedByNow, verifyBytes } from '../../../src/trust/signature.ts'
import { der, sequence } from './oracle.ts'

const utc = (text: string): Buffer => der(0x17, Buffer.from(text))
const general = (text: string): Buffer => der(0x18, Buffer.from(text))

describe('the parts of a certificate', () => {
  it('give the dates that OpenSSL reads, of this century and others, and the signature that it verifies', async () => {
    const keyPair = await generateKeyPair()
    for (const [from, to] of [
      [Date.UTC(1950, 0, 1), Date.UTC(1999, 11, 31, 23, 59, 59)],
      [Date.UTC(2000, 1, 29), Date.UTC(2049, 11, 31)],
      [Date.UTC(2049, 11, 31), Date.UTC(2150, 6, 1, 1, 2, 3)],
    ] as const) {
      const pem = await issueRoot({ domain: 'test', keyPair, notBefore: from, notAfter: to })
      const certificate = parseCertificate(pem, 'root')
      const { signedPart, algorithm, signature, validity } = readParts(certificate.der)
      assert.deepEqual(readValidity(validity), { notBefore: from, notAfter: to })
      assert.deepEqual([certificate.notBefore, certificate.notAfter], [from, to])
      assert.ok(await isSignedBy(signedPart, algorithm, signature, keyPair.publicKey))
    }
  })

  it('are signed or not, whether it is looked at in a thread of the pool or here and now', async () => {
    const [keyPair, other] = [await generateKeyPair(), await generateKeyPair()]
    const [longer, rsa] = [await generateKeyPair('P-384'), await generateKeyPair('RSA-3072')]
    const window = { notBefore: Date.UTC(2026, 0, 1), notAfter: Date.UTC(2027, 0, 1) }
    const pem = await issueRoot({ domain: 'test', keyPair, ...window })
    const { signedPart, algorithm, signature } = readParts(parseCertificate(pem, 'root').der)
    // ecdsa-with-SHA1 (RFC 3279 2.2.3)
    const sha1 = Buffer.from('300906072a8648ce3d0401', 'hex')
    const { publicKey } = keyPair
    for (const [what, holds, data, identifier, by, key] of [
      ['as it came', true, signedPart, algorithm, signature, publicKey],
      ['another key', false, signedPart, algorithm, signature, other.publicKey],
      ['a key on another curve', false, signedPart, algorithm, signature, longer.publicKey],
      ['a key of another kind', false, signedPart, algorithm, signature, rsa.publicKey],
      ['a byte more', false, Buffer.concat([signedPart, Buffer.of(0)]), algorithm, signature, publicKey],
      ['a weak hash', false, signedPart, sha1, signature, publicKey],
      ['no algorithm', false, signedPart, Buffer.alloc(0), signature, publicKey],
      ['half a signature', false, signedPart, algorithm, signature.subarray(0, 20), publicKey],
      ['no signature', false, signedPart, algorithm, Buffer.alloc(0), publicKey],
    ] as const) {
      assert.equal(await isSignedBy(data, identifier, by, key), holds, what)
      assert.equal(isSignedByNow(data, identifier, by, key), holds, `${what}, now`)
    }
  })

  it('have dates in one form only', () => {
    const end = utc('300101000000Z')
    for (const wrong of [
      '2601010000Z',
      '260101000000',
      '260101000000+0100',
      '261301000000Z',
      '260101250000Z',
      '260101240000Z',
      '260230000000Z',
      '',
    ]) {
      assert.throws(() => readValidity(sequence(utc(wrong), end)), SyntaxError, wrong)
    }
    for (const wrong of ['20600101000000.5Z', '206001010000Z', '600101000000Z']) {
      assert.throws(() => readValidity(sequence(general(wrong), end)), SyntaxError, wrong)
    }
    assert.throws(() => readValidity(sequence(der(0x0c, Buffer.from('260101000000Z')), end)), SyntaxError)
    assert.throws(() => readValidity(sequence(end)), SyntaxError)
    assert.throws(() => readValidity(sequence(end, end, end)), SyntaxError)
  })

  it('are read, or refused as no certificate, whatever the bytes are', async () => {
    const pem = await issueRoot({
      domain: 'test',
      keyPair: await generateKeyPair(),
      notBefore: 0,
      notAfter: 1000,
    })
    const { der: sound } = parseCertificate(pem, 'root')
    fc.assert(
      fc.property(fc.nat(sound.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const bytes = Buffer.from(sound)
        bytes[at] = byte
        try {
          readValidity(readParts(bytes).validity)
        } catch (cause) {
          assert.ok(cause instanceof SyntaxError, String(cause))
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('signatures as two numbers', () => {
  it('verify whatever zeros the numbers begin with, and of no other size', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    for (let i = 0; i < 300; i++) {
      const data = Buffer.from(`message ${i}`)
      const pair = sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' })
      assert.ok(await verifyBytes(data, publicKey, pair, { hash: 'sha256', pairOf: 32 }))
    }
    const data = Buffer.from('message')
    const pair = sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' })
    const inDer = sign('sha256', data, privateKey)
    const form = { hash: 'sha256', pairOf: 32 }
    for (const wrong of [
      inDer,
      pair.subarray(1),
      Buffer.concat([pair, Buffer.of(0)]),
      Buffer.alloc(64),
      Buffer.of(),
    ])
      assert.equal(await verifyBytes(data, publicKey, wrong, form), false)
  })
})
