import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { Reporter } from '../../../agent/reporter.ts'
import { usageStatusOf, watchUsage } from '../../../agent/usage.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../../src/identity/identity.ts'
import { parseMaterial } from '../../../src/identity/material.ts'
import { type Follower, SocketCount } from '../../../src/identity/usage.ts'
import { silentLogger } from '../../../src/log.ts'
import { agentStatus } from '../../../src/wire/status.ts'
import { eventually } from '../../support/eventually.ts'
import { genesis, status } from '../../support/rotation-world.ts'
import { makeMaterials } from '../identity/kit.ts'

function counting(type: Follower['type'], name: string, clock?: { now: () => number }) {
  const sockets = new SocketCount({ type, name }, clock)
  const follower: Follower = { type, name, follow: async () => 'moved', usage: () => sockets.usage() }
  return { sockets, follower }
}

describe('what a process tells of sockets on an old leaf', () => {
  let old: IdentitySnapshot
  let present: IdentitySnapshot

  before(async () => {
    const [a, b] = (await makeMaterials(2)).map((material, i) => ({
      ...material,
      leaf: parseMaterial(material).leaf,
      generation: `${i + 1}-1`,
      version: i + 1,
      epoch: i + 7,
    }))
    assert.ok(a && b)
    ;[old, present] = [a, b]
  })

  test('counts by follower and leaf, with the epoch of its authority and the time of the oldest', () => {
    const identity = new HeldIdentity(present)
    let now = 3_000
    const clock = { now: () => now }
    const orders = counting('connection', 'orders', clock)
    const api = counting('server', 'api', clock)
    identity.join(orders.follower)
    identity.join(api.follower)
    orders.sockets.opened(old)
    now = 1_000
    const close = api.sockets.opened(old)
    now = 2_000
    api.sockets.opened(old)
    api.sockets.opened(present)
    const leaf = old.leaf.sha256
    assert.deepEqual(usageStatusOf(identity), [
      { type: 'server', name: 'api', leaf, issuerEpoch: 7, sockets: 2, since: '1970-01-01T00:00:01.000Z' },
      {
        type: 'connection',
        name: 'orders',
        leaf,
        issuerEpoch: 7,
        sockets: 1,
        since: '1970-01-01T00:00:03.000Z',
      },
    ])
    close()
    close()
    assert.equal(usageStatusOf(identity).find(({ name }) => name === 'api')?.sockets, 1)
  })

  test('another generation with the same leaf holds nothing back; one that was put back does', () => {
    const identity = new HeldIdentity(present)
    const { follower, sockets } = counting('connection', 'orders')
    identity.join(follower)
    sockets.opened({ ...present, generation: '2-2', ca: old.ca })
    assert.deepEqual(usageStatusOf(identity), [])
    identity.set(old)
    assert.deepEqual(
      usageStatusOf(identity).map(({ issuerEpoch }) => issuerEpoch),
      [8],
    )
  })

  test('a leaf that is not of this directory has no epoch', () => {
    const identity = new HeldIdentity(present)
    const { follower, sockets } = counting('client', 'billing')
    identity.join(follower)
    const { epoch, ...foreign } = old
    assert.equal(epoch, 7)
    sockets.opened(foreign)
    assert.equal(usageStatusOf(identity)[0]?.issuerEpoch, null)
  })

  test('of a thousand names the record has a few, and counts every socket', () => {
    const identity = new HeldIdentity(present)
    for (let i = 0; i < 1_000; i++) {
      const { follower, sockets } = counting('client', `client ${i}`)
      identity.join(follower)
      sockets.opened(old)
    }
    const usage = usageStatusOf(identity)
    assert.equal(usage.length, 21)
    assert.equal(
      usage.reduce((sum, { sockets }) => sum + sockets, 0),
      1_000,
    )
    assert.equal(usage.find(({ name }) => name === 'others')?.sockets, 980)
  })

  test('what begins and what ends to stand on an old leaf is told by itself, other counts with the refresh', async () => {
    const identity = new HeldIdentity(present)
    const { follower, sockets } = counting('connection', 'orders')
    identity.join(follower)
    const reporter = new Reporter('status', status(genesis(7)), { now: Date.now }, silentLogger)
    const stop = new AbortController()
    const told: number[] = []
    const update = reporter.update.bind(reporter)
    reporter.update = (change) => {
      told.push((change.usage ?? []).reduce((sum, entry) => sum + entry.sockets, 0))
      update(change)
    }
    let time = 0
    const watching = watchUsage(identity, reporter, 10_000, { now: () => time }, stop.signal)
    const closes = [sockets.opened(old), sockets.opened(old)]
    await eventually(() => told.length === 1)
    closes[0]?.()
    time = 9_999
    identity.join(counting('client', 'nobody').follower)
    await assert.rejects(eventually(() => told.length === 2, { timeout: 1_500 }))
    time = 10_000
    await eventually(() => told.length === 2)
    closes[1]?.()
    await eventually(() => told.length === 3)
    assert.deepEqual(told, [2, 1, 0])
    stop.abort()
    await assert.rejects(watching)
  })

  test('a status without usage is one of an older agent: nothing is known to stand on an old leaf', () => {
    const { usage, ...before } = status(genesis(7))
    assert.deepEqual(usage, [])
    assert.deepEqual(agentStatus.parse(before).usage, [])
  })
})
