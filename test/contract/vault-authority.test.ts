/** What the authority in OpenBao does beyond the common contract: what it asks, what it believes, what it leaves alone. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { LeafRequest } from '../../issuer/authority/authority.ts'
import type { VaultClient } from '../../issuer/authority/vault/client.ts'
import { found } from '../../issuer/founding/found.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { makeSchedule } from '../../src/schedule.ts'
import { type Certificate, parseCertificate, parseCertificates } from '../../src/trust/certificate.ts'
import { assertIssuedBy } from '../../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'
import { TestEngine } from '../support/engine.ts'
import { FaultyClient } from '../support/faulty-client.ts'

const HOUR = 3_600_000
const now = Math.floor(Date.now() / 1000) * 1000
const window = { notBefore: now - HOUR, notAfter: now + HOUR }

let engine: TestEngine
before(async () => {
  engine = await TestEngine.start()
})
after(() => engine[Symbol.asyncDispose]())

const leafRequest = async (domain: string, over: Partial<LeafRequest> = {}): Promise<LeafRequest> => ({
  csr: await parseCsr(await makeCsr(await generateKeyPair(), { subject: 'orders' })),
  commonName: 'orders',
  names: { dns: ['orders.internal'], ip: [], uri: [`spiffe://${domain}/orders`] },
  ...window,
  ...over,
})

/** A client that asks for something else than it was told to: a role, a mount or a server that goes its own way. */
function asking(client: VaultClient, path: RegExp, change: Record<string, unknown>): VaultClient {
  return {
    read: (at) => client.read(at),
    list: (at) => client.list(at),
    remove: (at) => client.remove(at),
    write: (at, data) => client.write(at, path.test(at) ? { ...data, ...change } : data),
  }
}

test('of two lists at once in a row only the first asks the engine; what others made or deleted is seen in time', async () => {
  const there = await engine.domain('fresh')
  const client = new FaultyClient(there.client)
  let time = now
  const authority = there.authority({ client, clock: { now: () => time }, freshFor: 5000 })
  const other = there.authority()
  assert.deepEqual(await authority.list(), [])
  const asked = client.calls.length
  const made = await other.prepare(1, window)
  assert.deepEqual([await authority.list(), client.calls.length - asked], [[], 0])
  time += 5000
  assert.deepEqual(await authority.list(), [made])
  // known certificates and keys are not read again: two lists are the whole cost
  time += 5000
  const before = client.calls.length
  assert.deepEqual(await authority.list(), [made])
  assert.deepEqual(client.calls.slice(before), [
    'list authorities-fresh/issuers',
    'list authorities-fresh/keys',
  ])
  await other.delete(1)
  time += 5000
  assert.deepEqual(await authority.list(), [])
  // who begins to lead does not decide by what it remembers: the key of an authority is not lost because it is new
  const next = await other.prepare(2, window)
  assert.deepEqual(await authority.list(), [])
  authority.doubt()
  assert.deepEqual(await authority.list(), [next])
})

test('an issuer of our name without its key is no authority, and no second one is made beside it', async () => {
  const there = await engine.domain('lost')
  const mount = 'authorities-lost'
  const authority = there.authority({ freshFor: 0 })
  const made = await authority.prepare(1, window)
  // as from a backup of the certificates: the engine itself gives no key away that an issuer uses
  for (const id of await engine.root.list(`${mount}/issuers`))
    await engine.root.remove(`${mount}/issuer/${id}`)
  for (const id of await engine.root.list(`${mount}/keys`)) await engine.root.remove(`${mount}/key/${id}`)
  await engine.root.write(`${mount}/intermediate/set-signed`, { certificate: made.certificate })
  const [issuer = ''] = await engine.root.list(`${mount}/issuers`)
  await engine.root.write(`${mount}/issuer/${issuer}`, { issuer_name: 'rotor-lost-1' })
  assert.deepEqual(await authority.list(), [])
  await assert.rejects(authority.prepare(1, window), {
    code: 'ERR_AUTHORITY_ANSWER',
    message: /rotor-lost-1/,
  })
  await assert.rejects(authority.sign(1, await leafRequest('lost')), { code: 'ERR_AUTHORITY_MISSING' })
  assert.deepEqual(await there.contents(), { issuers: ['rotor-lost-1'], keys: [] })
  await authority.delete(1)
  assert.deepEqual(await there.contents(), { issuers: [], keys: [] })
})

test('an authority that somebody took the name from gets it back, and is never taken for a leftover', async () => {
  const there = await engine.domain('renamed')
  const made = await there.authority().prepare(1, window)
  // any POST to an issuer that does not give its name takes it away
  const [issuer = ''] = await engine.root.list('authorities-renamed/issuers')
  await engine.root.write(`authorities-renamed/issuer/${issuer}`, { leaf_not_after_behavior: 'err' })
  assert.deepEqual((await there.contents()).issuers, [''])
  const muchLater = { now: () => Date.now() + 1_200_000 }
  assert.deepEqual(await there.authority({ clock: muchLater }).list(), [made])
  assert.deepEqual((await there.contents()).issuers, ['rotor-renamed-1'])
})

test('the default of the mount moves when the authority signs by our bundle, not when it is made', async () => {
  const there = await engine.domain('default')
  const authority = there.authority()
  const defaultName = async () => {
    const { default: id } = (await engine.root.read('authorities-default/config/issuers')) ?? {}
    return (await engine.root.read(`authorities-default/issuer/${id}`))?.issuer_name
  }
  await authority.prepare(1, window)
  await authority.activate(1)
  // as an operator may have left it
  await engine.root.write('authorities-default/config/issuers', {
    default: 'rotor-default-1',
    default_follows_latest_issuer: true,
  })
  await there.authority().activate(9)
  await there.authority().list()
  const fresh = there.authority()
  await fresh.list()
  await fresh.activate(1)
  await fresh.prepare(2, window)
  assert.equal(await defaultName(), 'rotor-default-1')
  await fresh.activate(2)
  assert.equal(await defaultName(), 'rotor-default-2')
})

test('what others keep in the same mount is left as it is', async () => {
  const there = await engine.domain('shared')
  const mount = 'authorities-shared'
  const subject = { common_name: 'someone else', key_type: 'ec' }
  await engine.root.write(`${mount}/issuers/generate/root/internal`, { ...subject, key_name: 'theirs' })
  await engine.root.write(`${mount}/issuers/generate/root/internal`, {
    ...subject,
    // of another domain whose name begins with ours
    key_name: 'rotor-shared-5-7-0123456789abcdef',
    issuer_name: 'rotor-shared-5-7',
  })
  const before = [await engine.root.list(`${mount}/issuers`), await engine.root.list(`${mount}/keys`)]
  const authority = there.authority({ clock: { now: () => Date.now() + 100_000_000 } })
  assert.deepEqual(await authority.list(), [])
  await authority.prepare(7, { notBefore: now, notAfter: now + 200 * HOUR })
  await authority.delete(7)
  await authority.delete(5)
  assert.deepEqual(
    [await engine.root.list(`${mount}/issuers`), await engine.root.list(`${mount}/keys`)],
    before,
  )
})

test('an authority ends with its root, and a leaf is not for longer than both', async () => {
  const there = await engine.domain('ends')
  const authority = there.authority()
  const [root = ''] = await authority.roots()
  const { notAfter } = parseCertificate(root, 'root')
  const held = await authority.prepare(1, { notBefore: now, notAfter: notAfter + HOUR })
  assert.equal(held.notAfter, notAfter)
  await assert.rejects(authority.prepare(2, { notBefore: notAfter, notAfter: notAfter + HOUR }), {
    code: 'ERR_SIGN_REFUSED',
  })
  assert.deepEqual((await there.contents()).issuers, ['rotor-ends-1'])
})

test('the root that is asked for signs, also when the operator has made another one the default', async () => {
  const there = await engine.domain('roots', { root: 'root-roots' })
  const authority = there.authority()
  const [first = ''] = await authority.roots()
  const old = parseCertificate(first, 'old root')
  await engine.root.write('root-roots/root/rotate/internal', {
    common_name: 'roots root 2',
    issuer_name: 'second',
    ttl: '5000h',
  })
  await engine.root.write('root-roots/config/issuers', { default: 'second' })
  const [second = ''] = await authority.roots()
  const fresh = parseCertificate(second, 'new root')
  assert.notEqual(fresh.sha256, old.sha256)
  for (const [epoch, root] of [
    [1, old],
    [2, fresh],
  ] as const) {
    const made = await authority.prepare(epoch, window, root.sha256)
    assertIssuedBy(parseCertificate(made.certificate, 'authority'), root)
  }
  const before = await there.contents()
  await assert.rejects(authority.prepare(3, window, 'f'.repeat(64)), { code: 'ERR_AUTHORITY_MISSING' })
  assert.deepEqual(await there.contents(), before)
})

test('what the root signs otherwise than asked is not brought into the engine', async () => {
  const there = await engine.domain('odd')
  const changes: Record<string, Record<string, unknown>> = {
    'path length': { max_path_length: 1 },
    subject: { common_name: 'odd authority' },
    organization: { organization: 'another' },
    'a sooner end': { not_after: new Date(now + HOUR / 2).toISOString().replace('.000', '') },
    'a later end': { not_after: new Date(now + 2 * HOUR).toISOString().replace('.000', '') },
    'a later start': { not_before_duration: '1s' },
  }
  for (const [what, change] of Object.entries(changes)) {
    const client = asking(there.client, /sign-intermediate$/, change)
    const authority = there.authority({ client })
    await assert.rejects(
      authority.prepare(1, window),
      { code: 'ERR_AUTHORITY_ANSWER', message: /^rotor-root\/root\/sign-intermediate: expected .*, found / },
      what,
    )
    assert.deepEqual(await authority.list(), [], what)
    assert.deepEqual((await there.contents()).issuers, [], what)
  }
})

test('an authority has the name constraints that the engine knows; with others it is not brought in', async () => {
  const there = await engine.domain('limits')
  const permitted = { dns: ['internal', 'example.com'], ip: [], uri: [] }
  const authority = there.authority({ permitted })
  const { certificate } = await authority.prepare(1, window)
  assert.deepEqual(parseCertificate(certificate, 'authority').permitted, permitted)
  await authority.sign(1, await leafRequest('limits'))
  const outside = await leafRequest('limits', { names: { dns: ['orders.local'], ip: [], uri: [] } })
  await assert.rejects(authority.sign(1, outside), { code: 'ERR_SIGN_REFUSED', message: /orders\.local/ })
  // OpenBao 2.7 passes over what it does not know
  const more = there.authority({ permitted: { ...permitted, uri: ['limits'] } })
  await assert.rejects(more.prepare(2, window), {
    code: 'ERR_AUTHORITY_ANSWER',
    message: /expected the name constraints .*uri:limits, found dns:example\.com, dns:internal;/,
  })
  assert.equal((await there.contents()).issuers.length, 1)
})

test('a leaf that is not what was asked for is not handed out', async () => {
  const there = await engine.domain('leaf')
  await there.authority().prepare(1, window)
  const [spki, chain] = [await generateKeyPair(), await generateKeyPair()]
  const changes: Record<string, Record<string, unknown>> = {
    'another key': { csr: await makeCsr(spki, { subject: 'orders' }) },
    'another subject': { common_name: 'billing' },
    'one name more': { alt_names: 'orders.internal,billing.internal' },
    'one name less': { alt_names: '' },
    'another URI': { uri_sans: ['spiffe://leaf/billing'] },
    'an address': { ip_sans: ['127.0.0.1'] },
    'a sooner end': { not_after: new Date(now + HOUR / 2).toISOString().replace('.000', '') },
  }
  for (const [what, change] of Object.entries(changes)) {
    const authority = there.authority({ client: asking(there.client, /\/sign\//, change) })
    const asked = await leafRequest('leaf', {
      csr: await parseCsr(await makeCsr(chain, { subject: 'orders' })),
    })
    await assert.rejects(authority.sign(1, asked), { code: 'ERR_AUTHORITY_ANSWER' }, what)
  }
})

test('the role alone decides nothing: one that changes what we ask for is found out, one that refuses is quoted', async () => {
  const there = await engine.domain('role')
  const { role } = there.config
  const path = `authorities-role/roles/${role}`
  const authority = there.authority()
  await authority.prepare(1, window)
  const as = (await engine.root.read(path)) ?? {}
  const asked = await leafRequest('role', { notBefore: now - HOUR })
  await authority.sign(1, asked)
  for (const [change, message] of [
    [{ client_flag: false }, /expected the usages .*, found 1\.3\.6\.1\.5\.5\.7\.3\.1$/],
    [{ not_before_duration: 30 }, /not_before_duration/],
    [{ organization: ['Somebody'] }, /expected the subject "CN=orders", found /],
  ] as const) {
    await engine.root.write(path, { ...as, ...change })
    await assert.rejects(authority.sign(1, asked), { code: 'ERR_AUTHORITY_ANSWER', message })
  }
  await engine.root.write(path, { ...as, allowed_uri_sans: ['spiffe://other/*'] })
  await assert.rejects(authority.sign(1, asked), { code: 'ERR_AUTHORITY_REFUSED', message: /URI/ })
  await engine.root.write(path, as)
  await authority.sign(1, asked)
})

test('nodes may bring keys of any kind that we take', async () => {
  const there = await engine.domain('kinds')
  const authority = there.authority()
  await authority.prepare(1, window)
  for (const kind of ['P-256', 'P-384', 'Ed25519', 'RSA-3072'] as const) {
    const keyPair = await generateKeyPair(kind)
    const csr = await parseCsr(await makeCsr(keyPair, { subject: 'orders' }))
    const chain = await authority.sign(1, await leafRequest('kinds', { csr }))
    const [leaf]: readonly Certificate[] = parseCertificates(chain, kind)
    assert.equal(leaf?.spkiSha256, csr.spkiSha256, kind)
  }
})

test('a domain with the longest name is told from one with the same beginning', async () => {
  const [a, b] = [`${'x'.repeat(62)}a`, `${'x'.repeat(62)}b`]
  const [there, beside] = [await engine.domain(a), await engine.domain(b)]
  // in one mount
  const mounts = there.config.mounts
  const first = there.authority({ freshFor: 0 })
  const second = beside.authority({ client: engine.root, mounts, freshFor: 0 })
  const [made, theirs] = [await first.prepare(1, window), await second.prepare(1, window)]
  assert.deepEqual([await first.list(), await second.list()], [[made], [theirs]])
  await second.delete(1)
  assert.deepEqual([await first.list(), await second.list()], [[made], []])
})

test('a founding may take longer than the leaves of the engine are back-dated', async () => {
  const there = await engine.domain('slow')
  const dir = await mkdtemp(join(tmpdir(), 'rotor-slow-'))
  const begun = Date.now() - 3 * HOUR
  let readings = 0
  try {
    const { agentConfigs } = await found({
      domain: 'slow',
      out: join(dir, 'slow'),
      schedule: makeSchedule({ epochZero: begun }),
      servers: [{ name: 'nats-1', host: '127.0.0.1', clientPort: 4222, clusterPort: 6222 }],
      services: [{ name: 'orders' }],
      vault: there.config,
      clock: { now: () => (readings++ === 0 ? begun : Date.now()) },
    })
    assert.deepEqual(Object.keys(agentConfigs).sort(), ['issuer', 'nats-1', 'orders'])
    const { leaf } = await readIdentity(join(dir, 'slow', 'agents', 'orders', 'identity'))
    assert.ok(leaf.notBefore > begun)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
