/**
 * A handoff that is refused, or disturbed at one of its steps: the service goes on, its status says why it was not
 * moved, and the next good material is taken.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  type Authenticator,
  type NatsConnection,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { eventually } from '../support/eventually.ts'
import {
  IMPATIENT,
  type MovingServer,
  type Service,
  startMovingServer,
  startService,
} from '../support/moving.ts'
import type { ServerProxy } from '../support/proxy.ts'
import { at, CUT, OVERLAP } from '../support/steps.ts'
import { RELEASES } from '../support/test-cluster.ts'
import { makeGenerations } from '../support/tls-generations.ts'
import { RATE, Traffic, type TrafficReport } from '../support/traffic.ts'

const WHOLE = { lost: 0, duplicated: 0, reordered: 0, corrupt: 0 }

type Flow = Exclude<keyof TrafficReport, 'failed'>
const NONE: Readonly<Record<Flow, number>> = { plain: 0, queue: 0, out: 0 }

/** Somebody looked at the new material and did not take it: an issuer counts that against a rotation. */
const REFUSED = [false, 'ERR_HANDOFF_FAILED']
/** Nobody looked at it. */
const LOST = [false, 'ERR_NATS_UNAVAILABLE']

/** @param lost how many messages may be; with any, also requests may have failed */
function assertWhole(report: TrafficReport, lost = NONE): void {
  if (lost === NONE) assert.deepEqual(report.failed, {}, 'requests failed')
  for (const flow of ['plain', 'queue', 'out'] as const) {
    const { lost: missing, duplicated, reordered, corrupt } = report[flow]
    assert.ok(missing <= lost[flow], `${flow}: ${missing} lost, expected ${lost[flow]} at most`)
    assert.deepEqual({ lost: 0, duplicated, reordered, corrupt }, WHOLE, flow)
  }
}

/** A connection that is cut takes along what is under way on it and on no other; plain messages come on both. */
const UNDER_WAY = { plain: 0, queue: 4, out: 4 }

/** To the service, what fits into the longest pause, if all that was lost was lost in one. */
function inOneGap({ plain }: TrafficReport): typeof NONE {
  const most = (plain.longestGapMs * RATE) / 1000
  return { plain: Math.ceil(most) + 4, queue: Math.ceil(most / 10) + 2, out: 0 }
}

/** One connection, counted, and all of the service runs. */
async function assertSound(
  { nc, follower }: Service,
  proxy: ServerProxy,
  peer: NatsConnection,
  on: IdentitySnapshot,
): Promise<void> {
  await eventually(() => proxy.open.length === 1)
  const usage = follower.usage().map(({ leaf, sockets }) => ({ leaf, sockets }))
  assert.deepEqual(usage, [{ leaf: on.leaf.sha256, sockets: 1 }])
  const traffic = await Traffic.start(nc, peer, { subject: 'sound' })
  assertWhole(await traffic.finish())
}

for (const release of RELEASES) {
  describe(`a handoff that is refused (${release})`, () => {
    let moving: MovingServer
    let peer: NatsConnection
    before(async () => {
      moving = await startMovingServer(release)
      peer = await moving.peer()
    })
    after(async () => await moving[Symbol.asyncDispose]())

    const strange = async () => {
      const other = await makeGenerations()
      return await other.make(other.newer, [other.newer])
    }
    const refusals: Record<string, { bad: () => Promise<IdentitySnapshot>; reason: RegExp }> = {
      'the new trust does not know the server': {
        bad: async () => ({ ...moving.second, ca: (await strange()).ca }),
        reason: /unable to verify|unable to get/,
      },
      'the server does not know who issued the new leaf': {
        bad: async () => ({ ...(await strange()), ca: moving.first.ca }),
        reason: /refused the new certificate: TLS alert: (unknown ca|bad certificate)$/,
      },
      'the new key is that of another leaf': {
        bad: async () => ({ ...moving.second, key: moving.first.key }),
        reason: /key values mismatch/,
      },
    }
    for (const [what, { bad, reason }] of Object.entries(refusals)) {
      test(`${what}: the service goes on, and the next good material is taken`, async () => {
        const { wire, first, second } = moving
        await using service = await startService(wire, first)
        const traffic = await Traffic.start(service.nc, peer)
        const event = await service.move(await bad())
        assert.deepEqual([event.ok, event.code], REFUSED)
        assert.match(event.reason ?? '', reason)
        await eventually(() => wire.open.length === 1)
        assert.equal(service.follower.usage()[0]?.leaf, first.leaf.sha256)
        const next = await service.move(second)
        assert.deepEqual([next.ok, next.mode, next.sameServer], [true, 'handoff', true])
        assertWhole(await traffic.finish())
        await assertSound(service, wire, peer, second)
      })
    }

    test('a dial that is not answered is given up in time', async () => {
      const { wire, first, second } = moving
      await using service = await startService(wire, first, IMPATIENT)
      const traffic = await Traffic.start(service.nc, peer)
      wire.onLink = (link) => link.stall()
      const event = await service.move(second)
      assert.deepEqual([event.ok, event.code], LOST)
      assert.match(event.reason ?? '', /no connection within 1500 ms/)
      await eventually(() => wire.open.length === 1)
      wire.calm()
      assert.equal((await service.move(second)).ok, true)
      assertWhole(await traffic.finish())
      await assertSound(service, wire, peer, second)
    })

    test('a dial that is cut is tried again, until it moves', async () => {
      const { wire, first, second } = moving
      await using service = await startService(wire, first, { handoff: { spread: 0 } })
      const traffic = await Traffic.start(service.nc, peer)
      let cuts = 0
      wire.onLink = (link) => {
        cuts += 1
        if (cuts <= 2) link.cut()
      }
      service.identity.set(second)
      await eventually(() => service.events.some(({ ok }) => ok))
      wire.calm()
      assert.deepEqual(
        service.events.map(({ ok }) => ok),
        [false, false, true],
      )
      assertWhole(await traffic.finish())
      await assertSound(service, wire, peer, second)
    })
  })

  describe(`a server that knows users (${release})`, () => {
    const PASSWORD = 'secret'
    const USERS = `authorization { users: [
      { user: all, password: ${PASSWORD} }
      { user: deaf, password: ${PASSWORD}, permissions: { subscribe: { deny: ["traffic.plain"] } } }
    ] }`
    let moving: MovingServer
    let peer: NatsConnection
    before(async () => {
      moving = await startMovingServer(release, USERS)
      peer = await moving.peer({ authenticator: usernamePasswordAuthenticator('all', PASSWORD) })
    })
    after(async () => await moving[Symbol.asyncDispose]())

    const refusals = {
      'refuses the user': { user: 'nobody', reason: /Authorization Violation/ },
      'refuses a subscription': { user: 'deaf', reason: /Permissions Violation.*"traffic\.plain"/ },
    }
    for (const [what, { user, reason }] of Object.entries(refusals)) {
      test(`that ${what} of the new connection: the service goes on, also as it is allowed again`, async () => {
        const { wire, first, second } = moving
        let name = 'all'
        const authenticator: Authenticator = (nonce) => usernamePasswordAuthenticator(name, PASSWORD)(nonce)
        await using service = await startService(wire, first, { authenticator })
        const traffic = await Traffic.start(service.nc, peer)
        name = user
        const event = await service.move(second)
        assert.deepEqual([event.ok, event.code], REFUSED)
        assert.match(event.reason ?? '', reason)
        await eventually(() => wire.open.length === 1)
        name = 'all'
        assert.equal((await service.move(second)).ok, true)
        assertWhole(await traffic.finish())
        await assertSound(service, wire, peer, second)
      })
    }
  })

  describe(`a handoff that is disturbed (${release})`, () => {
    let moving: MovingServer
    let peer: NatsConnection
    before(async () => {
      moving = await startMovingServer(release)
      peer = await moving.peer()
    })
    after(async () => await moving[Symbol.asyncDispose]())

    const hurts = {
      cut: { words: 'is cut', reason: /the server closed the connection|the new connection was lost/ },
      stall: { words: 'says no more', reason: /no PONG within 1500 ms/ },
    } as const
    for (const [hurt, { words, reason }] of Object.entries(hurts).slice(
      0,
      release === 'nats-server' ? 2 : 1,
    )) {
      for (const step of OVERLAP) {
        test(`when ${step}, the new connection ${words}: the service loses nothing`, async () => {
          const { proxy, first, second } = moving
          await using service = await startService(proxy, first, hurt === 'cut' ? {} : IMPATIENT)
          const traffic = await Traffic.start(service.nc, peer)
          const { reached } = at(proxy, step, (_, link) => (hurt === 'cut' ? link.cut() : link.stall()))
          const moved = service.move(second)
          await reached(moved)
          const event = await moved
          // a server that hangs up on our certificate may do no more than that, too
          const mayRefuse = hurt === 'cut' && step === 'the second says who it is'
          assert.deepEqual([event.ok, event.code], mayRefuse ? REFUSED : LOST)
          assert.match(event.reason ?? '', reason)
          proxy.calm()
          await eventually(() => proxy.open.length === 1)
          assert.equal((await service.move(second)).ok, true)
          // as a member of the group, the new one had its share while it was silent
          const share = hurt === 'stall' && step === OVERLAP.at(-1)
          assertWhole(await traffic.finish(), share ? { ...NONE, queue: RATE / 10 } : NONE)
          await assertSound(service, proxy, peer, second)
        })
      }

      for (const step of CUT) {
        test(`when ${step}, the new connection ${words}: the service goes back to the old one`, async () => {
          const { proxy, first, second } = moving
          await using service = await startService(proxy, first, hurt === 'cut' ? {} : IMPATIENT)
          const traffic = await Traffic.start(service.nc, peer)
          const { reached } = at(proxy, step, (_, link) => (hurt === 'cut' ? link.cut() : link.stall()))
          const moved = service.move(second)
          await reached(moved)
          const event = await moved
          assert.deepEqual([event.ok, event.code], LOST)
          assert.match(event.reason ?? '', reason)
          proxy.calm()
          await eventually(() => proxy.open.length === 1)
          assert.equal(service.follower.usage()[0]?.leaf, first.leaf.sha256)
          assert.equal((await service.move(second)).ok, true)
          // as with any connection that ends, what was on its way by it
          const report = await traffic.finish()
          assertWhole(report, inOneGap(report))
          await assertSound(service, proxy, peer, second)
        })
      }
    }

    test('the old connection does not answer: no other try before it does, and its late answer is not lost', async () => {
      const { proxy, first, second } = moving
      await using service = await startService(proxy, first, IMPATIENT)
      const { nc } = service
      const seen: string[] = []
      nc.subscribe('late', { callback: () => void seen.push('message') })
      await nc.flush()
      const { reached } = at(proxy, 'the first is asked what it delivered', (old) => old.down.stall())
      const moved = service.move(second)
      await reached(moved)
      const stalled = await moved
      assert.match(stalled.reason ?? '', /no PONG within 1500 ms on the connection in use/)
      assert.match((await service.move(second)).reason ?? '', /since the last handoff/)
      peer.publish('late')
      await peer.flush()
      const flushed = nc.flush().then(() => seen.push('flushed'))
      proxy.calm()
      await flushed
      assert.deepEqual(seen, ['message', 'flushed'])
      assert.equal((await service.move(second)).ok, true)
      await assertSound(service, proxy, peer, second)
    })

    for (const step of CUT) {
      test(`when ${step}, the old connection is cut: the service goes on with the new one`, async () => {
        const { proxy, first, second } = moving
        await using service = await startService(proxy, first)
        const traffic = await Traffic.start(service.nc, peer)
        const { reached } = at(proxy, step, (link) => link.cut())
        const moved = service.move(second)
        await reached(moved)
        assert.equal((await moved).ok, true)
        const report = await traffic.finish()
        assertWhole(report, UNDER_WAY)
        const failed = Object.values(report.failed).reduce((sum, count) => sum + count, 0)
        assert.ok(failed <= UNDER_WAY.out, `${failed} requests failed`)
        await assertSound(service, proxy, peer, second)
      })
    }

    for (const step of OVERLAP) {
      test(`when ${step}, the old connection is cut: the service is on the new leaf`, async () => {
        const { proxy, first, second } = moving
        await using service = await startService(proxy, first)
        const traffic = await Traffic.start(service.nc, peer)
        const { reached } = at(proxy, step, (link) => link.cut())
        const moved = service.move(second)
        await reached(moved)
        const { ok, reason } = await moved
        if (!ok) assert.match(reason ?? '', /the connection was lost|the connection in use was closed/)
        await eventually(() => service.follower.usage()[0]?.leaf === second.leaf.sha256)
        const { plain, queue, out } = await traffic.finish()
        assert.deepEqual(
          [plain, queue, out].map(({ duplicated }) => duplicated),
          [0, 0, 0],
        )
        await assertSound(service, proxy, peer, second)
      })
    }

    for (const step of ['the second subscribes', 'the first unsubscribes'] as const) {
      test(`when ${step}, the server is killed: the service comes back on the new leaf`, async () => {
        const { proxy, first, second } = moving
        await using service = await startService(proxy, first)
        const traffic = await Traffic.start(service.nc, peer)
        const { reached } = at(proxy, step, () => void moving.kill())
        const moved = service.move(second)
        await reached(moved)
        const event = await moved
        assert.deepEqual([event.ok, event.code], LOST)
        assert.match(event.reason ?? '', /connection was lost|the server closed the connection/)
        await moving.kill()
        await moving.restart()
        await eventually(() => service.follower.usage()[0]?.leaf === second.leaf.sha256)
        await eventually(async () => await peer.rtt())
        const { plain, queue, out } = await traffic.finish()
        assert.deepEqual(
          [plain, queue, out].map(({ duplicated }) => duplicated),
          [0, 0, 0],
        )
        await assertSound(service, proxy, peer, second)
      })
    }
  })
}
