import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leafFor } from '../../../issuer/signing/policy.ts'
import { agentEntry } from '../../../src/domain/agents.ts'
import { makeSchedule, renewAt } from '../../../src/schedule.ts'
import { makeCsr, parseCsr } from '../../../src/trust/csr.ts'
import { generateKeyPair, KEY_ALGORITHMS, type KeyAlgorithm } from '../../../src/trust/keys.ts'

const ID = 'spiffe://prod/orders'
const NOW = Date.UTC(2026, 0, 1)
const schedule = makeSchedule({ epochDuration: 6 * 3_600_000 })
const entry = (more: object = {}) =>
  agentEntry.parse({
    name: 'orders',
    role: 'service',
    names: { dns: ['orders.internal'], ip: ['10.0.0.7'], uri: ['urn:orders'] },
    ...more,
  })

async function ask(names: { dns?: string[]; ip?: string[]; uri?: string[] }, kind: KeyAlgorithm = 'P-256') {
  return parseCsr(await makeCsr(await generateKeyPair(kind), { subject: 'whoever', ...names }))
}

test('whatever is asked for, the leaf has the names, usages and life of the entry', async () => {
  for (const names of [{}, { dns: ['orders.internal'] }, { uri: [ID, 'urn:orders'], ip: ['10.0.0.7'] }]) {
    const { csr: _, ...leaf } = leafFor(
      await ask(names),
      entry({ usages: ['clientAuth'] }),
      ID,
      schedule,
      NOW,
    )
    assert.deepEqual(leaf, {
      commonName: 'orders',
      names: { dns: ['orders.internal'], ip: ['10.0.0.7'], uri: [ID, 'urn:orders'] },
      usages: ['clientAuth'],
      notBefore: NOW - schedule.lead,
      notAfter: NOW + 12 * 3_600_000,
    })
  }
})

test('names outside the entry are refused', async () => {
  for (const names of [
    { dns: ['other.internal'] },
    { ip: ['10.0.0.8'] },
    { uri: ['spiffe://prod/issuer'] },
    { uri: [ID, 'urn:other'] },
  ]) {
    const csr = await ask(names)
    assert.throws(() => leafFor(csr, entry(), ID, schedule, NOW), { code: 'ERR_SIGN_REFUSED' })
  }
})

test('a key of a kind that the entry does not allow is refused', async () => {
  const requests = await Promise.all(KEY_ALGORITHMS.map((kind) => ask({}, kind)))
  for (const [i, csr] of requests.entries()) {
    for (const [j, allowed] of KEY_ALGORITHMS.entries()) {
      const sign = () => leafFor(csr, entry({ keys: [allowed] }), ID, schedule, NOW)
      if (i === j) assert.equal(sign().csr, csr)
      else assert.throws(sign, { code: 'ERR_SIGN_REFUSED', message: new RegExp(`expected a ${allowed} key`) })
    }
    assert.equal(leafFor(csr, entry(), ID, schedule, NOW).csr, csr)
  }
})

test('a short life is cut, and is not due for renewal when it begins', async () => {
  for (const lifetime of ['10s', '1m', '10m', '11h', '30d']) {
    const leaf = leafFor(await ask({}), entry({ lifetime }), ID, schedule, NOW)
    assert.ok(leaf.notAfter <= NOW + 12 * 3_600_000, lifetime)
    assert.ok(renewAt(leaf.notBefore, leaf.notAfter) >= NOW + (leaf.notAfter - NOW) / 2, lifetime)
  }
})
