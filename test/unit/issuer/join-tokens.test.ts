import assert from 'node:assert/strict'
import { test } from 'node:test'
import { problemOf, problemOfKey, stateOf } from '../../../issuer/join/tokens.ts'
import {
  decodeToken,
  encodeToken,
  type JoinToken,
  newTokenSecret,
  secretSha256,
} from '../../../src/enrolment/token.ts'
import type { TokenRecord } from '../../../src/wire/enrolment.ts'

const { id, secret } = newTokenSecret()
const hash = secretSha256(secret)
const record: TokenRecord = {
  v: 1,
  id,
  agent: 'orders',
  secretSha256: hash,
  createdAt: 0,
  expiresAt: 1000,
  by: 'test',
  redeemed: null,
  revoked: null,
}
const redeemed = { ...record, redeemed: { at: 1, spkiSha256: 'a'.repeat(64) } }
const revoked = { ...record, revoked: { at: 1, by: 'test', reason: 'lost' } }

test('a secret opens its own record until it ends or is revoked, and nothing else', () => {
  assert.equal(problemOf(record, hash, 999), null)
  assert.equal(problemOf(redeemed, hash, 999), null)
  const wrong = secretSha256(newTokenSecret().secret)
  for (const [stored, given, now] of [
    [null, hash, 0],
    [null, '0'.repeat(64), 0],
    [record, wrong, 0],
    [revoked, hash, 0],
    [record, hash, 1000],
  ] as const) {
    assert.notEqual(problemOf(stored, given, now), null)
  }
})

test('a redeemed token answers the key it was redeemed for, and no other', () => {
  assert.equal(problemOfKey(record, 'b'.repeat(64)), null)
  assert.equal(problemOfKey(redeemed, 'a'.repeat(64)), null)
  assert.match(problemOfKey(redeemed, 'b'.repeat(64)) ?? '', /redeemed before/)
})

test('the list tells open, redeemed, expired and revoked apart', () => {
  const states = [record, redeemed, revoked].map((each) => stateOf(each, 0))
  assert.deepEqual([...states, stateOf(record, 1000)], ['open', 'redeemed', 'revoked', 'expired'])
})

const token: JoinToken = {
  domain: 'prod',
  agent: 'orders',
  addresses: ['rotor.example:9443', '[::1]:9443'],
  endpoint: 'c'.repeat(64),
  signers: ['D'.repeat(43)],
  key: 'P-256',
  id,
  secret,
}

test('a token is one url-safe line with at least 128 random bits, and comes back as it was', () => {
  const line = encodeToken(token)
  assert.match(line, /^rotor1\.[A-Za-z0-9_-]+$/)
  assert.deepEqual(decodeToken(`  ${line}\n`), token)
  assert.equal(Buffer.from(secret, 'base64url').length, 32)
  assert.notEqual(newTokenSecret().secret, secret)
})

test('anything else is refused with ERR_JOIN_TOKEN, and no message quotes what was read', () => {
  const line = encodeToken(token)
  const encoded = (value: unknown) => `rotor1.${Buffer.from(JSON.stringify(value)).toString('base64url')}`
  const { agent: _, ...without } = token
  for (const bad of [
    '',
    'hello',
    `rotor2.${line.slice(7)}`,
    line.slice(0, -10),
    `${line.slice(0, 40)}\n${line.slice(40)}`,
    `rotor1.${'A'.repeat(9000)}`,
    encoded(without),
    encoded({ ...token, extra: 1 }),
    encoded({ ...token, addresses: [] }),
    encoded({ ...token, addresses: ['https://user@host:1'] }),
    encoded({ ...token, secret: 'short' }),
    encoded({ ...token, agent: '../x' }),
  ]) {
    assert.throws(
      () => decodeToken(bad),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ERR_JOIN_TOKEN')
        assert.ok(!`${error.message} ${String(error.cause)}`.includes(secret))
        assert.equal(error.cause, undefined)
        return true
      },
    )
  }
})
