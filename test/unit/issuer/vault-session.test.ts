/** When is something due for a token of OpenBao? */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { dueFor } from '../../../issuer/authority/vault/session.ts'

const HOUR = 3_600_000
const held = { since: 1_000, ttl: HOUR, firstTtl: HOUR, renewable: true }

describe('a token', () => {
  test('is renewed between half and two thirds of its life, always then for the same name', () => {
    const names = ['issuer-1', 'issuer-2', 'issuer-3']
    const times = names.map((name) => dueFor(held, name)?.at ?? 0)
    for (const at of times) assert.ok(at >= 1_000 + HOUR / 2 && at < 1_000 + (HOUR * 2) / 3)
    assert.equal(new Set(times).size, 3)
    assert.deepEqual(
      names.map((name) => dueFor(held, name)?.at),
      times,
    )
    assert.equal(dueFor(held, 'issuer-1')?.step, 'renew')
  })

  test('that can not be renewed is followed by a new login in time', () => {
    assert.equal(dueFor({ ...held, renewable: false }, 'issuer')?.step, 'login')
  })

  test('that a renewal could not make last is followed by a new login: its end has come near', () => {
    assert.equal(dueFor({ ...held, ttl: HOUR / 2 - 1 }, 'issuer')?.step, 'login')
    assert.equal(dueFor({ ...held, ttl: HOUR / 2 }, 'issuer')?.step, 'renew')
  })

  test('without an end needs nothing', () => {
    assert.equal(dueFor({ ...held, ttl: Number.POSITIVE_INFINITY }, 'issuer'), null)
  })
})
