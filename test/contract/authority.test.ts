/** What every adapter of the `Authority` port promises; `embedded` is the one there is. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Authority } from '../../issuer/authority/authority.ts'
import { createRoot, EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { RotorError } from '../../src/errors.ts'
import { parseCertificate, parseCertificates } from '../../src/trust/certificate.ts'
import { assertIssuedBy, verifyLeaf } from '../../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'

const HOUR = 3_600_000
const now = Math.floor(Date.now() / 1000) * 1000
const window = { notBefore: now - HOUR, notAfter: now + HOUR }
const names = { dns: ['orders.internal'], ip: ['127.0.0.1'], uri: ['spiffe://test/orders'] }

const request = async () => parseCsr(await makeCsr(await generateKeyPair(), { subject: 'orders' }))

interface Fixture {
  readonly authority: Authority
  /** The same keys, opened anew: what a restarted issuer has. */
  reopened(): Authority
  readonly dir: string
}

async function embedded(t: TestContext, passphrase?: string): Promise<Fixture> {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-authority-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const options = { domain: 'test', dir, passphrase }
  await createRoot({ ...options, notBefore: now - HOUR, notAfter: now + 1000 * HOUR })
  return { authority: new EmbeddedAuthority(options), reopened: () => new EmbeddedAuthority(options), dir }
}

for (const [name, make] of Object.entries({
  embedded: (t: TestContext) => embedded(t),
  'embedded with a passphrase': (t: TestContext) => embedded(t, 'correct horse'),
})) {
  test(`${name}: preparing twice, at once or after a restart, gives the same authority`, async (t) => {
    const { authority, reopened } = await make(t)
    const [first, second] = await Promise.all([authority.prepare(7, window), authority.prepare(7, window)])
    const third = await reopened().prepare(7, window)
    assert.equal(first.sha256, second.sha256)
    assert.equal(first.sha256, third.sha256)
    assert.deepEqual(
      (await authority.list()).map((held) => held.epoch),
      [7],
    )
  })

  test(`${name}: an authority is a CA of path length 0 under the root, in its window, with a key of its own`, async (t) => {
    const { authority } = await make(t)
    const [a, b] = [await authority.prepare(1, window), await authority.prepare(2, window)]
    const [root = ''] = await authority.roots()
    const parsed = parseCertificate(a.certificate, 'authority')
    assertIssuedBy(parsed, parseCertificate(root, 'root'))
    assert.deepEqual([parsed.ca, parsed.keyCertSign, parsed.pathLength], [true, true, 0])
    assert.deepEqual([parsed.notBefore, parsed.notAfter], [window.notBefore, window.notAfter])
    assert.notEqual(parsed.spkiSha256, parseCertificate(b.certificate, 'authority').spkiSha256)
    assert.notEqual(parsed.subject, parseCertificate(b.certificate, 'authority').subject)
  })

  test(`${name}: a leaf has the names asked for, both usages, and never outlives its authority`, async (t) => {
    const { authority } = await make(t)
    const held = await authority.prepare(3, window)
    const csr = await request()
    const chain = await authority.sign(3, {
      csr,
      commonName: 'orders',
      names,
      notBefore: now - HOUR,
      notAfter: now + 100 * HOUR,
    })
    const [leaf, issuer] = parseCertificates(chain, 'chain')
    assert.ok(leaf !== undefined && issuer !== undefined)
    assert.equal(issuer.sha256, held.sha256)
    for (const usage of ['clientAuth', 'serverAuth'] as const)
      verifyLeaf([leaf, issuer], [issuer], now, { usage })
    assert.deepEqual(leaf.names, names)
    assert.equal(leaf.notAfter, held.notAfter)
  })

  test(`${name}: many leaves at once have different serials`, async (t) => {
    const { authority } = await make(t)
    await authority.prepare(3, window)
    const csr = await request()
    const chains = await Promise.all(
      Array.from({ length: 40 }, () => authority.sign(3, { csr, commonName: 'orders', names, ...window })),
    )
    assert.equal(new Set(chains.map((chain) => parseCertificates(chain, 'chain')[0]?.serial)).size, 40)
  })

  test(`${name}: a deleted authority signs no more, and deleting again is no error`, async (t) => {
    const { authority, reopened } = await make(t)
    await authority.prepare(3, window)
    await authority.delete(3)
    await authority.delete(3)
    assert.deepEqual(await reopened().list(), [])
    const csr = await request()
    await assert.rejects(authority.sign(3, { csr, commonName: 'orders', names, ...window }), {
      code: 'ERR_AUTHORITY_MISSING',
    })
  })
}

test('embedded: keys are 0600 in folders nobody else reads', async (t) => {
  const { authority, dir } = await embedded(t)
  await authority.prepare(3, window)
  for (const file of ['root.key', 'authorities/3/ca.key'])
    assert.equal((await stat(join(dir, file))).mode & 0o777, 0o600, file)
  assert.equal((await stat(join(dir, 'authorities/3'))).mode & 0o077, 0)
})

test('embedded: with a passphrase no key is readable on disk, and a wrong or missing one is refused', async (t) => {
  const { authority, dir } = await embedded(t, 'correct horse')
  await authority.prepare(3, window)
  for (const file of ['root.key', 'authorities/3/ca.key']) {
    assert.match(await readFile(join(dir, file), 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/)
  }
  for (const passphrase of ['wrong', undefined]) {
    await assert.rejects(
      new EmbeddedAuthority({ domain: 'test', dir, passphrase }).list(),
      (error: RotorError) => {
        assert.doesNotMatch(error.message, /correct horse|wrong/)
        return RotorError.is(error) && error.code === 'ERR_AUTHORITY_LOCKED'
      },
    )
  }
})

test('embedded: what a crash left half made is no authority and does not stop the next one', async (t) => {
  const { authority, dir } = await embedded(t)
  await mkdir(join(dir, 'authorities', '.new-crash'), { recursive: true })
  assert.deepEqual(await authority.list(), [])
  await authority.prepare(3, window)
  assert.deepEqual(
    (await readdir(join(dir, 'authorities'))).filter((name) => /^\d/.test(name)),
    ['3'],
  )
})
