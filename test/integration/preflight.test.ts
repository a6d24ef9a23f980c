/**
 * A preflight on a real domain. First all is well: the plan of a dry run is what a rotation then does, and the dry run itself
 * moves nothing. Then several things are really wrong, and `rotor doctor` names each.
 */
import assert from 'node:assert/strict'
import { appendFile, chmod, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { AckPolicy, jetstreamManager } from '@nats-io/jetstream'
import { editJson } from '../../demo/domain.ts'
import { countConnections } from '../../issuer/census/count.ts'
import { readState } from '../../issuer/store.ts'
import type { TargetConfig } from '../../src/domain/config.ts'
import { findNatsServer } from '../../src/local/nats-server.ts'
import { configLoadTime } from '../../src/nats/server-info.ts'
import type { Finding, FindingId } from '../../src/preflight/findings.ts'
import type { Plan } from '../../src/preflight/plan.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const patient = { timeout: PATIENCE, interval: 50 }

/** What a preflight must not change. */
const records = ({ asOperator }: Pick<RunningDomain, 'asOperator'>) =>
  asOperator(async ({ nc, names }) => {
    const jsm = await jetstreamManager(nc)
    const { state } = await jsm.streams.info(names.bundleStream)
    const stored = await readState(nc, names)
    return { sequence: state.last_seq, revision: stored?.revision, version: stored?.state.version }
  })

async function ask(...args: string[]): Promise<{ code: number | null; findings: Finding[]; plan?: Plan }> {
  const { code, stdout, stderr } = await rotor(...args, '--json')
  assert.equal(stderr, '')
  return { code, ...JSON.parse(stdout) }
}

const said = (findings: readonly Finding[]): string[] =>
  findings.map(({ id, subject }) => `${id} ${subject.name}`).sort()

const of = (findings: readonly Finding[], id: FindingId): string =>
  findings.find((one) => one.id === id)?.found ?? ''

test('a dry run foretells what a rotation does and changes nothing; doctor names everything that is wrong', {
  timeout: 300_000,
}, async () => {
  await using domain = await RunningDomain.start({
    servers: 2,
    services: [{ name: 'orders', streams: ['ORDERS'] }, { name: 'billing' }],
  })
  const { targets } = JSON.parse(await readFile(domain.agentConfig('nats-1'), 'utf8'))
  const binary = findNatsServer().path
  await editJson(domain.agentConfig('nats-1'), {
    targets: targets.map((target: TargetConfig) => ({ ...target, binary })),
  })
  await domain.startAll(['orders', 'billing'])
  await domain.settled()
  const config = ['--config', domain.local.founded.issuerConfig]
  const keys = join(domain.local.dir, 'issuer', 'keys')
  const operator = { asOperator: domain.asOperator.bind(domain) }
  const seesConfigs = eventually(
    async () =>
      (await domain.overview()).agents.filter(({ status }) => status?.configs.length === 1).length === 2,
    patient,
  )
  await seesConfigs

  // 1. all is well
  const before = await records(operator)
  const files = await readFile(join(keys, 'bundles', '1.jws'), 'hex')
  const well = await ask('rotate', '--dry-run', ...config)
  assert.deepEqual(said(well.findings), [])
  assert.equal(well.plan?.outcome, 'done')
  assert.equal(well.code, 0)
  assert.deepEqual(await records(operator), before)
  assert.equal(await readFile(join(keys, 'bundles', '1.jws'), 'hex'), files)
  const events = domain.events.length
  await domain.rotate()
  const moved = domain.events
    .slice(events)
    .flatMap((event) => (event.type === 'commit' && event.when === 'after' ? [event.move] : []))
  assert.deepEqual(
    well.plan.steps.flatMap((step) => (step.kind === 'move' ? [step.move] : [])),
    moved.slice(0, 3),
  )

  // 2. a consumer that loses, a server nobody looks after, an agent that runs no more, a key for everybody, a lost bundle
  const orders = await domain.connectAs('orders')
  try {
    const jsm = await jetstreamManager(orders, { checkAPI: false })
    await jsm.streams.add({ name: 'ORDERS', subjects: ['orders.>'] })
    await jsm.consumers.add('ORDERS', {
      durable_name: 'once',
      ack_policy: AckPolicy.Explicit,
      max_deliver: 1,
    })
  } finally {
    await orders.close()
  }
  await domain.stopAgent('billing')
  const { agents } = JSON.parse(await readFile(domain.local.founded.issuerConfig, 'utf8'))
  await editJson(domain.local.founded.issuerConfig, {
    agents: agents.filter(({ name }: { name: string }) => name !== 'nats-2'),
  })
  await chmod(join(keys, 'signer.key'), 0o644)
  await rm(join(keys, 'bundles', '2.jws'))

  // 3. an account with room for the doctor and nobody else, and then an edit that nobody loads
  const accounts = domain.local.plans.map(({ name }) =>
    join(domain.local.dir, 'servers', name, 'accounts.conf'),
  )
  await domain.asOperator(async ({ nc }) => {
    const { connections, servers } = await countConnections(nc, { expected: [], now: Date.now() })
    const clients = connections.filter(({ kind }) => kind === 'client').length
    const loadTimes = () => Promise.all(servers.map(({ id }) => configLoadTime(nc, id)))
    const loaded = await loadTimes()
    for (const file of accounts) {
      const limited = `jetstream: enabled\n    limits { max_connections: ${clients} }`
      await writeFile(file, (await readFile(file, 'utf8')).replace('jetstream: enabled', limited))
    }
    for (const server of domain.local.servers) server.kill('SIGHUP')
    await eventually(async () => (await loadTimes()).every((time, n) => time !== loaded[n]), patient)
  })
  const configOf = async (name: string) => {
    const { status } = (await domain.overview()).agents.find((agent) => agent.name === name) ?? {}
    return status?.configs[0]
  }
  const [edited = ''] = accounts
  await appendFile(edited, '# somebody is not done yet\n')
  // a file system takes its times from a clock that may be behind ours, and the server's
  await utimes(edited, new Date(), new Date())
  await eventually(async () => (await configOf('nats-1'))?.edited, patient)
  await domain.hangUp()

  const ill = await ask('doctor', ...config)
  assert.deepEqual(said(ill.findings), [
    'account-connections-full demo',
    'agent-not-connected billing',
    'config-edited nats-1',
    'consumer-loses DEMO/ORDERS/once',
    'history-broken demo',
    `key-readable ${join(keys, 'signer.key')}`,
    'server-without-agent nats-2',
  ])
  assert.equal(ill.code, 1)
  assert.match(of(ill.findings, 'config-edited'), /accounts\.conf was changed at .*, the server loaded at/)
  assert.match(of(ill.findings, 'history-broken'), /version 2 is missing/)

  await appendFile(accounts[0] ?? '', 'half a sent')
  await eventually(async () => (await configOf('nats-1'))?.refused, patient)

  // 4. a dry run says who it would wait for, and still changes nothing
  const records2 = await records(operator)
  await domain.hangUp()
  const held = await ask('rotate', '--dry-run', ...config, '--accept', 'consumer-loses')
  assert.equal(held.code, 1)
  assert.match(of(held.findings, 'config-refused'), /accounts\.conf/)
  assert.equal(held.plan?.outcome, 'holds')
  const last = held.plan?.steps.at(-1)
  assert.deepEqual(last?.kind === 'wait' && last.holds.map(({ name }) => name), ['billing', 'nats-2'])
  assert.deepEqual(await records(operator), records2)
})

test('a rotation needs a reason, and what is accepted has to be an id', async () => {
  const without = await rotor('rotate', '--config', 'issuer.json')
  assert.equal(without.code, 64)
  assert.match(without.stderr, /--reason <text>/)
  const unknown = await rotor('doctor', '--config', 'issuer.json', '--accept', 'everything')
  assert.equal(unknown.code, 64)
  assert.match(unknown.stderr, /docs\/preflight\.md/)
})
