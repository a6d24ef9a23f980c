import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { agentEntry, entryFor, problemsOfEntries } from '../../../src/domain/agents.ts'
import { membersOf } from '../../../src/domain/members.ts'
import type { MemberRecord } from '../../../src/wire/enrolment.ts'

const entries = (...given: object[]) =>
  [{ name: 'issuer', role: 'issuer' }, ...given].map((each) => agentEntry.parse({ role: 'service', ...each }))
const problems = (...given: object[]) => problemsOfEntries(entries(...given), 'issuer')
const server = { name: 'nats-1', role: 'server', listeners: [{ kind: 'client', address: 'a:1' }] }

describe('entries of agents', () => {
  test('the entry with the whole name counts before a pattern, and {name} becomes the name', () => {
    const given = entries(
      { name: 'orders-*', names: { dns: ['{name}.internal'], uri: ['urn:orders:{name}'] } },
      { name: 'orders-eu', names: { dns: ['eu.internal'] } },
    )
    assert.deepEqual(entryFor(given, 'orders-eu')?.names.dns, ['eu.internal'])
    const matched = entryFor(given, 'orders-7')
    assert.deepEqual(
      [matched?.name, matched?.names],
      ['orders-7', { dns: ['orders-7.internal'], ip: [], uri: ['urn:orders:orders-7'] }],
    )
    for (const stranger of ['orders', 'billing', 'orders-*', 'orders-7.x', 'Orders-7', '']) {
      assert.equal(entryFor(given, stranger), null, stranger)
    }
  })

  test('two patterns that fit the same name are refused', () => {
    assert.match(problems({ name: 'orders-*' }, { name: 'orders-eu-*' }).join(), /fit the same names/)
    assert.match(problems({ name: '*' }, { name: 'billing-*' }).join(), /fit the same names/)
    assert.deepEqual(problems({ name: 'orders-*' }, { name: 'billing-*' }, { name: 'orders-1' }), [])
    assert.match(problems({ name: 'orders-*' }, { name: 'orders-*' }).join(), /is there twice/)
  })

  test('a pattern is for services only, and what an agent needs can not be taken from it', () => {
    assert.match(problems({ ...server, name: 'nats-*' }).join(), /a pattern is for services/)
    assert.match(problems({ name: 'a', usages: ['serverAuth'] }).join(), /expected clientAuth/)
    assert.match(problems({ ...server, usages: ['clientAuth'] }).join(), /expected serverAuth/)
    assert.match(problems({ name: 'a', lifetime: '1s' }).join(), /10s or more/)
  })

  test('no service gets a name of a server: a route would take it for one', () => {
    const named = { ...server, names: { dns: ['nats-1.internal', 'localhost'] } }
    for (const dns of ['nats-1.internal', '*.internal']) {
      assert.match(problems(named, { name: 'a', names: { dns: [dns] } }).join(), /for servers only/, dns)
    }
    assert.match(
      problems(named, { name: '*', names: { dns: ['{name}'] } }).join(),
      /localhost is for servers/,
    )
    assert.match(problems(named, { name: 'nats-*', names: { dns: ['{name}.internal'] } }).join(), /^$/)
    assert.match(
      problems({ ...named, name: 'nats-9' }, { name: 'nats-*', names: { dns: ['{name}.internal'] } }).join(),
      /nats-1.internal is for servers/,
    )
  })

  test('forms that lead elsewhere are refused', () => {
    for (const wrong of [
      { name: 'or*ders' },
      { name: '**' },
      { name: 'a', names: { uri: ['spiffe://prod/issuer'] } },
      { name: 'a', names: { uri: ['SPIFFE:x'] } },
      { name: 'a', names: { uri: ['no uri'] } },
      { name: 'a', names: { dns: ['{name}.{name}'] } },
      { name: 'a', names: { dns: ['{other}'] } },
      { name: 'a', keys: [] },
      { name: 'a', keys: ['DSA'] },
      { name: 'a', usages: ['codeSigning'] },
      { name: 'a', usages: ['clientAuth', 'clientAuth'] },
    ]) {
      assert.ok(!agentEntry.safeParse({ role: 'service', ...wrong }).success, JSON.stringify(wrong))
    }
  })
})

test('the domain is every named agent and every one that joined, without the removed ones', () => {
  const record = (agent: string, state: MemberRecord['state']): MemberRecord => ({
    v: 1,
    agent,
    state,
    at: 0,
    by: 'test',
    reason: 'test',
  })
  const given = entries({ name: 'orders-*' }, { name: 'billing' }, server)
  const names = (...records: MemberRecord[]) => membersOf(given, records).map(({ name }) => name)
  assert.deepEqual(names(), ['issuer', 'billing', 'nats-1'])
  assert.deepEqual(
    names(record('orders-2', 'joined'), record('orders-1', 'joined'), record('billing', 'removed')),
    ['issuer', 'nats-1', 'orders-1', 'orders-2'],
  )
  // the configuration decides: no entry fits this one any more
  assert.deepEqual(names(record('shop-1', 'joined'), record('billing', 'joined')), [
    'issuer',
    'billing',
    'nats-1',
  ])
})
