import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import type { HeldIssuer, HeldKey } from '../../../../issuer/authority/vault/inventory.ts'
import { newAttempt } from '../../../../issuer/authority/vault/names.ts'
import { mending } from '../../../../issuer/authority/vault/tidy.ts'
import type { Certificate } from '../../../../src/trust/certificate.ts'
import { makeTestDomain } from '../../../support/test-domain.ts'

const HOUR = 3_600_000
const now = 1_800_000_000_000
const margin = 60_000
const FRESH = now - 1000
const OLD = now - 2 * margin

let certificate: Certificate
before(async () => {
  certificate = (await makeTestDomain()).authority().certificate
})

/** Key and issuer of one try, as the engine holds them. */
function made(epoch: number, at: number, { isNamed = false, hasKey = true, notAfter = now + HOUR } = {}) {
  const attempt = newAttempt(epoch, at)
  const key: HeldKey = { ...attempt, id: `key-${attempt.suffix}` }
  const issuer: HeldIssuer = {
    ...attempt,
    id: `issuer-${attempt.suffix}`,
    isNamed,
    keyId: hasKey ? key.id : null,
    certificate: { ...certificate, notAfter },
  }
  return { issuer, key }
}

const NOTHING = { name: [], removeIssuers: [], removeKeys: [] }
const mend = (issuers: HeldIssuer[], keys: HeldKey[], ours: readonly string[] = []) =>
  mending({ issuers, keys }, { now, margin, ours: new Set(ours) })

test('an authority is never touched, however old, and while a domain is whole there is nothing to do', () => {
  const a = made(1, OLD - HOUR, { isNamed: true })
  const ended = made(2, OLD, { isNamed: true, notAfter: OLD })
  assert.deepEqual(mend([a.issuer, ended.issuer], [a.key, ended.key]), NOTHING)
})

test('what somebody else may be working on is left alone until it is old', () => {
  const half = made(1, FRESH)
  const key = made(2, FRESH).key
  assert.deepEqual(mend([half.issuer], [half.key, key]), NOTHING)
})

test('a half made authority becomes a whole one, once nobody works on it; of several, one', () => {
  for (const [at, ours] of [
    [OLD, []],
    [FRESH, ['ours']],
  ] as const) {
    const [first, second] = [made(1, at), made(1, at)]
    const known = ours.length === 0 ? [] : [first.issuer.suffix, second.issuer.suffix]
    const first_ = mend([first.issuer, second.issuer], [first.key, second.key], known)
    assert.deepEqual(first_, {
      ...NOTHING,
      name: [first.issuer],
      removeIssuers: [second.issuer],
      removeKeys: [second.key],
    })
  }
})

test('who came second goes with its key, however fresh: the epoch has its authority', () => {
  const winner = made(1, OLD, { isNamed: true })
  const loser = made(1, FRESH)
  assert.deepEqual(mend([winner.issuer, loser.issuer], [winner.key, loser.key]), {
    ...NOTHING,
    removeIssuers: [loser.issuer],
    removeKeys: [loser.key],
  })
})

test('a key without an issuer goes, ours at once and another when it is old', () => {
  const [ours, old, fresh] = [made(1, FRESH).key, made(2, OLD).key, made(3, FRESH).key]
  const { removeKeys } = mend([], [ours, old, fresh], [ours.suffix])
  assert.deepEqual(removeKeys, [ours, old])
})

test('an issuer that lost its key keeps its name until it has ended: nobody takes that name meanwhile', () => {
  const lost = made(1, OLD, { isNamed: true, hasKey: false })
  assert.deepEqual(mend([lost.issuer], []), NOTHING)
  const ended = made(1, OLD - HOUR, { isNamed: true, hasKey: false, notAfter: OLD })
  assert.deepEqual(mend([ended.issuer], []), { ...NOTHING, removeIssuers: [ended.issuer] })
})

test('what can never be an authority goes: half made and ended, or half made without a key', () => {
  const ended = made(1, OLD - HOUR, { notAfter: OLD })
  const keyless = made(2, OLD, { hasKey: false })
  assert.deepEqual(mend([ended.issuer, keyless.issuer], [ended.key]), {
    name: [],
    removeIssuers: [ended.issuer, keyless.issuer],
    removeKeys: [ended.key],
  })
})
