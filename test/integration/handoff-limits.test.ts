/** What a handoff does not do: remember without bound, take what is no connection, or mix two sources of material. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { NatsConnection } from '@nats-io/transport-node'
import { adopt, connect, type RotorConnectionOptions } from '../../src/connection/connect.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { eventually } from '../support/eventually.ts'
import { type MovingServer, startMovingServer, startService } from '../support/moving.ts'
import { at, type Step } from '../support/steps.ts'

let moving: MovingServer
let peer: NatsConnection
before(async () => {
  moving = await startMovingServer()
  peer = await moving.peer()
})
after(async () => await moving[Symbol.asyncDispose]())

describe('messages that pile up before the cut', () => {
  const KIB = 1024
  const small = { limit: 64 * KIB, size: KIB, count: 200 }
  /** Where they are counted, and where they are held. */
  const steps: readonly Step[] = ['the first is asked what it delivered', 'the second joins the queue groups']

  /** A service that notes the numbers of the messages that it gets. */
  async function startCounting(limit: number | undefined) {
    const { proxy, first } = moving
    const handoff = limit === undefined ? { timeout: 20_000 } : { timeout: 20_000, limit }
    const service = await startService(proxy, first, { handoff })
    const seen: number[] = []
    const { nc } = service
    nc.subscribe('pile', { callback: (_, { data }) => void seen.push(Buffer.from(data).readUInt32BE()) })
    nc.subscribe('group', { queue: 'q', callback: () => {} })
    await nc.flush()
    return { service, seen }
  }

  /** From the step on the old connection brings nothing and the new one is not asked, while messages `from`... come. */
  function pile(step: Step, { size, count }: { size: number; count: number }, from = 0): Promise<void> {
    const { proxy } = moving
    const { reached } = at(proxy, step, (old, next) => {
      old.down.stall()
      next.up.stall()
    })
    return reached().then(async () => {
      const second = proxy.links.at(-1)
      for (let i = 0; i < count; i++) {
        const body = Buffer.alloc(size)
        body.writeUInt32BE(from + i)
        peer.publish('pile', body)
      }
      await peer.flush()
      // the server has sent it all, and only then hears what the new one asks
      second?.up.resume()
      await eventually(() => second?.isOpen === false, { timeout: 20_000 })
    })
  }

  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

  const limits = {
    'a small limit': small,
    'the limit by default': { limit: undefined, size: 64 * KIB, count: 160 },
  }
  for (const [what, { limit, ...burst }] of Object.entries(limits)) {
    for (const step of steps) {
      test(`${what} is kept to when ${step}: it begins again, and each message comes once`, async () => {
        const { service, seen } = await startCounting(limit)
        await using _ = service
        const over = pile(step, burst)
        const moved = service.move(moving.second)
        await over
        moving.proxy.calm()
        const event = await moved
        assert.deepEqual([event.ok, event.attempts], [true, 2])
        await service.nc.flush()
        assert.deepEqual(seen, numbers(burst.count))
      })
    }
  }

  test('a group keeps its order also when the old connection is behind when it is given up', async () => {
    const { proxy, first, second } = moving
    await using service = await startService(proxy, first, {
      handoff: { timeout: 20_000, limit: small.limit },
    })
    const seen: number[] = []
    service.nc.subscribe('ordered', {
      queue: 'q',
      callback: (_, { data }) => void seen.push(Buffer.from(data).readUInt32BE()),
    })
    await service.nc.flush()
    const publish = async (from: number) => {
      for (let i = from; i < from + small.count; i++) {
        const body = Buffer.alloc(small.size)
        body.writeUInt32BE(i)
        peer.publish('ordered', body)
      }
      await peer.flush()
    }
    const { reached } = at(proxy, 'the second subscribes', (old, next) => {
      old.down.stall()
      next.up.stall()
    })
    const moved = service.move(second)
    await reached(moved)
    const [old, next] = [proxy.links.at(-2), proxy.links.at(-1)]
    const said = (what: RegExp) => next?.said.some((command) => what.test(command))
    // before the new one hears of it
    await publish(0)
    proxy.onCommands = () => said(/^SUB ordered q /) && next?.down.stall()
    next?.up.resume()
    // both are members: each has its share
    await eventually(() => next?.down.holds)
    proxy.onCommands = () => {}
    await publish(small.count)
    next?.down.resume()
    await eventually(() => said(/^UNSUB/))
    // what the new one had is there before what the old one had
    await assert.rejects(eventually(() => seen.length > 0, { timeout: 300 }))
    old?.down.resume()
    const event = await moved
    assert.deepEqual([event.ok, event.attempts], [true, 2])
    await service.nc.flush()
    assert.deepEqual(seen, numbers(2 * small.count))
  })

  test('again and again: it gives up for now, and each message comes once', async () => {
    const { service, seen } = await startCounting(small.limit)
    await using _ = service
    const [step = 'the second subscribes'] = steps
    let over = pile(step, small)
    const moved = service.move(moving.second)
    for (const times of [1, 2]) {
      await over
      over = pile(step, small, times * small.count)
    }
    await over
    moving.proxy.calm()
    const event = await moved
    assert.equal(event.ok, false)
    assert.match(event.reason ?? '', new RegExp(`more than ${small.limit} bytes`))
    // its PONG comes behind all that was stalled, and behind the one for the handoff
    await service.nc.flush()
    assert.deepEqual(seen, numbers(3 * small.count))
    assert.equal((await service.move(moving.second)).ok, true)
    await service.nc.flush()
    assert.equal(seen.length, 3 * small.count)
  })
})

describe('what is no connection that can be moved', () => {
  test('adopt() refuses it with a reason', async () => {
    const identity = new HeldIdentity(moving.first)
    const closed = await connectWith({ servers: [moving.wire.address], identity })
    await closed.close()
    const wrong: Record<string, { nc: object; reason: RegExp }> = {
      'a closed one': { nc: closed, reason: /closed/ },
      'another object': { nc: {}, reason: /found another object/ },
      'another object with options': { nc: { options: {} }, reason: /found another object/ },
    }
    for (const [what, { nc, reason }] of Object.entries(wrong)) {
      await assert.rejects(adopt(nc as NatsConnection, identity), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ERR_HANDOFF_FAILED', what)
        assert.match(error.message, reason, what)
        return true
      })
    }
    assert.deepEqual(identity.followers(), [])
  })
})

describe('material that does not come from the identity', () => {
  test('is refused by connect()', async () => {
    const { first, wire } = moving
    const own = {
      key: first.key,
      cert: first.certificate,
      ca: first.ca,
      keyFile: 'tls.key',
      secureContext: {},
    }
    for (const [name, value] of Object.entries(own)) {
      const tls = { [name]: value }
      const options = {
        servers: wire.address,
        identity: new HeldIdentity(first),
        tls,
      } as RotorConnectionOptions
      await assert.rejects(connect(options), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ERR_CONFIG_INVALID')
        assert.match(error.message, new RegExp(`tls\\.${name}`))
        return true
      })
    }
  })

  test('options of TLS that say nothing of it are taken', async () => {
    const { first, wire } = moving
    const tls = { minVersion: 'TLSv1.3', key: undefined } as unknown as NonNullable<
      RotorConnectionOptions['tls']
    >
    const nc = await connect({ servers: wire.address, identity: new HeldIdentity(first), tls })
    await nc.flush()
    await nc.close()
  })
})
