import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  attemptOf,
  attemptOfKey,
  commonName,
  issuerName,
  keyName,
  madeAt,
  newAttempt,
} from '../../../../issuer/authority/vault/names.ts'
import { makeTestDomain } from '../../../support/test-domain.ts'

const domains = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/)
const epochs = fc.integer({ min: -1000, max: 2 ** 40 })

test('a key is told by its name, with the epoch it is for and the second it was made in', () => {
  fc.assert(
    fc.property(domains, epochs, fc.integer({ min: 0, max: 4e12 }), (domain, epoch, now) => {
      const attempt = newAttempt(epoch, now)
      assert.deepEqual(attemptOfKey(domain, keyName(domain, attempt)), attempt)
      assert.equal(madeAt(attempt), Math.floor(now / 1000) * 1000)
    }),
  )
})

test('no domain takes the key of another, and no issuer has the name of another epoch or domain', () => {
  fc.assert(
    fc.property(domains, domains, epochs, epochs, (a, b, epoch, other) => {
      fc.pre(a !== b)
      const attempt = newAttempt(epoch, 0)
      assert.equal(attemptOfKey(a, keyName(b, attempt)), null)
      // also when one domain is the other with something like an epoch behind it
      assert.equal(attemptOfKey(a, keyName(`${a}-${Math.abs(other)}`, attempt)), null)
      assert.notEqual(issuerName(a, epoch), issuerName(b, epoch))
      if (epoch !== other) assert.notEqual(issuerName(a, epoch), issuerName(a, other))
    }),
  )
})

test('two tries in the same second have different names', () => {
  const names = Array.from({ length: 100 }, () => keyName('test', newAttempt(7, 1_700_000_000_000)))
  assert.equal(new Set(names).size, 100)
})

test('a name that is not exactly ours is of somebody else', () => {
  const attempt = newAttempt(7, 1_700_000_000_000)
  const ours = keyName('test', attempt)
  for (const name of [
    '',
    'rotor-test-7',
    `${ours}0`,
    ours.toUpperCase(),
    ours.replace('-7-', '-07-'),
    `x${ours}`,
  ])
    assert.equal(attemptOfKey('test', name), null, name)
})

test('a common name has at most 64 characters, and its end is whole', () => {
  const name = commonName('x'.repeat(63), newAttempt(2 ** 40, 1_700_000_000_000))
  assert.equal(name.length, 64)
  assert.match(name, /^x+ authority epoch 1099511627776 [0-9a-f]{16}$/)
})

test('a certificate of the embedded authority is none of the engine', async () => {
  const domain = await makeTestDomain()
  assert.equal(attemptOf('test', domain.authority().certificate), null)
})
