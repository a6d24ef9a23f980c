import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { SignerStore } from '../../../issuer/signers.ts'
import { generateSigner, signerToPem } from '../../../src/bundle/envelope.ts'
import { followed } from '../../../src/bundle/succession.ts'
import { bundleIn, steadyState } from '../../support/rotation-world.ts'

const passphrase = 'of the key store'

async function founded(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-signers-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const first = await generateSigner()
  await writeFile(join(dir, 'signer.key'), signerToPem(first, passphrase), { mode: 0o600 })
  const open = async () => {
    const store = new SignerStore({ dir, passphrase })
    await store.refresh()
    return store
  }
  return { dir, first, open, bundle: { ...bundleIn(steadyState()), signers: [first.key] } }
}

const kids = (store: SignerStore) => store.held.map(({ key }) => key.kid)

test('two issuers that make the same number get one key, 0600 and encrypted, and both see what the other one does', async (t) => {
  const { dir, open } = await founded(t)
  const [a, b] = await Promise.all([open(), open()])
  await Promise.all([a.create(2, 'ed25519'), b.create(2, 'ed25519')])
  await Promise.all([a.refresh(), b.refresh()])
  assert.deepEqual(kids(a), kids(b))
  assert.equal(a.held.length, 2)
  const file = join(dir, 'signer-2.key')
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.match(await readFile(file, 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/)
  await a.create(2, 'ed25519')
  assert.deepEqual(kids(a), kids(b), 'it was made once')
  await a.delete(1)
  await a.delete(1)
  await b.refresh()
  assert.deepEqual(
    b.held.map(({ number }) => number),
    [2],
  )
  assert.deepEqual(await readdir(dir), ['signer-2.key'])
})

test('the word for a new key is by a signer of the bundle, and the same one each time', async (t) => {
  const { open, first, bundle } = await founded(t)
  const store = await open()
  await store.create(2, 'ml-dsa-65')
  const [one, two] = await store.observe(bundle)
  assert.deepEqual([one?.number, one?.kind, one?.vouched], [1, 'ed25519', null])
  assert.deepEqual([two?.number, two?.kind], [2, 'ml-dsa-65'])
  assert.equal((await store.observe(bundle))[1]?.vouched, two?.vouched)
  const known = await followed({ ...bundle, succession: [two?.vouched ?? ''] }, [first.key])
  assert.deepEqual(known, [first.key, two?.key])
  const foreign = (await generateSigner()).key
  assert.equal((await store.observe({ ...bundle, signers: [foreign] }))[1]?.vouched, null)
})

test('a bundle is signed by each of its signers that is held; without one of them the error says what to copy', async (t) => {
  const { open, bundle } = await founded(t)
  const store = await open()
  await store.create(2, 'ed25519')
  const [one, two] = store.held
  assert.ok(one && two)
  assert.deepEqual(store.of(bundle), [one])
  assert.deepEqual(store.of({ signers: [two.key, one.key] }), [one, two])
  const foreign = (await generateSigner()).key
  assert.throws(() => store.of({ signers: [foreign] }), {
    code: 'ERR_AUTHORITY_MISSING',
    message: /copy signer-\*\.key/,
  })
})

test('a store without a signer, or with another passphrase, is refused at the start', async (t) => {
  const { dir } = await founded(t)
  await assert.rejects(new SignerStore({ dir, passphrase: 'another one' }).refresh(), {
    code: 'ERR_AUTHORITY_LOCKED',
  })
  await assert.rejects(new SignerStore({ dir: join(dir, 'nowhere') }).refresh(), {
    code: 'ERR_AUTHORITY_MISSING',
  })
  await rm(join(dir, 'signer.key'))
  await assert.rejects(new SignerStore({ dir }).refresh(), {
    code: 'ERR_AUTHORITY_MISSING',
    message: /signer\.key/,
  })
})
