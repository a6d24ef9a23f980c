/**
 * A rotation that goes wrong is taken back by the issuer itself, and the first server is the only node that ever saw it.
 * 1. Before the new authority signs: every server has its trust pinned to another file, so its agent is content and only
 * the issuer's own handshake tells. 2. After it signs: every server serves a pinned certificate. Then by hand, under
 * traffic: a rotation is rolled back and nothing is lost.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { pinFiles } from '../../bench/pin.ts'
import { editJson } from '../../demo/domain.ts'
import type { TargetConfig } from '../../src/domain/config.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { rotor } from '../support/cli.ts'
import { type DomainEvent, RunningDomain } from '../support/running-domain.ts'
import { Traffic } from '../support/traffic.ts'

const MINUTES = 180_000
const SERVICES = ['orders', 'billing']

const movesIn = (events: readonly DomainEvent[]): string[] =>
  events.flatMap((event) => (event.type === 'commit' && event.when === 'after' ? [event.move] : []))

/** Who changed files or told a target for this version. */
const touched = (events: readonly DomainEvent[], version: number): Set<string> =>
  new Set(
    events.flatMap((event) =>
      event.type === 'step' && event.step === 'publish' && event.version === version ? [event.node] : [],
    ),
  )

/** What the nodes did with this version, in its order: for the message of a failure. */
const told = (events: readonly DomainEvent[], version: number): string[] =>
  events.flatMap((event) => {
    if (!('version' in event) || event.version !== version) return []
    if (event.type === 'step') return `${event.node} ${event.step}`
    if (event.type === 'turn') return `${event.node} ${event.turn}`
    return event.type === 'rolled-back' ? `${event.node} rolled-back ${event.message}` : []
  })

const CASES = [
  {
    what: 'an authority that servers refuse is withdrawn',
    files: ['ca.pem'],
    moves: ['prepare', 'withdraw', 'converge'],
    words: /1 of 3 servers refused it \(nats-\d: client listener refuses it\), 0 may/,
    bad: 2,
  },
  {
    what: 'an authority whose leaves do not come into use is rolled back',
    files: ['tls.crt', 'tls.key'],
    moves: ['prepare', 'activate', 'rollback', 'converge', 'retire'],
    words: /1 of 3 servers refused it \(nats-\d: ERR_PROOF_FAILED\), 0 may/,
    bad: 3,
  },
] as const

for (const { what, files, moves, words, bad } of CASES) {
  test(`${what}: the first server catches it, and no second node is touched`, {
    timeout: MINUTES,
  }, async () => {
    await using domain = await RunningDomain.start({
      servers: 3,
      services: SERVICES.map((name) => ({ name })),
    })
    // a server that never comes to serve its new leaf is given up sooner
    for (const name of domain.serverNames) {
      const file = domain.agentConfig(name)
      const { targets } = JSON.parse(await readFile(file, 'utf8'))
      const given = targets.map((target: TargetConfig) => ({ ...target, timeout: '4s' }))
      await editJson(file, { targets: given })
    }
    await domain.startAll(SERVICES)
    const before = await domain.settled()
    await pinFiles(domain.local, files)
    const events = domain.events.length

    await domain.order('a bad one')
    // taken back, and out of trust again
    const done = await domain.settled(
      undefined,
      ({ version, authorities }) => version > bad && authorities.length === before.authorities.length,
    )
    const seen = domain.events.slice(events)
    assert.deepEqual(movesIn(seen), moves)
    const nodes = [...touched(seen, bad)].join(' ')
    assert.match(
      nodes,
      /^nats-\d$/,
      `only the first server had the bad version: ${JSON.stringify(told(seen, bad))}`,
    )
    const history = await domain.history()
    assert.match(history[bad]?.payload.reason ?? '', words)
    assert.deepEqual(chainProblems(history), [])
    assert.equal(done.active, before.active)
    for (const { server, result } of await domain.probe(await domain.identity('orders'))) {
      assert.ok(result.accepted && result.trusted, server)
    }
  })
}

test('a rollback and a pause by hand, under traffic: nothing is lost, and the next rotation is a new authority', {
  timeout: MINUTES,
}, async (t) => {
  const services = SERVICES.map((name) => ({ name, publish: ['traffic.>'], subscribe: ['traffic.>'] }))
  await using domain = await RunningDomain.start({ servers: 3, services })
  await domain.startAll(SERVICES)
  const config = domain.local.founded.issuerConfig
  const [service, peer] = await Promise.all(SERVICES.map((name) => domain.connectService(name)))
  assert.ok(service && peer)
  for (const nc of [service, peer]) t.after(() => nc.close())
  const traffic = await Traffic.start(service, peer)
  const first = await domain.overview()
  const second = await domain.rotate()

  const options = ['--config', config, '--reason', 'a drill', '--json']
  const early = await rotor('withdraw', ...options)
  assert.match(JSON.parse(early.stdout).message, /no authority waits for its first use/)
  const back = await rotor('rollback', ...options)
  assert.equal(back.code, 0, back.stderr)
  assert.deepEqual(JSON.parse(back.stdout).epoch, first.active)
  const done = await domain.settled(undefined, ({ active }) => active === first.active)
  assert.ok(done.version > second.version, 'a rollback is a newer bundle')
  // the one that was rolled back leaves by itself
  await domain.settled(undefined, ({ authorities }) =>
    authorities.every(({ epoch }) => epoch !== second.active),
  )

  assert.equal((await rotor('pause', ...options)).code, 0)
  const refused = await rotor('rotate', ...options)
  assert.match(JSON.parse(refused.stdout).message, /paused by .*: a drill/)
  assert.match((await rotor('status', '--config', config)).stdout, /paused by /)
  assert.equal((await rotor('resume', ...options)).code, 0)
  const third = await domain.rotate()
  assert.ok(third.active > second.active, 'an epoch is never used twice')

  const { failed, ...flows } = await traffic.finish()
  assert.deepEqual(failed, {})
  for (const [name, { lost, duplicated }] of Object.entries(flows)) {
    assert.deepEqual([lost, duplicated], [0, 0], name)
  }
  assert.deepEqual(chainProblems(await domain.history()), [])
})
