import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { RotorError } from '../../../src/errors.ts'
import { checkMaterial, type IdentityMaterial, parseMaterial } from '../../../src/identity/material.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem } from '../../../src/trust/keys.ts'
import { HOUR, makeAuthority, makeMaterial, NOW } from './kit.ts'

describe('identity material', () => {
  let good: IdentityMaterial
  let other: IdentityMaterial
  let nameless: IdentityMaterial

  before(async () => {
    const authority = await makeAuthority()
    good = await makeMaterial(authority)
    nameless = await makeMaterial(authority, { dns: [], ip: [], uri: [] })
    other = await makeMaterial(await makeAuthority(8))
  })

  const refused = (material: IdentityMaterial, message: RegExp, now = NOW, skew = 0) =>
    assert.throws(
      () => checkMaterial(material, now, { skew }),
      (error) => RotorError.is(error) && error.code === 'ERR_IDENTITY_INVALID' && message.test(error.message),
    )

  test('a whole set passes and tells leaf, chain, issuer and trust', () => {
    const { leaf, chain, trusted, issuer } = checkMaterial(good, NOW)
    assert.deepEqual(leaf.names.dns, ['orders.test'])
    assert.equal(chain.length, 2)
    assert.equal(chain[0], leaf)
    assert.equal(issuer.sha256, trusted[0]?.sha256)
  })

  test('the issuer is found in the trust file when the chain is only the leaf', () => {
    const leafOnly = parseMaterial(good).leaf.pem
    const { issuer, trusted } = checkMaterial({ ...good, certificate: leafOnly }, NOW)
    assert.equal(issuer.sha256, trusted[0]?.sha256)
  })

  test('a key of another certificate is refused, naming both files', () => {
    refused({ ...good, key: other.key }, /tls\.key and tls\.crt/)
  })

  test('a leaf that the trust file does not lead to is refused, naming both files', () => {
    refused({ ...good, ca: other.ca }, /tls\.crt against ca\.pem/)
  })

  test('a leaf without names is refused', () => {
    refused(nameless, /tls\.crt: expected a DNS name/)
  })

  test('a leaf outside its dates is refused, and allowed within the clock skew', () => {
    refused(good, /ended/, NOW + 13 * HOUR)
    refused(good, /valid from/, NOW - 2 * HOUR)
    checkMaterial(good, NOW - HOUR - 1000, { skew: 2000 })
  })

  test('parts that are no PEM, or half of it, are refused, naming the file and no content', () => {
    refused({ ...good, key: '' }, /tls\.key/)
    refused({ ...good, key: good.key.slice(0, 80) }, /tls\.key/)
    refused({ ...good, certificate: 'nonsense' }, /tls\.crt/)
    refused({ ...good, certificate: good.certificate.slice(0, -40) }, /tls\.crt/)
    refused({ ...good, ca: '' }, /ca\.pem/)
    refused({ ...good, ca: good.key }, /ca\.pem/)
  })

  test('an encrypted key is refused: a server could not load it by itself', async () => {
    const encrypted = privateKeyToPem(privateKeyFromPem(good.key), 'secret')
    refused({ ...good, key: encrypted }, /tls\.key/)
  })

  test('no message contains a part of the key', async () => {
    const { privateKey } = await generateKeyPair()
    const key = privateKeyToPem(privateKey)
    const line = key.split('\n')[1] ?? assert.fail('a key has lines')
    for (const bad of [
      { ...good, key },
      { ...good, certificate: key },
      { ...good, ca: key },
    ]) {
      assert.throws(
        () => checkMaterial(bad, NOW),
        (error) => error instanceof Error && !error.message.includes(line.slice(0, 20)),
      )
    }
  })

  test('the set is still readable after its end, only not valid', () => {
    assert.equal(parseMaterial(good).leaf.sha256, checkMaterial(good, NOW).leaf.sha256)
    refused(good, /ended/, NOW + 100 * HOUR)
  })
})
