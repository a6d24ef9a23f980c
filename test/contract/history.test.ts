/** What every adapter of the history of bundles promises: files beside the keys, and a KV engine of a real OpenBao. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { FileHistory } from '../../issuer/history/files.ts'
import type { BundleHistory } from '../../issuer/history/history.ts'
import { keepFrom } from '../../issuer/history/keep.ts'
import { VaultHistory } from '../../issuer/history/vault.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import { type EngineDomain, TestEngine } from '../support/engine.ts'
import { at, bundleIn, convergingState, HOUR, steadyState, withPayload } from '../support/rotation-world.ts'

const envelope = (text: string): Uint8Array => Buffer.from(JSON.stringify({ payload: text, signatures: [] }))
const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString()

interface Fixture {
  history: BundleHistory
  /** The same memory, opened anew. */
  reopened: () => BundleHistory
}

function promises(name: string, open: () => Fixture): void {
  test(`${name}: an empty history has nothing, and forgetting is no error`, async () => {
    const { history } = open()
    assert.deepEqual([await history.list(), await history.newest(), await history.read(1)], [[], null, null])
    await history.prune(10)
  })

  test(`${name}: what is stored is there after a restart, byte by byte, the highest number first`, async () => {
    const { history, reopened } = open()
    for (const version of [2, 10, 9]) {
      const bytes = envelope(`version ${version}`)
      assert.equal(text(await history.store(version, bytes)), text(bytes))
    }
    const again = reopened()
    assert.deepEqual(await again.list(), [2, 9, 10])
    assert.equal(text((await again.newest())?.envelope ?? null), text(envelope('version 10')))
    assert.equal(text(await again.read(9)), text(envelope('version 9')))
  })

  test(`${name}: a version is never replaced; who stores it again gets the first one`, async () => {
    const { history, reopened } = open()
    await history.store(11, envelope('first'))
    assert.equal(text(await reopened().store(11, envelope('second'))), text(envelope('first')))
    assert.equal(text(await history.read(11)), text(envelope('first')))
    // two issuers at once, and whoever was first, both go on with that one
    const both = await Promise.all([reopened().store(12, envelope('a')), history.store(12, envelope('b'))])
    const kept = text(await history.read(12))
    assert.deepEqual(both.map(text), [kept, kept])
  })

  test(`${name}: pruning forgets what is older, never the newest`, async () => {
    const { history, reopened } = open()
    await history.prune(11)
    assert.deepEqual(await reopened().list(), [11, 12])
    await history.prune(99)
    await history.prune(99)
    assert.deepEqual(await reopened().list(), [12])
  })

  test(`${name}: a bundle of the largest size is kept whole`, async () => {
    const { history } = open()
    const large = envelope('x'.repeat(250_000))
    await history.store(13, large)
    assert.equal(text(await history.read(13)), text(large))
  })
}

describe('files', () => {
  let dir = ''
  const open = () => new FileHistory(join(dir, 'bundles'))
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rotor-history-'))
  })
  after(() => rm(dir, { recursive: true, force: true }))
  promises('files', () => ({ history: open(), reopened: open }))

  test('files: nobody else reads them', async () => {
    assert.equal((await stat(join(dir, 'bundles'))).mode & 0o077, 0)
    assert.equal((await stat(join(dir, 'bundles', '13.jws'))).mode & 0o077, 0)
  })

  test('files: what a crash left half written goes when old ones are forgotten', async () => {
    await writeFile(join(dir, 'bundles', '.tmp-file-crash'), 'half')
    await open().prune(0)
    assert.ok(!(await readdir(join(dir, 'bundles'))).includes('.tmp-file-crash'))
  })
})

describe('a KV engine', { timeout: 120_000 }, () => {
  let engine: TestEngine | undefined
  let domain: EngineDomain
  before(async () => {
    engine = await TestEngine.start()
    domain = await engine.domain('history')
  })
  after(() => engine?.[Symbol.asyncDispose]())
  const open = () =>
    new VaultHistory({
      client: domain.client,
      mount: domain.config.mounts.kv,
      prefix: domain.config.kvPrefix,
      domain: 'history',
    })
  promises('a KV engine', () => ({ history: open(), reopened: open }))

  test('a KV engine: with the rights of an issuer, and none for another domain', async () => {
    const { client, config } = domain
    const other = new VaultHistory({
      client,
      mount: config.mounts.kv,
      prefix: config.kvPrefix,
      domain: 'other',
    })
    await assert.rejects(other.store(1, envelope('stolen')), { code: 'ERR_AUTHORITY_DENIED' })
    await assert.rejects(other.list(), { code: 'ERR_AUTHORITY_DENIED' })
  })
})

test('bundles are kept while their signer is trusted or they are younger than an authority may get', async () => {
  const now = bundleIn(convergingState()) // 102 to 105 are trusted
  const kept = new Map<number, BundlePayload | null>([
    [1, bundleIn(withPayload(steadyState(), { epoch: 100, issuedAt: new Date(at(100)).toISOString() }))],
    [2, null],
    [3, bundleIn(withPayload(steadyState(), { epoch: 101, issuedAt: new Date(at(101)).toISOString() }))],
    [4, bundleIn(withPayload(steadyState(), { epoch: 102, issuedAt: new Date(at(102)).toISOString() }))],
  ])
  const read = async (version: number) => kept.get(version) ?? null
  const from = (at: number) => keepFrom([...kept.keys()], read, now, at)
  assert.equal(await from(at(105)), 4, 'epoch 102 is trusted; 101 is not, and its bundle is four hours old')
  assert.equal(await from(at(105) - HOUR / 2), 3, 'younger than four hours')
  assert.equal(await keepFrom([1, 2], read, now, at(110)), now.version)
  assert.equal(await keepFrom([], read, now, at(110)), now.version)
})
