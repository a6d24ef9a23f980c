import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { followerTarget } from '../../../agent/targets/follower.ts'
import type { TargetContext } from '../../../agent/targets/target.ts'
import { RotorError } from '../../../src/errors.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../../src/identity/identity.ts'
import { parseMaterial } from '../../../src/identity/material.ts'
import type { Follower } from '../../../src/identity/usage.ts'
import { makeMaterials } from '../identity/kit.ts'

const follower = (follow: Follower['follow']): Follower => ({
  type: 'connection',
  name: 'orders',
  follow,
  usage: () => [],
})

describe('a follower as a target', () => {
  let identity: HeldIdentity
  let snapshot: IdentitySnapshot

  before(async () => {
    const [material] = await makeMaterials(1)
    assert.ok(material)
    snapshot = { ...material, leaf: parseMaterial(material).leaf, generation: '1-1', version: 1 }
    identity = new HeldIdentity(snapshot)
  })

  // A follower asks nothing of the agent's connection.
  const context = (signal = new AbortController().signal): TargetContext => ({
    identity: snapshot,
    get nc(): never {
      throw new Error('not asked for')
    },
    dial: () => assert.fail('not asked for'),
    signal,
  })

  test('is asked to follow, and its words are the evidence', async () => {
    const asked: IdentitySnapshot[] = []
    const target = followerTarget(
      follower(async (next) => {
        asked.push(next)
        return 'moved in 12 ms'
      }),
      identity,
    )
    await target.check(context().signal)
    await target.notify(context())
    assert.deepEqual(asked, [snapshot])
    assert.deepEqual(await target.prove(context()), {
      type: 'connection',
      name: 'orders',
      ok: true,
      evidence: 'moved in 12 ms',
      fingerprint: snapshot.leaf.sha256,
    })
    assert.equal(target.exclusive, false)
  })

  test('that fails is a failed notification with its name; a code of its own is kept', async () => {
    const broken = follower(async () => {
      throw new Error('refused')
    })
    const leave = identity.join(broken)
    await assert.rejects(followerTarget(broken, identity).notify(context()), {
      code: 'ERR_NOTIFY_FAILED',
      message: 'connection orders: refused',
    })
    leave()
    const coded = follower(async () => {
      throw new RotorError('ERR_PROBE_REFUSED', 'the server does not take it')
    })
    const leaveToo = identity.join(coded)
    await assert.rejects(followerTarget(coded, identity).notify(context()), { code: 'ERR_PROBE_REFUSED' })
    leaveToo()
  })

  test('that is closed while it is asked is no failure', async () => {
    const closing = follower(async () => {
      leave()
      throw new Error('closed')
    })
    const leave = identity.join(closing)
    const target = followerTarget(closing, identity)
    await target.notify(context())
    const { ok, evidence, fingerprint } = await target.prove(context())
    assert.deepEqual(
      { ok, evidence, fingerprint },
      { ok: true, evidence: 'it was closed meanwhile', fingerprint: undefined },
    )
  })

  test('that never answers is given up, and told so by its signal', { timeout: 5_000 }, async () => {
    let told: unknown
    const hanging = follower((_, signal) => {
      signal.addEventListener('abort', () => {
        told = signal.reason
      })
      return new Promise(() => {})
    })
    identity.join(hanging)
    await assert.rejects(followerTarget(hanging, identity, 20).notify(context()), {
      code: 'ERR_NOTIFY_FAILED',
      message: 'connection orders: it did not follow within 20ms',
    })
    assert.ok(RotorError.is(told))
    const stop = new AbortController()
    const notifying = followerTarget(hanging, identity).notify(context(stop.signal))
    stop.abort(new Error('the agent stops'))
    await assert.rejects(notifying, /the agent stops/)
  })
})
