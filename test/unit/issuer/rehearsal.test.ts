import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createRoot, EmbeddedAuthority } from '../../../issuer/authority/embedded.ts'
import { rehearse } from '../../../issuer/loop/rehearsal.ts'
import type { HeldAuthority } from '../../../src/rotation/state.ts'
import { epochEnd, makeSchedule } from '../../../src/schedule.ts'
import { formatInstant } from '../../../src/time.ts'
import type { AuthorityStatus, BundlePayload } from '../../../src/wire/bundle.ts'

const HOUR = 3_600_000
const now = Date.now()
const schedule = makeSchedule({ epochZero: now - HOUR / 2, epochDuration: HOUR })
const life = { notBefore: now - HOUR, notAfter: now + 1000 * HOUR }
const spiffeId = 'spiffe://test/issuer'

/** Epoch 0 signs under the old root; epoch 1 is made under the new one. */
async function domain(t: TestContext, crossSigned: boolean) {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-rehearsal-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  await createRoot({ domain: 'test', dir, ...life })
  const authority = new EmbeddedAuthority({ domain: 'test', dir })
  const [old] = await authority.rootStore.held()
  assert.ok(old)
  const cross = crossSigned ? { root: old.sha256, notAfter: now + 4 * HOUR } : null
  const fresh = await authority.rootStore.create({ number: 2, ...life, cross })
  const window = (epoch: number) => ({ notBefore: now - HOUR, notAfter: epochEnd(schedule, epoch) })
  const first = await authority.prepare(0, window(0), old.sha256)
  const next = await authority.prepare(1, window(1), fresh.sha256)
  const [oldRoot, newRoot] = [old.certificate, fresh.certificate]
  return { authority, oldRoot, newRoot, first, next }
}

function bundle(
  version: number,
  roots: readonly string[],
  authorities: readonly [HeldAuthority, AuthorityStatus][],
): BundlePayload {
  return {
    v: 1,
    domain: 'test',
    version,
    epoch: 0,
    issuedAt: formatInstant(now),
    expiresAt: formatInstant(now + HOUR),
    previous: null,
    reason: 'a test',
    authorities: authorities.map(([{ epoch, certificate, sha256 }, status]) => ({
      epoch,
      status,
      certificate,
      sha256,
    })),
    roots: [...roots],
    signers: [],
    schedule: { ...schedule, epochZero: formatInstant(schedule.epochZero) },
  }
}

test('every combination that has to work does, when the root was introduced before', async (t) => {
  const { authority, oldRoot, newRoot, first, next } = await domain(t, false)
  const results = await rehearse({
    authority,
    spiffeId,
    before: bundle(1, [newRoot, oldRoot], [[first, 'active']]),
    after: bundle(
      2,
      [newRoot, oldRoot],
      [
        [first, 'active'],
        [next, 'prepared'],
      ],
    ),
    next: 1,
    now,
  })
  assert.deepEqual(
    results.map(({ trust, leaf, problem }) => `${leaf} leaf, ${trust}: ${problem ?? 'ok'}`),
    [
      'old leaf, old: authorities: ok',
      'old leaf, new: authorities: ok',
      'new leaf, new: authorities: ok',
      'old leaf, old: root: ok',
      'old leaf, new: root: ok',
      'new leaf, new: root: ok',
      'new leaf, old: root: ok',
    ],
  )
})

test('with roots that signed each other, each leaf verifies with either root alone', async (t) => {
  const { authority, oldRoot, newRoot, first, next } = await domain(t, true)
  const results = await rehearse({
    authority,
    spiffeId,
    before: bundle(1, [newRoot, oldRoot], [[first, 'active']]),
    after: bundle(
      2,
      [newRoot, oldRoot],
      [
        [first, 'active'],
        [next, 'prepared'],
      ],
    ),
    next: 1,
    now,
  })
  const alone = results.filter(({ trust }) => trust.startsWith('only'))
  assert.deepEqual(
    alone.map(({ trust, leaf, problem }) => [trust, leaf, problem]),
    [
      ['only root 1', 'old', null],
      ['only root 1', 'new', null],
      ['only root 2', 'old', null],
      ['only root 2', 'new', null],
    ],
  )
})

test('an authority under a root that nobody knows yet is not published, and the message says who would fail', async (t) => {
  const { authority, oldRoot, newRoot, first, next } = await domain(t, false)
  const before = bundle(1, [oldRoot], [[first, 'active']])
  const authorities: [HeldAuthority, AuthorityStatus][] = [
    [first, 'active'],
    [next, 'prepared'],
  ]
  const late = {
    authority,
    spiffeId,
    before,
    after: bundle(2, [newRoot, oldRoot], authorities),
    next: 1,
    now,
  }
  await assert.rejects(rehearse(late), {
    code: 'ERR_REHEARSAL_FAILED',
    message: /^bundle 2 is not published.*: new leaf with trust in old: root: /,
  })
  await assert.rejects(rehearse({ ...late, after: bundle(2, [newRoot], authorities) }), {
    code: 'ERR_REHEARSAL_FAILED',
    message: /old leaf with trust in new: root: /,
  })
})

test('an authority that can not sign is not published, and one that signed and lost its key stops nothing', async (t) => {
  const { authority, oldRoot, newRoot, first, next } = await domain(t, false)
  const before = bundle(1, [newRoot, oldRoot], [[first, 'active']])
  const after = bundle(
    2,
    [newRoot, oldRoot],
    [
      [first, 'active'],
      [next, 'prepared'],
    ],
  )
  const options = { authority, spiffeId, before, after, next: 1, now }
  await authority.delete(0)
  const results = await rehearse(options)
  assert.deepEqual([...new Set(results.map(({ leaf }) => leaf))], ['new'])
  await authority.delete(1)
  await assert.rejects(rehearse(options), { code: 'ERR_AUTHORITY_MISSING' })
})
