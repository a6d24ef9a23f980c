/** The roots of the embedded authority: several at a time, signed across, verified by us and by OpenSSL. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { createRoot, EmbeddedAuthority } from '../../../issuer/authority/embedded.ts'
import { parseCertificate, parseCertificates } from '../../../src/trust/certificate.ts'
import { assertIssuedBy, verifyLeaf } from '../../../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../../../src/trust/csr.ts'
import { issueRoot } from '../../../src/trust/issue.ts'
import { generateKeyPair } from '../../../src/trust/keys.ts'

const HOUR = 3_600_000
const now = Math.floor(Date.now() / 1000) * 1000
const life = { notBefore: now - HOUR, notAfter: now + 1000 * HOUR }
const window = { notBefore: now - HOUR, notAfter: now + 4 * HOUR }

async function store(t: TestContext, passphrase?: string) {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-roots-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const options = { domain: 'test', dir, passphrase }
  await createRoot({ ...options, ...life })
  const open = () => new EmbeddedAuthority(options)
  const authority = open()
  const [old] = await authority.rootStore.held()
  assert.ok(old)
  return { dir, open, authority, roots: authority.rootStore, old }
}

async function leafOf(authority: EmbeddedAuthority, epoch: number): Promise<string> {
  const csr = await parseCsr(await makeCsr(await generateKeyPair(), { subject: 'orders' }))
  const names = { dns: ['orders.internal'], ip: [], uri: ['spiffe://test/orders'] }
  return authority.sign(epoch, { csr, commonName: 'orders', names, ...window })
}

/** What OpenSSL says of a chain with these roots as its only trust. */
async function openssl(dir: string, chain: string, ...roots: string[]): Promise<boolean> {
  const [leaf = '', ...rest] = parseCertificates(chain, 'chain').map(({ pem }) => pem)
  const files = { leaf, untrusted: rest.join(''), roots: roots.join('') }
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, `${name}.pem`), text)
  const at = (name: string) => join(dir, `${name}.pem`)
  const args = [
    'verify',
    '-purpose',
    'sslserver',
    '-CAfile',
    at('roots'),
    '-untrusted',
    at('untrusted'),
    at('leaf'),
  ]
  return promisify(execFile)('openssl', args).then(
    () => true,
    () => false,
  )
}

function ours(chain: string, ...roots: string[]): boolean {
  try {
    verifyLeaf(
      parseCertificates(chain, 'chain'),
      roots.map((root) => parseCertificate(root, 'root')),
      now,
      { usage: 'serverAuth' },
    )
    return true
  } catch {
    return false
  }
}

test('a second root has a key of its own, once, and the first one goes on as it is', async (t) => {
  const { roots, open, old } = await store(t)
  const wanted = { number: 2, ...life, cross: null }
  const [first, second] = await Promise.all([roots.create(wanted), roots.create(wanted)])
  assert.deepEqual(first, second)
  assert.deepEqual(await open().rootStore.held(), [old, first])
  const [a, b] = [parseCertificate(old.certificate, 'old'), parseCertificate(first.certificate, 'new')]
  assert.notEqual(a.spkiSha256, b.spkiSha256)
  assert.notEqual(a.subject, b.subject)
  assert.deepEqual([b.notBefore, b.notAfter], [life.notBefore, life.notAfter])
})

test('an authority is made under the root that is asked for, whatever else is held', async (t) => {
  const { authority, roots, old } = await store(t)
  const fresh = await roots.create({ number: 2, ...life, cross: null })
  for (const [epoch, root] of [
    [1, old],
    [2, fresh],
  ] as const) {
    const { certificate } = await authority.prepare(epoch, window, root.sha256)
    assertIssuedBy(parseCertificate(certificate, 'authority'), parseCertificate(root.certificate, 'root'))
  }
  await assert.rejects(authority.prepare(3, window, 'f'.repeat(64)), { code: 'ERR_AUTHORITY_MISSING' })
})

for (const crossSigned of [false, true]) {
  const how = crossSigned ? 'signed across' : 'side by side'
  test(`old and new trust against old and new leaf, ${how}: ours and OpenSSL agree on all four`, async (t) => {
    const { authority, roots, old, dir } = await store(t)
    const cross = crossSigned ? { root: old.sha256, notAfter: window.notAfter } : null
    const fresh = await roots.create({ number: 2, ...life, cross })
    await authority.prepare(1, window, old.sha256)
    await authority.prepare(2, window, fresh.sha256)
    const leaves = { old: await leafOf(authority, 1), new: await leafOf(authority, 2) }
    const trusts = {
      old: [old.certificate],
      new: [fresh.certificate],
      both: [fresh.certificate, old.certificate],
    }
    for (const [leaf, chain] of Object.entries(leaves)) {
      for (const [trust, anchors] of Object.entries(trusts)) {
        const expected = crossSigned || leaf === trust || trust === 'both'
        assert.equal(ours(chain, ...anchors), expected, `ours: ${leaf} leaf, ${trust} trust`)
        assert.equal(await openssl(dir, chain, ...anchors), expected, `openssl: ${leaf} leaf, ${trust} trust`)
      }
    }
    // nobody has to have the root at all: the authorities of a bundle are anchors themselves
    const authorities = (await authority.list()).map(({ certificate }) => certificate)
    for (const chain of Object.values(leaves)) assert.ok(ours(chain, ...authorities))
  })
}

test('cross-certificates end when they are told to, and are gone from new leaves with the old root', async (t) => {
  const { authority, roots, old, open } = await store(t)
  const fresh = await roots.create({
    number: 2,
    ...life,
    cross: { root: old.sha256, notAfter: window.notAfter },
  })
  await authority.prepare(2, window, fresh.sha256)
  const chain = parseCertificates(await leafOf(authority, 2), 'chain')
  assert.equal(chain.length, 3)
  assert.deepEqual([chain[2]?.notAfter, chain[2]?.pathLength], [window.notAfter, 1])
  assert.equal(parseCertificates(await leafOf(open(), 2), 'chain').length, 3, 'also after a restart')

  await roots.delete(1)
  await roots.delete(1)
  assert.deepEqual(await roots.held(), [fresh])
  assert.deepEqual(await authority.roots(), [fresh.certificate])
  assert.equal(parseCertificates(await leafOf(authority, 2), 'chain').length, 2)
  await roots.create({ number: 3, ...life, cross: null })
  await roots.delete(2)
  assert.deepEqual(
    (await open().rootStore.held()).map(({ number }) => number),
    [3],
  )
})

test('a root without room for another one below it signs none', async (t) => {
  const { roots, dir, open } = await store(t)
  const keyPair = await generateKeyPair()
  // as another tool makes it: authorities below, and nothing between
  const narrow = await issueRoot({ domain: 'test', keyPair, ...life, pathLength: 1 })
  await mkdir(join(dir, 'roots', '2'), { recursive: true })
  await writeFile(join(dir, 'roots', '2', 'root.crt'), narrow)
  await writeFile(
    join(dir, 'roots', '2', 'root.key'),
    keyPair.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    { mode: 0o600 },
  )
  const [, second] = await roots.held()
  const cross = { root: second?.sha256 ?? '', notAfter: window.notAfter }
  await assert.rejects(open().rootStore.create({ number: 3, ...life, cross }), {
    code: 'ERR_SIGN_REFUSED',
    message: /expected a path length of 2 or more to sign another root, found 1/,
  })
  assert.deepEqual(
    (await roots.held()).map(({ number }) => number),
    [1, 2],
    'nothing is left half made',
  )
})

test('keys of roots are 0600, encrypted with a passphrase, and what a crash left half made is no root', async (t) => {
  const { dir, roots, open } = await store(t, 'correct horse')
  await mkdir(join(dir, 'roots', '.new-crash'), { recursive: true })
  await roots.create({ number: 2, ...life, cross: null })
  const key = join(dir, 'roots', '2', 'root.key')
  assert.equal((await stat(key)).mode & 0o777, 0o600)
  assert.equal((await stat(join(dir, 'roots', '2'))).mode & 0o077, 0)
  assert.match(await readFile(key, 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/)
  assert.deepEqual(
    (await open().rootStore.held()).map(({ number }) => number),
    [1, 2],
  )
  await roots.delete(1)
  assert.ok(!(await readdir(dir)).some((name) => name.startsWith('root.')))
})
