/**
 * A whole domain on a real OpenBao that is stopped, sealed, slow, or forgets the token of the issuer, each at a call
 * in the middle of a rotation. The rotation waits and goes on by itself; nodes serve all the time; nothing is
 * published that can not sign, and nothing stays behind in the engine.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { editJson } from '../../demo/domain.ts'
import type { LocalOpenBao } from '../../demo/openbao.ts'
import { Vault } from '../../issuer/authority/vault/client.ts'
import { silentLogger } from '../../src/log.ts'
import { EngineProxy } from '../support/engine-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const SERVICE = 'orders'
/** Of one call, as the issuer is configured here: an outage is told after this long. */
const TIMEOUT = 1_000

let domain: RunningDomain
let openBao: LocalOpenBao
let proxy: EngineProxy
let operator: Vault

before(async () => {
  domain = await RunningDomain.start({ authority: 'openbao', services: [{ name: SERVICE }] })
  assert.ok(domain.local.openBao !== null)
  openBao = domain.local.openBao
  proxy = await EngineProxy.start(openBao.bao.address)
  const { config, bao } = openBao
  operator = await Vault.open({ config, name: 'operator', token: bao.rootToken, logger: silentLogger })
  const file = domain.local.founded.issuerConfig
  const { vault } = JSON.parse(await readFile(file, 'utf8'))
  await editJson(file, { vault: { ...vault, address: proxy.address, timeout: `${TIMEOUT}ms` } })
  await domain.startAll([SERVICE])
  await domain.settled()
})
after(async () => {
  await domain?.stop()
  await operator?.close()
  await proxy?.[Symbol.asyncDispose]()
})

/** Does `act` at the first call of this kind, once `when` holds; resolves when it was done, before the call goes on. */
function at(kind: RegExp, act: () => Promise<void>, when = () => true): Promise<void> {
  return new Promise((resolve, reject) => {
    proxy.onCall = async (call) => {
      if (!kind.test(call) || !when()) return
      proxy.onCall = () => {}
      await act().then(resolve, reject)
    }
  })
}

/** The issuer has said since `from` that the engine does not answer. */
const saidSo = (from: number) =>
  eventually(
    () =>
      domain.logs
        .slice(from)
        .some((line) => line.includes('"issuer"') && line.includes('ERR_AUTHORITY_UNAVAILABLE')),
    { timeout: PATIENCE },
  )

/** Servers take the leaf of the service and serve one that it trusts; nothing new was published. */
async function assertServing(version: number): Promise<void> {
  const results = await domain.probe(await domain.identity(SERVICE))
  assert.deepEqual(
    results.map(({ result }) => result.accepted),
    [true],
  )
  const history = await domain.history()
  assert.equal(history.at(-1)?.payload.version, version)
}

/** One issuer and one key in the engine for each authority of the bundle, and nothing else. */
async function assertTidy(): Promise<void> {
  const { authorities: mount } = openBao.config.mounts
  const wanted = (await domain.overview()).authorities.map(({ epoch }) => `rotor-demo-${epoch}`)
  await eventually(
    async () => {
      const read = async (list: string, one: string, key: string) =>
        Promise.all(
          (await operator.list(`${mount}/${list}`)).map(async (id) =>
            String((await operator.read(`${mount}/${one}/${id}`))?.[key]),
          ),
        )
      const issuers = await read('issuers', 'issuer', 'issuer_name')
      const keys = await read('keys', 'key', 'key_name')
      assert.deepEqual(issuers.sort(), wanted.sort())
      assert.deepEqual(keys.map((name) => name.replace(/-[0-9a-f]{16}$/, '')).sort(), wanted)
      return true
    },
    { timeout: PATIENCE, interval: 200 },
  )
}

test('OpenBao stops while the root signs a new authority: the rotation waits for it and goes on', async () => {
  const before = await domain.overview()
  const from = domain.logs.length
  const stopped = at(/root\/sign-intermediate$/, () => openBao.bao.stop())
  await domain.order()
  await stopped
  await saidSo(from)
  await assertServing(before.version)
  await openBao.bao.start()
  await domain.settled(undefined, (now) => now.active > before.active)
  await assertTidy()
})

test('OpenBao is sealed when the first node asks the new signer for a leaf: every node keeps the one it has', async () => {
  const before = await domain.overview()
  const held = (await domain.identity(SERVICE)).certificate
  const from = domain.events.length
  const isActive = () =>
    domain.events.slice(from).some((event) => event.type === 'commit' && event.move === 'activate')
  const sealed = at(/\/sign\//, () => openBao.bao.seal(), isActive)
  await domain.order()
  await sealed
  await saidSo(domain.logs.length)
  const { payload } = (await domain.history()).at(-1) ?? {}
  assert.ok(payload !== undefined && payload.epoch > before.active)
  await assertServing(payload.version)
  assert.equal((await domain.identity(SERVICE)).certificate, held)
  await openBao.bao.unseal()
  await domain.settled(undefined, (now) => now.active > before.active)
  assert.notEqual((await domain.identity(SERVICE)).certificate, held)
  await assertTidy()
})

test('OpenBao answers too late in every call: nothing is made twice, and the rotation goes on when it is quick', async () => {
  const before = await domain.overview()
  const from = domain.logs.length
  const slow = at(/issuers\/generate\/intermediate\/internal$/, async () => {
    proxy.delay = 2 * TIMEOUT
  })
  await domain.order()
  await slow
  await saidSo(from)
  await assertServing(before.version)
  // slow, but in time
  proxy.delay = TIMEOUT / 5
  await domain.settled(undefined, (now) => now.active > before.active)
  proxy.delay = 0
  await assertTidy()
})

test('the token of the issuer is revoked when the authority gets its name: it logs in again and goes on', async () => {
  const before = await domain.overview()
  const revoked = at(/POST .*\/issuer\/[0-9a-f-]{36}$/, async () => {
    for (const accessor of await operator.list('auth/token/accessors')) {
      const { path } = (await operator.write('auth/token/lookup-accessor', { accessor })) ?? {}
      if (String(path).startsWith('auth/approle/'))
        await operator.write('auth/token/revoke-accessor', { accessor })
    }
  })
  await domain.order()
  await revoked
  await domain.settled(undefined, (now) => now.active > before.active)
  await assertTidy()
})
