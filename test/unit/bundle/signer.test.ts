import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { calculateJwkThumbprint } from 'jose'
import {
  generateSigner,
  isSignerKey,
  SIGNER_KINDS,
  signerFromPem,
  signerToPem,
  whatLacks,
} from '../../../src/bundle/signer.ts'
import { generateKeyPair, privateKeyToPem } from '../../../src/trust/keys.ts'
import { signerKey } from '../../../src/wire/bundle.ts'

describe('bundle signers', () => {
  it('are named by the RFC 7638 thumbprint of their key', async () => {
    for (const kind of SIGNER_KINDS) {
      const { key } = await generateSigner(kind)
      assert.deepEqual(signerKey.parse(key), key)
      assert.equal(key.kid, await calculateJwkThumbprint(key, 'sha256'))
      assert.ok(isSignerKey(key))
    }
    // RFC 8037 appendix A.3
    const example = { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' } as const
    assert.ok(isSignerKey({ ...example, kid: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k' }))
  })

  it('survive PEM, with and without a passphrase', async () => {
    for (const kind of SIGNER_KINDS) {
      const signer = await generateSigner(kind)
      assert.deepEqual(signerFromPem(signerToPem(signer)).key, signer.key)
      const locked = signerToPem(signer, 'open sesame')
      assert.match(locked, /ENCRYPTED/)
      assert.deepEqual(signerFromPem(locked, 'open sesame').key, signer.key)
      assert.throws(() => signerFromPem(locked), { code: 'ERR_AUTHORITY_LOCKED' })
      assert.throws(() => signerFromPem(locked, 'guess'), { code: 'ERR_AUTHORITY_LOCKED' })
    }
  })

  it('refuse a key of another kind', async () => {
    const { privateKey } = await generateKeyPair('P-256')
    assert.throws(() => signerFromPem(privateKeyToPem(privateKey), undefined, 'signer.key'), {
      code: 'ERR_IDENTITY_INVALID',
      message: 'signer.key: expected an Ed25519 or ML-DSA-65 key, found ec',
    })
  })

  it('have one name only: the spare bits of the encoding do not make another', async () => {
    const { key } = await generateSigner()
    const other = await generateSigner()
    assert.ok(key.kty === 'OKP')
    assert.equal(isSignerKey((await generateSigner('ml-dsa-65')).key), true)
    assert.equal(isSignerKey({ ...key, kid: other.key.kid }), false)
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const last = alphabet.indexOf(key.x.slice(-1))
    const x = key.x.slice(0, -1) + alphabet[last + 1]
    assert.deepEqual(Buffer.from(x, 'base64url'), Buffer.from(key.x, 'base64url'))
    const kid = await calculateJwkThumbprint({ ...key, x }, 'sha256')
    assert.equal(isSignerKey({ ...key, x, kid }), false)
  })

  it('of ML-DSA are refused with what is missing, on a Node without it', async () => {
    assert.deepEqual([whatLacks('OKP'), whatLacks('AKP')], [null, null])
    const { supports } = SubtleCrypto
    Object.defineProperty(SubtleCrypto, 'supports', { value: undefined, configurable: true })
    try {
      await assert.rejects(generateSigner('ml-dsa-65'), {
        code: 'ERR_CONFIG_INVALID',
        message: /ML-DSA-65 needs Node 24\.7 or newer, this is \d+/,
      })
      assert.equal(whatLacks('OKP'), null)
    } finally {
      Object.defineProperty(SubtleCrypto, 'supports', { value: supports, configurable: true })
    }
  })
})
