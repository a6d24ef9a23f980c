/**
 * The authority in OpenBao when calls fail: each call in turn, before and after it reached the engine, with the same
 * issuer going on and with one that starts anew. Nothing is ever used that is not whole, and nothing stays behind.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { VaultAuthority } from '../../issuer/authority/vault/authority.ts'
import { RotorError } from '../../src/errors.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'
import { type EngineDomain, TestEngine } from '../support/engine.ts'
import { type Fault, FaultyClient } from '../support/faulty-client.ts'

const HOUR = 3_600_000
const MARGIN = 60_000
const now = Math.floor(Date.now() / 1000) * 1000
const window = { notBefore: now - HOUR, notAfter: now + HOUR }
/** A clock that is past every margin: what a crashed issuer left is nobody's work any more. */
const muchLater = { now: () => Date.now() + 2 * MARGIN }

let engine: TestEngine
before(async () => {
  engine = await TestEngine.start()
})
after(() => engine[Symbol.asyncDispose]())

async function leaf(authority: VaultAuthority, domain: string, epoch: number): Promise<string | undefined> {
  const chain = await authority.sign(epoch, {
    csr: await parseCsr(await makeCsr(await generateKeyPair(), { subject: 'orders' })),
    commonName: 'orders',
    names: { dns: [], ip: [], uri: [`spiffe://${domain}/orders`] },
    ...window,
  })
  return parseCertificates(chain, 'chain')[1]?.sha256
}

/** How many calls `work` makes when none fails. */
async function callsOf(client: FaultyClient, work: () => Promise<unknown>): Promise<string[]> {
  const before = client.calls.length
  await work()
  return client.calls.slice(before).map((call) => call.replace(/[0-9a-f-]{36}/g, '<id>'))
}

/** Breaks the call number `index` from now on, once. */
function breakOne(client: FaultyClient, index: number, fault: Fault): void {
  const at = client.calls.length + index
  client.faultOf = (each) => (each === at ? fault : null)
}

async function untilDone<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (cause) {
      if (!RotorError.is(cause) || cause.code !== 'ERR_AUTHORITY_UNAVAILABLE') throw cause
    }
  }
}

/** Exactly one issuer and one key for each of these epochs, and nothing else of the domain. */
async function assertOnly(there: EngineDomain, domain: string, epochs: readonly number[]): Promise<void> {
  const { issuers, keys } = await there.contents()
  assert.deepEqual(issuers, epochs.map((epoch) => `rotor-${domain}-${epoch}`).sort())
  assert.equal(keys.length, epochs.length, keys.join(', '))
  for (const epoch of epochs) assert.ok(keys.some((key) => key.startsWith(`rotor-${domain}-${epoch}-`)))
}

for (const fault of ['before', 'after'] as const) {
  test(`an authority is made at the next try, whichever call failed ${fault} it reached the engine`, async () => {
    const domain = `same-${fault}`
    const there = await engine.domain(domain)
    const client = new FaultyClient(there.client)
    const authority = there.authority({ client, margin: MARGIN, freshFor: 0 })
    const calls = await callsOf(client, () => authority.prepare(0, window))
    const expected = ['generate', 'sign-intermediate', 'set-signed', 'issuer/<id>']
    for (const step of expected)
      assert.ok(
        calls.some((call) => call.includes(step)),
        calls.join('\n'),
      )
    const epochs = [0]
    for (const [index, call] of calls.entries()) {
      const epoch = index + 1
      breakOne(client, index, fault)
      await assert.rejects(authority.prepare(epoch, window), { code: 'ERR_AUTHORITY_UNAVAILABLE' }, call)
      const made = await authority.prepare(epoch, window)
      epochs.push(epoch)
      await assertOnly(there, domain, epochs)
      assert.deepEqual((await authority.list()).at(-1), made)
      assert.equal(await leaf(authority, domain, epoch), made.sha256)
    }
  })

  test(`an issuer that died at a call, ${fault} it reached the engine, leaves nothing that stays`, async () => {
    const domain = `died-${fault}`
    const there = await engine.domain(domain)
    const client = new FaultyClient(there.client)
    const calls = await callsOf(client, () => there.authority({ client }).prepare(0, window))
    const epochs = [0]
    for (const [index] of calls.entries()) {
      const epoch = index + 1
      breakOne(client, index, fault)
      await assert.rejects(there.authority({ client, margin: MARGIN }).prepare(epoch, window))
      // whoever starts at once knows only what is whole, and makes or completes the authority
      const next = there.authority({ margin: MARGIN })
      const made = await next.prepare(epoch, window)
      assert.equal(await leaf(next, domain, epoch), made.sha256)
      epochs.push(epoch)
      // and when nobody can be working on the rest any more, it goes
      const later = there.authority({ margin: MARGIN, clock: muchLater })
      assert.deepEqual((await later.list()).at(-1), made)
      await assertOnly(there, domain, epochs)
    }
  })

  test(`what was left half made ${fault} a call is whole or gone when nobody asks for its epoch again`, async () => {
    const domain = `alone-${fault}`
    const there = await engine.domain(domain)
    const client = new FaultyClient(there.client)
    const calls = await callsOf(client, () => there.authority({ client }).prepare(0, window))
    const epochs = new Set([0])
    for (const [index] of calls.entries()) {
      breakOne(client, index, fault)
      await assert.rejects(there.authority({ client, margin: MARGIN }).prepare(index + 1, window))
      const later = there.authority({ margin: MARGIN, clock: muchLater })
      // the rotation deletes by its own rules what it has no use for
      for (const { epoch } of await later.list()) epochs.add(epoch)
      await assertOnly(there, domain, [...epochs])
    }
  })

  test(`an authority that can not be deleted at once is deleted at the next try, ${fault} each call`, async () => {
    const domain = `delete-${fault}`
    const there = await engine.domain(domain)
    const client = new FaultyClient(there.client)
    const authority = there.authority({ client, margin: MARGIN, freshFor: 0 })
    await authority.prepare(0, window)
    const calls = await callsOf(client, () => authority.delete(0))
    for (const step of ['issuer/<id>', 'key/<id>']) {
      assert.ok(
        calls.some((call) => call.startsWith('remove') && call.includes(step)),
        calls.join('\n'),
      )
    }
    for (const [index, call] of calls.entries()) {
      await authority.prepare(index + 1, window)
      breakOne(client, index, fault)
      await assert.rejects(authority.delete(index + 1), { code: 'ERR_AUTHORITY_UNAVAILABLE' }, call)
      // the rotation asks again as long as the store lists it; without a key it is not listed
      for (const { epoch } of await authority.list()) await authority.delete(epoch)
      assert.deepEqual(await authority.list(), [])
      await assertOnly(there, domain, [])
    }
  })
}

for (const seed of [1, 2, 3]) {
  test(`two issuers at once, every fourth call of each fails somehow: one authority for each epoch (seed ${seed})`, async () => {
    const domain = `two-${seed}`
    const there = await engine.domain(domain)
    // a small generator (Numerical Recipes), so that a failure can be run again
    let state = seed
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 32
    }
    const issuers = [0, 1].map(() => {
      const client = new FaultyClient(there.client)
      client.faultOf = () => (random() < 0.25 ? (random() < 0.5 ? 'before' : 'after') : null)
      return { client, authority: there.authority({ client, margin: MARGIN, freshFor: 0 }) }
    })
    const published = new Map<number, string>()
    for (let epoch = 1; epoch <= 4; epoch++) {
      await Promise.all(
        issuers.map(async ({ authority }) => {
          const made = await untilDone(() => authority.prepare(epoch, window))
          // what one has seen, a bundle may name: nobody may ever see another one
          assert.equal(published.get(epoch) ?? made.sha256, made.sha256)
          published.set(epoch, made.sha256)
        }),
      )
      if (epoch > 2)
        await Promise.all(issuers.map(({ authority }) => untilDone(() => authority.delete(epoch - 2))))
    }
    for (const { client, authority } of issuers) {
      client.faultOf = () => null
      const held = await authority.list()
      assert.deepEqual(
        held.map(({ epoch, sha256 }) => [epoch, sha256]),
        [...published].slice(2),
      )
      for (const { epoch, sha256 } of held) assert.equal(await leaf(authority, domain, epoch), sha256)
    }
    await there.authority({ margin: MARGIN, clock: muchLater }).list()
    await assertOnly(there, domain, [3, 4])
  })
}

test('an outage of any length changes nothing, says so, and ends by itself', async () => {
  const domain = 'outage'
  const there = await engine.domain(domain)
  const client = new FaultyClient(there.client)
  const authority = there.authority({ client, margin: MARGIN, freshFor: 0 })
  const made = await authority.prepare(1, window)
  client.faultOf = () => 'before'
  for (let i = 0; i < 3; i++) {
    await assert.rejects(authority.list(), { code: 'ERR_AUTHORITY_UNAVAILABLE' })
    await assert.rejects(authority.prepare(2, window), { code: 'ERR_AUTHORITY_UNAVAILABLE' })
    await assert.rejects(leaf(authority, domain, 1), { code: 'ERR_AUTHORITY_UNAVAILABLE' })
    await assert.rejects(authority.activate(1), { code: 'ERR_AUTHORITY_UNAVAILABLE' })
    await assert.rejects(authority.roots(), { code: 'ERR_AUTHORITY_UNAVAILABLE' })
  }
  client.faultOf = () => null
  assert.deepEqual(await authority.list(), [made])
  assert.equal(await leaf(authority, domain, 1), made.sha256)
  await assertOnly(there, domain, [1])
})
