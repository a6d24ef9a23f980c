/** What every adapter of the `Authority` port promises; then what only the embedded one does. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import type { Authority, LeafRequest } from '../../issuer/authority/authority.ts'
import { createRoot, EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { RotorError } from '../../src/errors.ts'
import { parseCertificate, parseCertificates } from '../../src/trust/certificate.ts'
import { assertIssuedBy, USAGE, verifyLeaf } from '../../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'
import { TestEngine } from '../support/engine.ts'
import { BEGINS_BEFORE_ISSUER, lintCertificate } from '../support/x509-lint.ts'
import { openssl, opensslVerify } from '../unit/trust/oracle.ts'

const HOUR = 3_600_000
const now = Math.floor(Date.now() / 1000) * 1000
const window = { notBefore: now - HOUR, notAfter: now + HOUR }
/** Certificates of an engine begin a little sooner: its clock may be another one. */
const CLOCKS = 60_000

interface Fixture {
  readonly domain: string
  readonly authority: Authority
  /** The same keys, opened anew: what a restarted issuer has, or another one. */
  reopened(): Authority
}

interface EmbeddedFixture extends Fixture {
  readonly dir: string
}

const leafRequest = async ({ domain }: Fixture, over: Partial<LeafRequest> = {}): Promise<LeafRequest> => ({
  csr: await parseCsr(await makeCsr(await generateKeyPair(), { subject: 'of-the-node', dns: ['evil.test'] })),
  commonName: 'orders',
  names: { dns: ['orders.internal'], ip: ['127.0.0.1', '2001:db8::1'], uri: [`spiffe://${domain}/orders`] },
  ...window,
  ...over,
})

let engine: TestEngine
before(async () => {
  engine = await TestEngine.start()
})
after(() => engine[Symbol.asyncDispose]())

let domains = 0
async function openbao(): Promise<Fixture> {
  const domain = `domain-${++domains}`
  const there = await engine.domain(domain)
  return { domain, authority: there.authority(), reopened: () => there.authority() }
}

async function embedded(t: TestContext, passphrase?: string): Promise<EmbeddedFixture> {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-authority-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const domain = 'test'
  const options = { domain, dir, passphrase }
  await createRoot({ ...options, notBefore: now - HOUR, notAfter: now + 1000 * HOUR })
  const reopened = () => new EmbeddedAuthority(options)
  return { domain, authority: reopened(), reopened, dir }
}

const ADAPTERS: Record<string, (t: TestContext) => Promise<Fixture>> = {
  embedded: (t) => embedded(t),
  'embedded with a passphrase': (t) => embedded(t, 'correct horse'),
  openbao,
}

for (const [name, make] of Object.entries(ADAPTERS)) {
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

  test(`${name}: issuers that prepare one epoch at once make one authority, and all sign with it`, async (t) => {
    const fixture = await make(t)
    const issuers = [fixture.authority, fixture.reopened(), fixture.reopened(), fixture.reopened()]
    const made = await Promise.all(issuers.map((issuer) => issuer.prepare(7, window)))
    const [first] = made
    assert.deepEqual(new Set(made.map(({ sha256 }) => sha256)).size, 1)
    for (const issuer of [...issuers, fixture.reopened()]) {
      assert.deepEqual(await issuer.list(), [first])
      const [, signer] = parseCertificates(await issuer.sign(7, await leafRequest(fixture)), 'chain')
      assert.equal(signer?.sha256, first?.sha256)
    }
  })

  test(`${name}: an authority is a CA of path length 0 under the root, in its window, with a key of its own`, async (t) => {
    const { authority } = await make(t)
    const [a, b] = [await authority.prepare(1, window), await authority.prepare(2, window)]
    const [root = ''] = await authority.roots()
    const parsed = parseCertificate(a.certificate, 'authority')
    assertIssuedBy(parsed, parseCertificate(root, 'root'))
    assert.deepEqual([parsed.ca, parsed.keyCertSign, parsed.pathLength], [true, true, 0])
    assert.ok(parsed.notBefore <= window.notBefore && parsed.notBefore > window.notBefore - CLOCKS)
    assert.equal(parsed.notAfter, window.notAfter)
    assert.notEqual(parsed.spkiSha256, parseCertificate(b.certificate, 'authority').spkiSha256)
    assert.notEqual(parsed.subject, parseCertificate(b.certificate, 'authority').subject)
  })

  test(`${name}: a leaf has the names asked for and no others, both usages, and never outlives its authority`, async (t) => {
    const fixture = await make(t)
    const { authority } = fixture
    const held = await authority.prepare(3, window)
    const asked = await leafRequest(fixture, { notAfter: now + 100 * HOUR })
    const [leaf, issuer] = parseCertificates(await authority.sign(3, asked), 'chain')
    assert.ok(leaf !== undefined && issuer !== undefined)
    assert.equal(issuer.sha256, held.sha256)
    for (const usage of ['clientAuth', 'serverAuth'] as const)
      verifyLeaf([leaf, issuer], [issuer], now, { usage })
    assert.deepEqual(leaf.names, asked.names)
    assert.equal(leaf.subject, 'CN=orders')
    assert.equal(leaf.notAfter, held.notAfter)
  })

  test(`${name}: the linter finds nothing in root, authority and leaf`, async (t) => {
    const fixture = await make(t)
    const { authority } = fixture
    await authority.prepare(3, window)
    const chain = await authority.sign(3, await leafRequest(fixture))
    const [leaf, issuer] = parseCertificates(chain, 'chain')
    const root = parseCertificate((await authority.roots())[0] ?? '', 'root')
    assert.deepEqual(lintCertificate(root.der), [])
    assert.deepEqual(lintCertificate(issuer?.der ?? Buffer.alloc(0), root.der), [])
    // OpenBao dates a leaf back by its role, whatever the authority's own beginning is
    const known = name === 'openbao' ? [BEGINS_BEFORE_ISSUER] : []
    const found = lintCertificate(leaf?.der ?? Buffer.alloc(0), issuer?.der)
    assert.deepEqual(
      found.filter((text) => !known.includes(text)),
      [],
    )
  })

  test(`${name}: a leaf for one usage has that one only`, async (t) => {
    const fixture = await make(t)
    await fixture.authority.prepare(3, window)
    for (const [usages, expected] of [
      [['clientAuth'], [USAGE.clientAuth]],
      [['serverAuth'], [USAGE.serverAuth]],
      [
        ['clientAuth', 'serverAuth'],
        [USAGE.clientAuth, USAGE.serverAuth],
      ],
    ] as const) {
      const chain = await fixture.authority.sign(3, await leafRequest(fixture, { usages }))
      assert.deepEqual([...(parseCertificates(chain, 'chain')[0]?.usages ?? [])].sort(), [...expected].sort())
    }
  })

  test(`${name}: openssl takes the chain, and reads in it what RFC 5280 asks for`, async (t) => {
    const fixture = await make(t)
    const { authority } = fixture
    const held = await authority.prepare(3, window)
    const chain = await authority.sign(3, await leafRequest(fixture))
    const [root = ''] = await authority.roots()
    const untrusted = held.certificate
    for (const purpose of ['sslserver', 'sslclient'])
      assert.equal(opensslVerify(chain, { trusted: root, untrusted }, now, ['-purpose', purpose]), '')
    const text = (pem: string) => openssl(['x509', '-noout', '-text'], pem)
    const [ca, leaf] = [text(held.certificate), text(chain)]
    assert.match(ca, /Key Usage: critical\s+Certificate Sign, CRL Sign\n/)
    assert.match(ca, /Basic Constraints: critical\s+CA:TRUE, pathlen:0\n/)
    assert.match(leaf, /Key Usage: critical\s+Digital Signature\n/)
    assert.match(
      leaf,
      /Extended Key Usage: *\s+TLS Web Server Authentication, TLS Web Client Authentication\n/,
    )
    assert.match(leaf, /Basic Constraints: critical\s+CA:FALSE\n/)
    for (const one of [ca, leaf]) {
      assert.match(one, /Version: 3 /)
      assert.match(one, /Serial Number:\s+(?:[0-9a-f]{2}:){8,19}[0-9a-f]{2}\n/)
      assert.match(one, /Signature Algorithm: ecdsa-with-SHA256/)
      assert.match(one, /Subject Key Identifier/)
      assert.match(one, /Authority Key Identifier/)
      // nobody configured any
      assert.doesNotMatch(one, /CRL Distribution|OCSP|Authority Information Access/)
    }
  })

  test(`${name}: many leaves at once have different serials`, async (t) => {
    const fixture = await make(t)
    await fixture.authority.prepare(3, window)
    const asked = await leafRequest(fixture)
    const chains = await Promise.all(Array.from({ length: 40 }, () => fixture.authority.sign(3, asked)))
    assert.equal(new Set(chains.map((chain) => parseCertificates(chain, 'chain')[0]?.serial)).size, 40)
  })

  test(`${name}: each authority signs with its own key, whichever of them was told to be the signer`, async (t) => {
    const fixture = await make(t)
    const { authority } = fixture
    const made = [await authority.prepare(3, window), await authority.prepare(4, window)]
    for (const active of [3, 4, 4, 3]) {
      await authority.activate(active)
      for (const { epoch, sha256 } of made) {
        const chain = await authority.sign(epoch, await leafRequest(fixture))
        assert.equal(parseCertificates(chain, 'chain')[1]?.sha256, sha256)
      }
    }
  })

  test(`${name}: a deleted authority signs no more, and deleting again is no error`, async (t) => {
    const fixture = await make(t)
    const { authority, reopened } = fixture
    await authority.prepare(3, window)
    const kept = await authority.prepare(4, window)
    await authority.delete(3)
    await authority.delete(3)
    for (const issuer of [authority, reopened()]) {
      assert.deepEqual(await issuer.list(), [kept])
      await assert.rejects(issuer.sign(3, await leafRequest(fixture)), { code: 'ERR_AUTHORITY_MISSING' })
    }
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
  // and the key in it goes with the next removal
  await authority.delete(2)
  assert.deepEqual(await readdir(join(dir, 'authorities')), ['3'])
})

test('embedded: what another issuer removed or made anew in the same directory is noticed', async (t) => {
  const fixture = await embedded(t)
  const { authority, dir } = fixture
  const other = fixture.reopened()
  const before = await other.prepare(3, window)
  assert.deepEqual(await authority.list(), [before])
  await other.delete(3)
  assert.deepEqual(await authority.list(), [])
  const after = await other.prepare(3, window)
  assert.notEqual(after.sha256, before.sha256)
  assert.deepEqual(await authority.list(), [after])
  const [, signer] = parseCertificates(await authority.sign(3, await leafRequest(fixture)), 'chain')
  assert.equal(signer?.sha256, after.sha256)
  // an issuer died while it removed one: its key goes with the next removal
  await mkdir(join(dir, 'authorities', '.gone-2-crash'), { recursive: true })
  await authority.delete(3)
  assert.deepEqual(await readdir(join(dir, 'authorities')), [])
})

test('embedded: issuers that make one root at once make one, and all know it', async (t) => {
  const { authority, reopened } = await embedded(t)
  const stores = [authority, reopened()].map((issuer) => (issuer as EmbeddedAuthority).rootStore)
  const made = await Promise.all(stores.map((store) => store.create({ number: 2, ...window, cross: null })))
  assert.equal(made[0]?.sha256, made[1]?.sha256)
})
