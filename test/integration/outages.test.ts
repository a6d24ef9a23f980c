/** What is away for a while and comes back: NATS over the start of an epoch, a server, the issuer. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { epochStart } from '../../src/schedule.ts'
import { eventually } from '../support/eventually.ts'
import { chainProblems, type DomainEvent, PATIENCE, RunningDomain } from '../support/running-domain.ts'

const SERVICES = [{ name: 'orders' }]

test('NATS is down over the start of an epoch: the rotation is caught up on, nothing is issued twice', async () => {
  await using domain = await RunningDomain.start({ services: SERVICES, epochDuration: 15_000 })
  // 1. everything runs, in epoch 0
  await domain.startAll(['orders'])
  assert.equal((await domain.settled()).active, 0)
  const before = await domain.identity('orders')
  // 2. the only server stops, and epoch 1 begins
  await domain.local.servers[0]?.stop()
  const start = epochStart(domain.local.schedule, 1)
  await eventually(() => Date.now() > start + 500, { timeout: PATIENCE })
  assert.equal((await domain.identity('orders')).generation, before.generation)
  // 3. it comes back, and everybody moves to the authority of the time
  await domain.local.startServer(0)
  const after = await domain.settled(undefined, (now) => now.active > 0)
  assert.ok(after.active >= 1)
  assert.notEqual((await domain.identity('orders')).leaf.sha256, before.leaf.sha256)
  assert.deepEqual(chainProblems(await domain.history()), [])
})

test('a server that is killed and started again comes back with what is on disk, and follows the next rotation', async () => {
  await using domain = await RunningDomain.start({ services: SERVICES })
  await domain.startAll(['orders'])
  const first = await domain.rotate()
  // 1. killed; 2. started: it serves what its agent wrote
  domain.local.servers[0]?.kill('SIGKILL')
  await domain.local.servers[0]?.exited
  await domain.local.startServer(0)
  await domain.settled()
  const { leaf } = await domain.identity('nats-1')
  for (const { result } of await domain.probe(await domain.identity('orders')))
    assert.equal(result.served.sha256, leaf.sha256)
  // 3. and it follows
  const second = await domain.rotate()
  assert.ok(second.active > first.active)
  assert.deepEqual(chainProblems(await domain.history()), [])
})

const KILLED_WHEN: readonly { phase: string; when: string; is: (event: DomainEvent) => boolean }[] = [
  {
    phase: 'distributing',
    when: 'the new authority is distributed',
    is: (event) => event.type === 'commit' && event.when === 'after' && event.move === 'prepare',
  },
  {
    phase: 'distributing',
    when: 'its agent has the turn and has published the files',
    is: (event) => event.node === 'nats-2' && event.type === 'step' && event.step === 'notify',
  },
  {
    phase: 'converging',
    when: 'the new authority signs',
    is: (event) => event.type === 'commit' && event.when === 'after' && event.move === 'activate',
  },
]

describe('one of three servers is killed in a rotation', { timeout: 4 * PATIENCE }, () => {
  let domain: RunningDomain
  before(async () => {
    domain = await RunningDomain.start({ servers: 3, services: SERVICES })
    await domain.startAll(['orders'])
    await domain.settled()
  })
  after(() => domain?.stop())

  for (const { phase, when, is } of KILLED_WHEN) {
    test(`when ${when}: it is waited for by name, and started again it follows`, async () => {
      const before = await domain.overview()
      let killed = false
      domain.onEvent = (event) => {
        if (killed || !is(event)) return
        killed = domain.local.servers[1]?.kill('SIGKILL') === true
      }
      await domain.order()
      await eventually(
        async () => {
          const now = await domain.overview()
          const named = new Set(now.waitingFor.map(({ name }) => name))
          assert.deepEqual([killed, now.phase, [...named]], [true, phase, ['nats-2']])
          return true
        },
        { timeout: PATIENCE, interval: 100 },
      )
      await domain.local.startServer(1)
      await domain.settled(undefined, ({ active }) => active > before.active)
      const { leaf } = await domain.identity('nats-2')
      const found = await domain.probe(await domain.identity('orders'), ['client', 'cluster'])
      for (const { server, kind, result } of found)
        if (server === 'nats-2') assert.equal(result.served.sha256, leaf.sha256, kind)
    })
  }
})

test('an issuer that is stopped after an order and started again carries the order out, once', async () => {
  await using domain = await RunningDomain.start({ services: SERVICES })
  await domain.startAll(['orders'])
  await domain.settled()
  // 1. ordered, and the issuer goes away with it in the state
  await domain.order()
  await domain.stopIssuer()
  // 2. a new one finds it
  await domain.startIssuer()
  const rotated = await domain.settled(undefined, (now) => now.active === 1 && !now.ordered)
  assert.equal(rotated.active, 1)
  assert.deepEqual(chainProblems(await domain.history()), [])
})
