import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Acceptance } from '../../../agent/acceptance.ts'
import { type IdentityDirectory, openDirectory } from '../../../src/identity/directory.ts'
import { makeTestDomain } from '../../support/test-domain.ts'

async function enrolled(t: TestContext) {
  const now = Date.now()
  const domain = await makeTestDomain({ now })
  const first = await domain.bundle()
  const dir = await mkdtemp(join(tmpdir(), 'rotor-acceptance-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const directory = await openDirectory(dir)
  t.after(() => directory.close())
  await directory.writeState({
    v: 1,
    domain: domain.domain,
    agent: 'orders',
    highest: { version: first.payload.version, digest: first.digest },
    signers: first.payload.signers,
    roots: first.payload.roots,
    envelope: Buffer.from(first.envelope).toString('utf8'),
    proven: null,
  })
  const open = (): Promise<Acceptance> => Acceptance.open(directory, { now: () => now })
  return { domain, first, directory, open, dir }
}

const stateOf = async (dir: string): Promise<string> => readFile(join(dir, 'state.json'), 'utf8')

test('what was accepted is remembered on disk before accept returns, and a restarted agent refuses anything older', async (t) => {
  const { domain, first, open, dir } = await enrolled(t)
  const second = await domain.bundle({}, { after: first })
  await (await open()).accept(second.envelope)
  assert.equal(JSON.parse(await stateOf(dir)).highest.digest, second.digest)
  const restarted = await open()
  await assert.rejects(restarted.accept(first.envelope), { code: 'ERR_BUNDLE_REPLAYED' })
  assert.equal(restarted.highest.version, second.payload.version)
})

test('the newest bundle is accepted again, because a step after acceptance may have failed', async (t) => {
  const { domain, first, open } = await enrolled(t)
  const second = await domain.bundle({}, { after: first })
  await (await open()).accept(second.envelope)
  const again = await (await open()).accept(second.envelope)
  assert.equal(again.digest, second.digest)
  assert.equal((await (await open()).newest()).digest, second.digest)
})

test('another bundle with the version of the newest one is refused', async (t) => {
  const { domain, first, open } = await enrolled(t)
  const second = await domain.bundle({ reason: 'one' }, { after: first })
  const other = await domain.bundle({ reason: 'other' }, { after: first })
  const acceptance = await open()
  await acceptance.accept(second.envelope)
  await assert.rejects(acceptance.accept(other.envelope), { code: 'ERR_BUNDLE_REPLAYED' })
})

test('a refused bundle changes nothing on disk', async (t) => {
  const { first, open, dir } = await enrolled(t)
  const before = await stateOf(dir)
  const acceptance = await open()
  for (const envelope of [Buffer.from('garbage'), Buffer.alloc(300_000, 0x20), first.envelope.slice(0, -9)]) {
    await assert.rejects(acceptance.accept(envelope))
  }
  assert.equal(await stateOf(dir), before)
})

test('an agent that was never enrolled does not start', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-acceptance-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const directory: IdentityDirectory = await openDirectory(dir)
  t.after(() => directory.close())
  await assert.rejects(Acceptance.open(directory, { now: () => 0 }), { code: 'ERR_IDENTITY_MISSING' })
})

test('an agent that slept through hundreds of versions takes the newest one at once, and only by a signer it knows', async (t) => {
  const { domain, first, open } = await enrolled(t)
  const stranger = await makeTestDomain({ now: Date.now() })
  const previous = 'a'.repeat(64)
  const newest = await domain.bundle({ version: 500, previous })
  const forged = await stranger.bundle({ version: 501, previous })
  const acceptance = await open()
  await assert.rejects(acceptance.accept(forged.envelope), { code: 'ERR_BUNDLE_SIGNATURE' })
  assert.equal(acceptance.highest.version, first.payload.version)
  assert.equal((await acceptance.accept(newest.envelope)).payload.version, 500)
  await assert.rejects((await open()).accept(first.envelope), { code: 'ERR_BUNDLE_REPLAYED' })
})
