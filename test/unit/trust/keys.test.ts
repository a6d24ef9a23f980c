import assert from 'node:assert/strict'
import { createPublicKey, sign, verify } from 'node:crypto'
import { describe, it } from 'node:test'
import { RotorError } from '../../../src/errors.ts'
import {
  generateKeyPair,
  type KeyAlgorithm,
  privateKeyFromPem,
  privateKeyToPem,
  spkiSha256,
} from '../../../src/trust/keys.ts'
import { openssl } from './oracle.ts'

const ALGORITHMS: readonly KeyAlgorithm[] = ['P-256', 'P-384', 'Ed25519', 'RSA-3072']

describe('key pairs', () => {
  for (const algorithm of ALGORITHMS) {
    it(`${algorithm}: signs, survives PEM with and without a passphrase, and has one fingerprint`, async () => {
      const { privateKey, publicKey } = await generateKeyPair(algorithm)
      const data = Buffer.from('text')
      const hash = algorithm === 'Ed25519' ? null : 'sha256'
      assert.ok(verify(hash, data, publicKey, sign(hash, data, privateKey)))

      const plain = privateKeyToPem(privateKey)
      assert.match(plain, /^-----BEGIN PRIVATE KEY-----/)
      assert.ok(privateKeyFromPem(plain).equals(privateKey))
      const locked = privateKeyToPem(privateKey, 'open sesame')
      assert.match(locked, /^-----BEGIN ENCRYPTED PRIVATE KEY-----/)
      assert.ok(privateKeyFromPem(locked, 'open sesame').equals(privateKey))

      assert.equal(spkiSha256(publicKey), spkiSha256(createPublicKey(privateKey)))
      const other = await generateKeyPair(algorithm === 'RSA-3072' ? 'P-256' : algorithm)
      assert.notEqual(spkiSha256(publicKey), spkiSha256(other.publicKey))
    })
  }

  it('makes P-256 when nothing is asked for, and refuses an unknown kind', async () => {
    const { privateKey } = await generateKeyPair()
    assert.equal(privateKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
    await assert.rejects(generateKeyPair('RSA-512' as KeyAlgorithm), TypeError)
  })

  it('encrypts with AES-256-CBC, and openssl opens it', async () => {
    const { privateKey } = await generateKeyPair()
    const locked = privateKeyToPem(privateKey, 'open sesame')
    assert.match(openssl(['asn1parse'], locked), /aes-256-cbc/)
    assert.equal(openssl(['pkey', '-passin', 'pass:open sesame'], locked), privateKeyToPem(privateKey))
  })

  it('says that a key is locked when the passphrase is missing or wrong, without naming it', async () => {
    const { privateKey } = await generateKeyPair()
    const locked = privateKeyToPem(privateKey, 'open sesame')
    const isLocked = (error: unknown): boolean =>
      RotorError.is(error) &&
      error.code === 'ERR_AUTHORITY_LOCKED' &&
      /^ca\.key: /.test(error.message) &&
      !/sesame|guess/.test(error.message)
    assert.throws(() => privateKeyFromPem(locked, undefined, 'ca.key'), isLocked)
    assert.throws(() => privateKeyFromPem(locked, 'guess', 'ca.key'), isLocked)
    assert.throws(() => privateKeyFromPem(locked, '', 'ca.key'), isLocked)
    const old = openssl(
      ['rsa', '-traditional', '-aes256', '-passout', 'pass:guess'],
      privateKeyToPem((await generateKeyPair('RSA-3072')).privateKey),
    )
    assert.match(old, /Proc-Type: 4,ENCRYPTED/)
    assert.throws(() => privateKeyFromPem(old, undefined, 'ca.key'), isLocked)
    assert.equal(privateKeyFromPem(old, 'guess').asymmetricKeyType, 'rsa')
  })

  it('refuses what is no private key', async () => {
    const { publicKey } = await generateKeyPair()
    const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
    const broken = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'
    for (const text of ['', 'hello', publicPem, broken, 'x'.repeat(100_000)]) {
      assert.throws(() => privateKeyFromPem(text, undefined, 'tls.key'), {
        code: 'ERR_IDENTITY_INVALID',
        message: /^tls\.key: /,
      })
    }
  })
})
