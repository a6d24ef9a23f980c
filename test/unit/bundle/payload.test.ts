import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { before, describe, it } from 'node:test'
import { caFile, encodePayload, payloadDigest, trustedCertificates } from '../../../src/bundle/payload.ts'
import { parseCertificates } from '../../../src/trust/certificate.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'

const now = Date.UTC(2026, 10, 22, 12)

/** The same value with the keys of every object in reverse order. */
function reversed<T>(value: T): T {
  if (Array.isArray(value)) return value.map(reversed) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, one]) => [key, reversed(one)]),
  ) as T
}

describe('bundle payload', () => {
  let domain: TestDomain
  before(async () => {
    domain = await makeTestDomain({ now, epochs: [83116, 83117, 83118, 83119] })
  })

  it('is the same text whatever the order of keys was, in the order of the schema', () => {
    const payload = domain.payload()
    const text = encodePayload(payload)
    assert.equal(encodePayload(reversed(payload)), text)
    assert.deepEqual(JSON.parse(text), payload)
    assert.deepEqual(Object.keys(JSON.parse(text)), [
      'v',
      'domain',
      'version',
      'epoch',
      'issuedAt',
      'expiresAt',
      'previous',
      'reason',
      'authorities',
      'roots',
      'signers',
      'schedule',
    ])
    assert.match(
      text,
      /"authorities":\[\{"epoch":\d+,"status":"retiring","certificate":"[^"]*","sha256":"[0-9a-f]{64}"\}/,
    )
    assert.match(text, /"signers":\[\{"kty":"OKP","crv":"Ed25519","x":"[\w-]{43}","kid":"[\w-]{43}"\}\]/)
  })

  it('refuses to write what does not fit the schema, naming every problem', () => {
    const bad: BundlePayload = { ...domain.payload(), version: 0, reason: 'x'.repeat(1001), authorities: [] }
    assert.throws(() => encodePayload(bad), {
      code: 'ERR_BUNDLE_MALFORMED',
      message: /version: .*reason: .*authorities: /,
    })
  })

  it('has the SHA-256 of its UTF-8 bytes as digest', () => {
    const text = encodePayload(domain.payload({ reason: 'Zoë wollte es' }))
    assert.equal(payloadDigest(text), createHash('sha256').update(Buffer.from(text, 'utf8')).digest('hex'))
    assert.equal(payloadDigest(Buffer.from(text, 'utf8')), payloadDigest(text))
  })

  it('makes a trust file of all authorities, newest first, that a status alone does not change', () => {
    const payload = domain.payload()
    const file = caFile(payload)
    const expected = domain.authorities.map(({ certificate }) => certificate.sha256).reverse()
    assert.deepEqual(
      parseCertificates(file, 'ca.pem').map(({ sha256 }) => sha256),
      expected,
    )
    assert.equal(trustedCertificates(payload).join(''), file)

    const tainted = payload.authorities
      .map((authority) => ({ ...authority, status: 'tainted' as const }))
      .reverse()
    assert.equal(caFile({ ...payload, authorities: tainted }), file)
    const wrapped = payload.authorities.map((one) => ({
      ...one,
      certificate: one.certificate.replaceAll('\n', '\r\n'),
    }))
    assert.equal(caFile({ ...payload, authorities: wrapped }), file)
  })

  it('makes a trust file of the roots when they are the anchors', () => {
    assert.equal(caFile(domain.payload(), 'root'), domain.root.certificate.pem)
  })
})
