import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync, sign } from 'node:crypto'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { compactVerify } from 'jose'
import { RotorError } from '../../../src/errors.ts'
import type { Certificate } from '../../../src/trust/certificate.ts'
import { KEY_ALGORITHMS } from '../../../src/trust/keys.ts'
import { openProof, proveClaims } from '../../../src/trust/proof.ts'
import type { SignClaims } from '../../../src/wire/requests.ts'
import { makeTestDomain, type TestDomain, type TestLeaf } from '../../support/test-domain.ts'

const b64 = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

const claims: SignClaims = {
  v: 1,
  domain: 'test',
  agent: 'agent',
  csr: 'any text',
  epoch: 7,
  at: '2026-11-22T12:00:00.000Z',
}

describe('proofs of possession', () => {
  let domain: TestDomain
  let leaf: TestLeaf
  let anchors: Certificate[]
  before(async () => {
    domain = await makeTestDomain()
    leaf = await domain.leaf()
    anchors = [domain.authority().certificate]
  })

  const open = (proof: string) => openProof(Buffer.from(proof), anchors, domain.now, 0)

  /** A proof with any header and payload, signed with the key of the leaf in the way of ES256. */
  function craftProof(
    header: Record<string, unknown>,
    payload: unknown = claims,
    key = leaf.privateKey,
  ): string {
    const x5c = leaf.chain.map(({ der }) => Buffer.from(der).toString('base64'))
    const text = `${b64({ alg: 'ES256', typ: 'rotor-sign+jws', x5c, ...header })}.${b64(payload)}`
    const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
    return `${text}.${signature.toString('base64url')}`
  }

  for (const algorithm of KEY_ALGORITHMS) {
    it(`${algorithm}: opens what it made, and jose verifies it`, async () => {
      const own = await domain.leaf({ algorithm })
      const proof = await proveClaims(claims, own.privateKey, own.chain)
      const opened = await open(proof)
      assert.deepEqual(opened.claims, claims)
      assert.equal(opened.leaf.sha256, own.certificate.sha256)
      const { payload } = await compactVerify(proof, own.keyPair.publicKey)
      assert.deepEqual(JSON.parse(Buffer.from(payload).toString()), claims)
    })
  }

  it('opens its own hand-made form, so the refusals below have one reason each', async () => {
    assert.deepEqual((await open(craftProof({}))).claims, claims)
  })

  it('refuses another algorithm than that of the key, with whatever it was signed', async () => {
    for (const alg of ['none', 'HS256', 'ES384', 'EdDSA', 'PS256', 'RS256', '', 'toString']) {
      await assert.rejects(open(craftProof({ alg })), { code: 'ERR_SIGN_PROOF' }, alg)
    }
    // the public key as the secret of an HMAC
    const [head = '', body = ''] = craftProof({ alg: 'HS256' }).split('.')
    const secret = leaf.keyPair.publicKey.export({ type: 'spki', format: 'pem' })
    const mac = createHmac('sha256', secret).update(`${head}.${body}`).digest('base64url')
    await assert.rejects(open(`${head}.${body}.${mac}`), { code: 'ERR_SIGN_PROOF' })
    await assert.rejects(open(`${head}.${body}.`), { code: 'ERR_SIGN_PROOF' })
  })

  it('refuses a header with anything beyond its three members', async () => {
    const more = [{ crit: ['b64'], b64: false }, { b64: true }, { jwk: {} }, { kid: 'x' }, { zip: 'DEF' }]
    const wrong = [{ typ: 'JWT' }, { typ: undefined }, { x5c: [] }, { x5c: 'x' }, { x5c: Array(5).fill('') }]
    for (const header of [...more, ...wrong, { x5c: ['!'] }, { x5c: [1] }]) {
      await assert.rejects(open(craftProof(header)), { code: 'ERR_SIGN_MALFORMED' }, JSON.stringify(header))
    }
  })

  it('refuses every other form', async () => {
    const good = craftProof({})
    const [head = '', body = '', signature = ''] = good.split('.')
    for (const text of [
      '',
      '.',
      '..',
      'text',
      `${head}.${body}`,
      `${good}.`,
      `${good}.${signature}`,
      ` ${good}`,
      `${good}\n`,
      `${head}=.${body}.${signature}`,
      `${head}.${body}.${signature}=`,
      JSON.stringify({ protected: head, payload: body, signature }),
      `${b64('[]')}.${body}.${signature}`,
      `${b64('{')}.${body}.${signature}`,
    ]) {
      await assert.rejects(open(text), { code: 'ERR_SIGN_MALFORMED' }, text.slice(0, 40))
    }
    await assert.rejects(open('x'.repeat(300_000)), { code: 'ERR_SIGN_MALFORMED' })
    await assert.rejects(open(craftProof({}, { ...claims, v: 2 })), { code: 'ERR_SIGN_MALFORMED' })
  })

  it('refuses a signature by another key, over other bytes, or of another size', async () => {
    const other = await domain.leaf()
    const [head = '', body = '', signature = ''] = craftProof({}).split('.')
    const long = Buffer.concat([Buffer.from(signature, 'base64url'), Buffer.of(0)]).toString('base64url')
    const asDer = sign('sha256', Buffer.from(`${head}.${body}`), leaf.privateKey).toString('base64url')
    for (const text of [
      craftProof({}, claims, other.privateKey),
      `${head}.${b64({ ...claims, agent: 'other' })}.${signature}`,
      `${head}.${body}.${long}`,
      `${head}.${body}.${signature.slice(0, 40)}`,
      `${head}.${body}.${asDer}`,
      `${head}.${body}.${b64('\0'.repeat(64))}`,
    ]) {
      await assert.rejects(open(text), { code: 'ERR_SIGN_PROOF' })
    }
  })

  it('refuses a leaf of another authority, a leaf that has ended, and a key of a kind that proves nothing', async () => {
    const elsewhere = await (await makeTestDomain()).leaf()
    const stolen = await proveClaims(claims, elsewhere.privateKey, elsewhere.chain)
    await assert.rejects(open(stolen), { code: 'ERR_SIGN_PROOF', message: /not valid under/ })
    const proof = await proveClaims(claims, leaf.privateKey, leaf.chain)
    const later = leaf.certificate.notAfter + 1000
    await assert.rejects(openProof(Buffer.from(proof), anchors, later, 0), { code: 'ERR_SIGN_PROOF' })
    const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' })
    await assert.rejects(proveClaims(claims, p521.privateKey, []), TypeError)
  })

  it('never throws anything but a RotorError for damaged proofs', async () => {
    const good = await proveClaims(claims, leaf.privateKey, leaf.chain)
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), async (at, byte) => {
        const damaged = Buffer.from(good)
        if (damaged[at] === byte) return
        damaged[at] = byte
        await assert.rejects(openProof(damaged, anchors, domain.now, 0), (error) => RotorError.is(error))
      }),
      { numRuns: 300 },
    )
  })
})
