/** What an agent does with the issuer's answers when it asks for its turn, and when there are none. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { NatsConnection } from '@nats-io/transport-node'
import { acquireTurn, followCanary, releaseTurn, type TurnOf } from '../../agent/turn.ts'
import { createStores } from '../../issuer/store.ts'
import { type TurnFacts, Turns } from '../../issuer/turns.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { type Clock, systemClock } from '../../src/time.ts'
import { domainNames } from '../../src/wire/names.ts'
import { identityOf, makeTestDomain } from '../support/test-domain.ts'
import { startTlsServer } from '../support/tls-server.ts'

const VERSION = 5
const REFUSED = { code: 'ERR_TURN_REFUSED' }
const NO_ANSWER = { code: 'ERR_NATS_UNAVAILABLE' }
const NEVER = new AbortController().signal
/** Ten times as fast as the real one. */
const fast: Clock = { now: () => Date.now() * 10 }

describe('turns over NATS', () => {
  const names = domainNames('prod')
  const cleanup = new AsyncDisposableStack()
  let nc: NatsConnection
  const of = (agent: string, version = VERSION): TurnOf => ({ nc: () => nc, names, agent, version })
  const follow = (clock: Clock = systemClock, signal = NEVER) => followCanary(of('orders'), clock, signal)
  const acquire = (agent: string, version?: number) => acquireTurn(of(agent, version), systemClock, NEVER)

  before(async () => {
    const store = await mkdtemp(join(tmpdir(), 'rotor-turns-'))
    cleanup.defer(() => rm(store, { recursive: true, force: true }))
    const domain = await makeTestDomain()
    const leaf = await domain.leaf({ name: 'server' })
    const ca = domain.authority().certificate
    const config = `jetstream { store_dir: "${store}" }`
    const server = cleanup.use(await startTlsServer({ leaf, trusted: [ca], config }))
    const identity = identityOf(leaf, ca)
    nc = await connectWith({ servers: [server.address('client')], identity })
    cleanup.defer(() => nc.close())
    await createStores(nc, names, 1)
  })
  after(() => cleanup.disposeAsync())

  /** The real answers, by facts of the test. */
  function answering(): Disposable {
    const facts: Omit<TurnFacts, 'now'> = {
      turnTime: 20_000,
      newest: VERSION,
      hasEnded: () => false,
      tolerates: () => false,
      confirms: () => true,
      appliedBy: () => null,
      refusedBy: () => [],
      canaryUntil: () => Number.POSITIVE_INFINITY,
    }
    const turns = new Turns(names, systemClock, () => facts)
    const subscription = nc.subscribe(names.turnSubject('*'), {
      callback: (_, message) => void turns.handle(nc, message, NEVER),
    })
    return { [Symbol.dispose]: () => subscription.unsubscribe() }
  }

  test('nobody who asks without an issuer gets a turn; who follows waits some seconds for one, and then goes on', async () => {
    await assert.rejects(acquire('nats-1'), NO_ANSWER)
    const began = fast.now()
    await follow(fast)
    assert.ok(fast.now() - began >= 5_000)
    const stop = new AbortController()
    const stopped = follow(systemClock, stop.signal)
    stop.abort(new Error('the agent stops'))
    await assert.rejects(stopped, /the agent stops/)
  })

  test('an issuer that comes back is listened to: who follows waits for the first server, until it has proven', async () => {
    let gone = false
    const following = follow().then(() => {
      gone = true
    })
    // its first question has failed by now: answers come in the order of the questions
    await assert.rejects(acquire('nats-1'), NO_ANSWER)
    using _ = answering()
    await acquire('nats-1')
    assert.equal(gone, false)
    await releaseTurn(of('nats-1'), 'applied', systemClock)
    await following
  })

  test('a first server that put the version back lets nobody follow, and no other server take the turn', async () => {
    using _ = answering()
    const next = VERSION + 1
    await acquire('nats-1', next)
    const following = assert.rejects(followCanary(of('orders', next), systemClock, NEVER), REFUSED)
    await releaseTurn(of('nats-1', next), 'rolled-back', systemClock)
    await following
    await assert.rejects(acquire('nats-2', next), REFUSED)
  })
})
