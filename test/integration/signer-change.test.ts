/**
 * Bundles get a new signer while everything runs, with two issuers on one key store: 1. the leader dies between commit and
 * publication, and the other one goes on; 2. nothing ends before the agent that is away has followed; 3. the next leader dies
 * before it deletes the old key, and the other one does; 4. a node that slept through all of it needs one bundle, no token.
 */
import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readAgentConfig, readBundle, startAgent } from '../../agent/index.ts'
import type { Child } from '../../demo/child.ts'
import { editJson } from '../../demo/domain.ts'
import { openEnvelope } from '../../src/bundle/envelope.ts'
import { silentLogger } from '../../src/log.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const NEVER = new AbortController().signal

test('the signer changes by old and new signature, past two crashes, an agent that is away, and one that sleeps', {
  timeout: 180_000,
}, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-signer-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const passphraseFile = join(dir, 'passphrase')
  await writeFile(passphraseFile, 'of the key store', { mode: 0o600 })
  const issuers = ['issuer', 'issuer-b']
  await using domain = await RunningDomain.start({ issuers, passphraseFile, services: [{ name: 'orders' }] })
  const { issuerConfig } = domain.local.founded
  await editJson(issuerConfig, { lease: '2s' })
  const keys = join(domain.local.dir, 'issuer', 'keys')
  const signerFiles = async () => (await readdir(keys)).filter((name) => name.startsWith('signer')).sort()
  const dying = async (point: string): Promise<Child> => {
    const args = ['issuer', issuerConfig, domain.agentConfig('issuer'), point]
    const child = await domain.local.start(`victim-${point}`, 'test/support/crashing-node', args)
    await child.started('started', NEVER, PATIENCE)
    return child
  }
  const nodes = [...issuers, 'nats-1', 'orders']
  for (const name of ['nats-1', 'orders']) await domain.startAgent(name)
  const first = await dying('commit after introduce-signer')
  await eventually(async () => (await domain.overview()).lease?.holder === 'issuer', { timeout: PATIENCE })
  await domain.startIssuer({}, {}, 'issuer-b')
  const before = await domain.settled(nodes)
  const orders = await readAgentConfig(domain.agentConfig('orders'))
  await domain.stopAgent('orders')
  await cp(orders.identity, join(dir, 'asleep'), { recursive: true, verbatimSymlinks: true })

  // 1.
  await domain.order('a drill', 'signer-rotate')
  assert.equal(await first.exited, 'SIGKILL')
  const held = await eventually(
    async () => {
      const now = await domain.overview()
      return now.reason === 'agents-do-not-know-signer' && now.lease?.holder === 'issuer-b' ? now : null
    },
    { timeout: PATIENCE },
  )
  assert.deepEqual(held.signers.map(({ kid }) => kid).slice(1), [before.signers[0]?.kid])
  assert.ok(held.waitingFor.some(({ name }) => name === 'orders'))
  assert.deepEqual(await signerFiles(), ['signer-2.key', 'signer.key'])
  const overlap = (await domain.history()).at(-1)
  for (const key of overlap?.payload.signers ?? []) {
    assert.ok(await openEnvelope(overlap?.envelope ?? new Uint8Array()).verify(key), key.kid)
  }
  const { stdout } = await rotor('signer', 'status', '--config', issuerConfig)
  assert.match(stdout, /new: agents are learning it[\s\S]*waits for orders: reports version/)

  // 2. and 3.
  await domain.stopIssuer('issuer-b')
  const second = await dying('effect before delete-signer')
  await domain.startAgent('issuer-b')
  await domain.startAgent('orders')
  assert.equal(await second.exited, 'SIGKILL')
  await domain.stopAgent('issuer-b')
  await domain.startIssuer({}, {}, 'issuer-b')
  await domain.startIssuer()
  const done = await domain.settled(nodes, ({ signers }) => signers.length === 1)
  assert.deepEqual(done.signers, held.signers.slice(0, 1))
  await eventually(async () => (await signerFiles()).join() === 'signer-2.key', { timeout: PATIENCE })
  const newest = (await domain.history()).at(-1)
  assert.equal(newest?.payload.signers.length, 1)

  // 4. what is kept beside the keys is as good as what `rotor bundle export` writes
  await domain.stopAgent('orders')
  await rm(orders.identity, { recursive: true })
  await cp(join(dir, 'asleep'), orders.identity, { recursive: true, verbatimSymlinks: true })
  const bundle = await readBundle(join(keys, 'bundles', `${done.version}.jws`))
  await using _ = await startAgent({ config: orders, logger: silentLogger, bundle })
  await domain.settled(nodes)
  await domain.rotate(nodes)
  assert.deepEqual(chainProblems(await domain.history()), [])
})
