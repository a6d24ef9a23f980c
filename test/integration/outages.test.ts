/** What is away for a while and comes back: NATS over the start of an epoch, a server, the issuer. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { jetstream } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { STATE_KEY } from '../../issuer/store.ts'
import { rotationState } from '../../src/rotation/state.ts'
import { epochStart, renewAt } from '../../src/schedule.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { eventually } from '../support/eventually.ts'
import { type DomainEvent, PATIENCE, RunningDomain } from '../support/running-domain.ts'

const SERVICES = [{ name: 'orders' }]
const patient = { timeout: PATIENCE, interval: 50 }

/** The fencing numbers under which the state was written, oldest first. */
const fencesOf = (domain: RunningDomain): Promise<number[]> =>
  domain.asOperator(async ({ nc, names }) => {
    const kv = await new Kvm(jetstream(nc)).open(names.stateBucket)
    const fences: number[] = []
    for await (const { value } of await kv.history({ key: STATE_KEY }))
      fences.push(decodeRecord(rotationState, value, STATE_KEY).fence)
    return fences
  })

test('NATS is down over the start of an epoch and all renewals, with two issuers: it is caught up on, nothing is issued twice', {
  timeout: 300_000,
}, async (t) => {
  const passphraseFile = join(await mkdtemp(join(tmpdir(), 'rotor-outages-')), 'passphrase')
  t.after(() => rm(dirname(passphraseFile), { recursive: true, force: true }))
  await writeFile(passphraseFile, 'of the shared key store', { mode: 0o600 })
  const issuers = ['issuer', 'issuer-b']
  await using domain = await RunningDomain.start({
    issuers,
    passphraseFile,
    services: SERVICES,
    epochDuration: 14_000,
  })
  for (const name of issuers) await domain.startIssuer({}, { lease: 2_000 }, name)
  for (const name of ['nats-1', 'orders']) await domain.startAgent(name)
  const nodes = [...domain.agents]

  // 1. every node has a leaf of an authority that follows the first one: the first leaves live for longer
  const before = await domain.settled(undefined, ({ active }) => active > 0)
  const old = new Map(nodes.map(([name, agent]) => [name, agent.identity.current()]))
  const leaves = [...old.values()].map(({ leaf }) => leaf)

  // 2. the only server is killed when the next authority is decided on; its epoch begins, and every renewal is due
  let killed = false
  domain.onEvent = (event) => {
    if (killed || event.type !== 'commit' || event.when !== 'after' || event.move !== 'prepare') return
    killed = domain.local.servers[0]?.kill('SIGKILL') === true
  }
  await eventually(() => killed, patient)
  await domain.local.servers[0]?.exited
  await domain.hangUp()
  const missed = epochStart(domain.local.schedule, before.active + 1)
  const due = leaves.map(({ notBefore, notAfter }) => renewAt(notBefore, notAfter))
  await eventually(() => Date.now() > Math.max(missed, ...due), patient)
  for (const [name, { identity }] of nodes)
    assert.equal(identity.current().generation, old.get(name)?.generation, name)

  // 3. it is back: everybody renews before its leaf ends
  const renewed = new Map<string, number>()
  for (const [name, { identity }] of nodes)
    identity.onChange(({ leaf }) => {
      if (leaf.sha256 !== old.get(name)?.leaf.sha256 && !renewed.has(name)) renewed.set(name, Date.now())
    })
  const back = Date.now()
  await domain.local.startServer(0)
  await domain.settled(undefined, ({ active }) => active > before.active)
  const now = Date.now()
  t.diagnostic(
    `back ${Math.min(...leaves.map(({ notAfter }) => notAfter)) - back} ms before the leaves end, all renewed ${Math.max(...renewed.values()) - back} ms later`,
  )
  for (const [name, { identity }] of nodes) {
    assert.ok((renewed.get(name) ?? Number.POSITIVE_INFINITY) < (old.get(name)?.leaf.notAfter ?? 0), name)
    const { leaf, ca } = identity.current()
    const ended = [leaf, ...parseCertificates(ca, name)].filter(({ notAfter }) => notAfter <= now)
    assert.deepEqual(ended, [], `${name} uses or trusts what has ended`)
  }
  const { leaf } = await domain.identity('nats-1')
  for (const { result } of await domain.probe(await domain.identity('orders')))
    assert.equal(result.served.sha256, leaf.sha256)

  // 4. one leader, and every step was taken once
  const fences = await fencesOf(domain)
  assert.deepEqual(
    fences,
    fences.toSorted((a, b) => a - b),
  )
  const leaders = () =>
    issuers.filter(
      (node) =>
        domain.events.findLast(
          (event) => event.node === node && (event.type === 'leads' || event.type === 'stands-by'),
        )?.type === 'leads',
    )
  await eventually(() => leaders().length === 1, patient)
  assert.equal(leaders()[0], (await domain.overview()).lease?.holder)
  const led = domain.events.flatMap((event) =>
    event.type === 'leads' ? [`${event.fence} ${event.node}`] : [],
  )
  assert.equal(
    new Set(led.map((text) => text.split(' ')[0])).size,
    new Set(led).size,
    `one number, one issuer: ${led}`,
  )
  const commits = domain.events.flatMap((event) =>
    event.type === 'commit' && event.when === 'after' ? [`${event.move} ${event.version}`] : [],
  )
  assert.deepEqual(commits, [...new Set(commits)])
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
