/**
 * Trust before use: while one agent is frozen and can not trust the new authority, nothing of it is used.
 * 1. A domain of three servers and a service runs with epochs of seconds. 2. One agent is frozen. 3. The next epoch
 * begins: nothing is activated, and `rotor status` names who is waited for. 4. It thaws, and the
 * rotation goes on. Once for the agent of a server, once for the agent of a service.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Child } from '../../demo/child.ts'
import { connect } from '../../src/connection/connect.ts'
import type { Overview } from '../../src/domain/overview.ts'
import { epochAt, epochStart } from '../../src/schedule.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { assertIssuedBy } from '../../src/trust/chain.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

/** A frozen agent can not renew its leaf, which lives for two epochs: it has to last until it thaws. */
const EPOCH = 20_000
const INNER = ['issuer', 'nats-1', 'nats-3']
const FREEZABLE = ['nats-2', 'orders']
const ALL = [...INNER, ...FREEZABLE]

/** A server is told once as an agent and once for each listener. */
const namesOf = ({ waitingFor }: Pick<Overview, 'waitingFor'>): string[] => [
  ...new Set(waitingFor.map((straggler) => straggler.name)),
]

describe('one agent is frozen before it trusts the new authority', { timeout: 240_000 }, () => {
  let domain: RunningDomain
  const children = new Map<string, Child>()

  before(async () => {
    // Authorities live for many epochs, so the rotation can hold for long before it goes on without anybody.
    domain = await RunningDomain.start({
      epochDuration: EPOCH,
      schedule: { validity: 40 * EPOCH },
      servers: 3,
      services: [{ name: 'orders' }],
      policy: { goOnBelow: '1s' },
    })
    await domain.startIssuer()
    for (const name of ['nats-1', 'nats-3']) await domain.startAgent(name)
    for (const name of FREEZABLE) children.set(name, await domain.local.startAgent(name))
  })
  after(async () => {
    for (const child of children.values()) child.kill('SIGCONT')
    await domain?.stop()
  })

  /** Freezes the agent at a moment when no rotation is under way. */
  async function freeze(name: string): Promise<{ active: number; version: number }> {
    const child = children.get(name)
    assert.ok(child)
    return await eventually(
      async () => {
        await domain.settled(ALL)
        child.kill('SIGSTOP')
        const seen = await domain.overview()
        const status = seen.agents.find((agent) => agent.name === name)?.status
        if (seen.phase === 'steady' && status?.version === seen.version && status.state === 'applied')
          return seen
        child.kill('SIGCONT')
        return false
      },
      { timeout: PATIENCE },
    )
  }

  /** The epochs of the authorities that issued what the servers serve now. */
  async function servedEpochs(bundle: BundlePayload): Promise<number[]> {
    const found = await domain.probe(await domain.identity('issuer'), ['client', 'cluster'])
    return found.map(({ server, kind, result }) => {
      const issuer = bundle.authorities.find(({ certificate }) => {
        try {
          assertIssuedBy(result.served, parseCertificate(certificate, 'authority'))
          return true
        } catch {
          return false
        }
      })
      assert.ok(issuer, `${server} ${kind}: its leaf is of no authority in the bundle`)
      return issuer.epoch
    })
  }

  for (const name of FREEZABLE) {
    test(`${name}: nothing is activated until it follows, status names it, thawed it goes on`, async () => {
      const frozen = await freeze(name)

      // the authority of the next epoch is distributed, and the rotation waits for one agent only
      await eventually(
        async () => {
          const seen = await domain.overview()
          return seen.phase === 'distributing' && String(namesOf(seen)) === name
        },
        { timeout: PATIENCE },
      )

      // more than the start of its epoch goes by
      const schedule = domain.local.schedule
      const next = epochAt(schedule, Date.now()) + 1
      await eventually(() => Date.now() > epochStart(schedule, next), { timeout: PATIENCE })

      const held = await domain.overview()
      assert.deepEqual([held.phase, held.active], ['distributing', frozen.active])
      const history = await domain.history()
      const newest = history.at(-1)?.payload
      assert.ok(newest)
      assert.ok(newest.version > frozen.version, 'the new authority was published')
      assert.equal(newest.epoch, frozen.active, 'and does not sign')
      assert.ok(newest.authorities.some((authority) => authority.status === 'prepared'))
      assert.deepEqual(
        history.map((bundle) => bundle.payload.epoch).filter((epoch) => epoch > frozen.active),
        [],
      )
      assert.deepEqual(new Set(await servedEpochs(newest)), new Set([frozen.active]))
      const leaves = held.agents.map((agent) => agent.status?.leaf.issuerEpoch)
      assert.deepEqual(new Set(leaves), new Set([frozen.active]))

      // for a moment it may name another one, too: who renews its leaf is not settled either
      const status = await eventually(
        async () => {
          const said = await rotor('status', '--config', domain.local.founded.issuerConfig, '--json')
          return said.code === 1 && String(namesOf(JSON.parse(said.stdout))) === name
        },
        { timeout: PATIENCE },
      )
      assert.ok(status)

      children.get(name)?.kill('SIGCONT')
      const done = await domain.settled(ALL, (overview) => overview.active > frozen.active)
      const signing = (await domain.history()).at(-1)?.payload
      assert.ok(signing)
      const served = await servedEpochs(signing)
      assert.ok(
        served.every((epoch) => epoch >= done.active),
        `${served} after epoch ${done.active} had signed everywhere`,
      )
    })
  }
})

test('a server whose agent is frozen past the end of its leaf takes no other node along', {
  timeout: 180_000,
}, async () => {
  const others = ['issuer', 'nats-2', 'nats-3', 'orders']
  await using domain = await RunningDomain.start({
    epochDuration: 4_000,
    schedule: { validity: 160_000 },
    servers: 3,
    services: [{ name: 'orders' }],
    policy: { goOnBelow: '1s' },
  })
  await domain.startIssuer()
  for (const name of ['nats-2', 'nats-3', 'orders']) await domain.startAgent(name)
  const frozen = await domain.local.startAgent('nats-1')
  await domain.settled([...others, 'nats-1'], (overview) => overview.active > 0)
  // a service in library mode, and its connection is to the server that will be left behind
  const servers = domain.local.plans.map(({ host, clientPort }) => `${host}:${clientPort}`)
  const held = domain.agents.get('orders')?.identity
  assert.ok(held)
  const inboxPrefix = domain.names.inbox('orders')
  const nc = await connect({ servers, noRandomize: true, identity: held, name: 'orders', inboxPrefix })
  assert.equal(nc.getServer(), servers[0])
  frozen.kill('SIGSTOP')
  try {
    const material = await domain.identity('orders')
    await eventually(
      async () => {
        const found = await domain.probe(material)
        return found.find(({ server }) => server === 'nats-1')?.result.untrusted?.includes('EXPIRED')
      },
      { timeout: PATIENCE, interval: 200 },
    )

    // the rotation holds for it; the others get new leaves all the same, and can use them
    const leafOf = (name: string) => domain.agents.get(name)?.status().leaf.fingerprint
    const before = new Map(others.map((name) => [name, leafOf(name)]))
    await eventually(() => others.every((name) => leafOf(name) !== before.get(name)), { timeout: PATIENCE })
    for (const name of others) {
      const results = (await domain.probe(await domain.identity(name)))
        .filter(({ server }) => server !== 'nats-1')
        .map(({ result }) => ({ trusted: result.trusted, accepted: result.accepted }))
      assert.deepEqual(results, Array(2).fill({ trusted: true, accepted: true }), name)
    }
    assert.ok(servers.slice(1).includes(nc.getServer()), `moved away to ${nc.getServer()}`)
    const { leaf } = held.current()
    await eventually(() => held.usage().every((one) => one.leaf === leaf.sha256), { timeout: PATIENCE })
    await nc.flush()
  } finally {
    await nc.close()
    frozen.kill('SIGCONT')
  }
})
