import assert from 'node:assert/strict'
import { sign } from 'node:crypto'
import { before, describe, it } from 'node:test'
import { generalVerify, importJWK } from 'jose'
import { generateSigner, openEnvelope, type Signer, signBundle } from '../../../src/bundle/envelope.ts'
import { MAX_BUNDLE_BYTES } from '../../../src/wire/bundle.ts'

const TEXT = '{"v":1,"reason":"Zoë"}'
const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))
const b64 = (value: string | Uint8Array): string => Buffer.from(value).toString('base64url')

/** An envelope with any protected header, properly signed. */
function craft(
  signer: Signer,
  header: Record<string, unknown>,
  payload = TEXT,
): { payload: string; signatures: { protected: string; signature: string }[] } {
  const head = b64(JSON.stringify({ alg: 'EdDSA', kid: signer.key.kid, typ: 'rotor-bundle+json', ...header }))
  const signature = b64(sign(null, Buffer.from(`${head}.${b64(payload)}`), signer.privateKey))
  return { payload: b64(payload), signatures: [{ protected: head, signature }] }
}

describe('bundle envelope', () => {
  let signer: Signer
  let other: Signer
  before(async () => {
    signer = await generateSigner()
    other = await generateSigner()
  })

  it('carries the exact bytes and says who signed them', async () => {
    const envelope = openEnvelope(await signBundle(TEXT, [signer]))
    assert.equal(Buffer.from(envelope.payload).toString('utf8'), TEXT)
    assert.equal(await envelope.verify(signer.key), true)
    assert.equal(await envelope.verify(other.key), false)
  })

  it('is a JWS that jose verifies', async () => {
    const jws = JSON.parse(Buffer.from(await signBundle(TEXT, [signer, other])).toString('utf8'))
    for (const { key } of [signer, other]) {
      const verified = await generalVerify(jws, await importJWK(key, 'EdDSA'))
      assert.equal(Buffer.from(verified.payload).toString('utf8'), TEXT)
    }
    const [first] = jws.signatures
    const header = JSON.parse(Buffer.from(first.protected, 'base64url').toString('utf8'))
    assert.deepEqual(Object.keys(header).sort(), ['alg', 'kid', 'typ'])
    assert.deepEqual([header.alg, header.typ], ['EdDSA', 'rotor-bundle+json'])
  })

  it('carries signatures of ML-DSA-65 too, beside others or alone, and jose verifies them', async () => {
    const quantum = await generateSigner('ml-dsa-65')
    const bytes = await signBundle(TEXT, [signer, quantum])
    const envelope = openEnvelope(bytes)
    for (const { key } of [signer, quantum]) assert.equal(await envelope.verify(key), true)
    assert.equal(await envelope.verify((await generateSigner('ml-dsa-65')).key), false)
    const jws = JSON.parse(Buffer.from(bytes).toString('utf8'))
    const verified = await generalVerify(jws, await importJWK(quantum.key, 'ML-DSA-65'))
    assert.equal(Buffer.from(verified.payload).toString('utf8'), TEXT)
    // no key of one kind is taken for one of the other
    for (const one of jws.signatures) {
      const { kid, alg } = JSON.parse(Buffer.from(one.protected, 'base64url').toString('utf8'))
      const [mine, others] = alg === 'EdDSA' ? [signer.key, quantum.key] : [quantum.key, signer.key]
      const alone = openEnvelope(json({ ...jws, signatures: [one] }))
      assert.equal(await alone.verify(mine), true)
      assert.equal(await alone.verify({ ...others, kid }), false)
    }
  })

  it('stays far below its limit with a signature of ML-DSA-65 by every signer there may be', async () => {
    const signers = await Promise.all(Array.from({ length: 16 }, () => generateSigner('ml-dsa-65')))
    const payload = JSON.stringify(signers.map(({ key }) => key))
    const bytes = await signBundle(payload, signers)
    assert.ok(bytes.length < MAX_BUNDLE_BYTES / 1.5, `${bytes.length} bytes`)
    assert.equal(await openEnvelope(bytes).verify(signers[15]?.key ?? assert.fail()), true)
  })

  it('is the same bytes for the same text and signers, in any order', async () => {
    const once = await signBundle(TEXT, [signer, other])
    assert.deepEqual(await signBundle(TEXT, [other, signer]), once)
    assert.deepEqual(await signBundle(TEXT, [other, signer, other]), once)
  })

  it('needs a signer, and does not make what no agent takes', async () => {
    await assert.rejects(signBundle(TEXT, []), TypeError)
    await assert.rejects(signBundle('x'.repeat(MAX_BUNDLE_BYTES), [signer]), { code: 'ERR_BUNDLE_TOO_LARGE' })
  })

  it('refuses more than 256 KiB before it looks inside', () => {
    assert.throws(() => openEnvelope(new Uint8Array(MAX_BUNDLE_BYTES + 1)), { code: 'ERR_BUNDLE_TOO_LARGE' })
    assert.throws(() => openEnvelope(new Uint8Array(MAX_BUNDLE_BYTES)), { code: 'ERR_BUNDLE_MALFORMED' })
  })

  it('accepts its own hand-made form, so the refusals below have one reason each', async () => {
    assert.equal(await openEnvelope(json(craft(signer, {}))).verify(signer.key), true)
  })

  it('refuses other algorithms, types and header members, although they are signed', () => {
    const headers: Record<string, unknown>[] = [
      { alg: 'none' },
      { alg: 'HS256' },
      { alg: 'ES256' },
      { alg: 'Ed25519' },
      { typ: 'JWT' },
      { typ: undefined },
      { kid: undefined },
      { kid: 'x' },
      { crit: ['b64'], b64: false },
      { b64: true },
      { jwk: signer.key },
      { x5c: [] },
    ]
    for (const header of headers) {
      assert.throws(
        () => openEnvelope(json(craft(signer, header))),
        { code: 'ERR_BUNDLE_MALFORMED' },
        JSON.stringify(header),
      )
    }
  })

  it('refuses every other shape', () => {
    const good = craft(signer, {})
    const [one] = good.signatures
    const shapes: unknown[] = [
      null,
      [],
      'text',
      {},
      { ...good, signatures: [] },
      { ...good, signatures: [one, one] },
      { ...good, signatures: Array.from({ length: 33 }, () => one) },
      { ...good, signatures: [{ ...one, header: { kid: 'x' } }] },
      { ...good, header: {} },
      { ...good, extra: 1 },
      { ...good, payload: '' },
      { ...good, payload: `${good.payload}=` },
      { ...good, payload: `${good.payload} ` },
      { ...good, payload: good.payload.replace(/.$/, '/') },
      { ...good, signatures: [{ ...one, signature: 'AAAA' }] },
      { ...good, signatures: [{ ...one, protected: b64('[]') }] },
      { ...good, signatures: [{ ...one, protected: b64('{') }] },
      { payload: good.payload, ...one },
    ]
    for (const shape of shapes) {
      assert.throws(() => openEnvelope(json(shape)), { code: 'ERR_BUNDLE_MALFORMED' }, JSON.stringify(shape))
    }
    assert.throws(() => openEnvelope(Buffer.from([0xff, 0xfe, 0x7b])), { code: 'ERR_BUNDLE_MALFORMED' })
  })

  it('does not verify a changed payload, a borrowed signature, or a key under a foreign name', async () => {
    const good = craft(signer, {})
    const changed = { ...good, payload: b64(`${TEXT} `) }
    assert.equal(await openEnvelope(json(changed)).verify(signer.key), false)
    const borrowed = craft(other, { kid: signer.key.kid })
    assert.equal(await openEnvelope(json(borrowed)).verify(signer.key), false)
    assert.equal(await openEnvelope(json(borrowed)).verify({ ...other.key, kid: signer.key.kid }), false)
  })

  it('does not verify with a key that is no point of the curve', async () => {
    const { calculateJwkThumbprint } = await import('jose')
    for (const fill of [0, 2, 255]) {
      const x = b64(Buffer.alloc(32, fill))
      const key = { kty: 'OKP', crv: 'Ed25519', x } as const
      const kid = await calculateJwkThumbprint(key, 'sha256')
      const forged = craft(signer, { kid })
      assert.equal(await openEnvelope(json(forged)).verify({ ...key, kid }), false)
    }
  })
})
