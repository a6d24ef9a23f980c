/** The commands as an operator types them, from founding a domain to an ordered rotation. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Child } from '../../demo/child.ts'
import { SINGLE_SERVER_ARGS } from '../../src/domain/nats-config.ts'
import { startNatsServer } from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'

const PATIENCE = 60_000

/** Epochs begin at whole multiples since 1970: one that does not end while this test runs, whatever time it is. */
function quietEpoch(): string {
  const hour = 3_600_000
  const hours = [5, 7, 11, 13, 17, 19].find((n) => Date.now() % (n * hour) < (n * hour) / 2)
  return `${hours ?? 23}h`
}

test('init, issuer, agent, status, rotate, probe and inspect work together', async (t) => {
  await using cleanup = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'rotor-cli-'))
  cleanup.defer(() => rm(folder, { recursive: true, force: true }))
  const out = join(folder, 'prod')
  const [port = 0] = await freePorts(1)
  const issuerConfig = join(out, 'issuer', 'issuer.json')
  const identity = join(out, 'agents', 'orders', 'identity')
  const answer = async (...args: string[]) => {
    const { code, stdout, stderr } = await rotor(...args, '--json')
    return { code, stderr, value: JSON.parse(stdout) }
  }

  await t.test('init founds a domain, and nothing over an existing one', async () => {
    const args = [
      'init',
      '--domain',
      'prod',
      '--out',
      out,
      '--server',
      `nats-1=127.0.0.1:${port}`,
      '--service',
      'orders',
      '--publish',
      'orders=orders.>',
      '--epoch',
      quietEpoch(),
      // the default kind is in every other test
      '--signer',
      'ml-dsa-65',
    ]
    const { code, value } = await answer(...args)
    assert.equal(code, 0)
    assert.equal(value.issuerConfig, issuerConfig)
    assert.equal((await stat(join(out, 'issuer', 'keys', 'root.key'))).mode & 0o777, 0o600)
    assert.match(await readFile(join(out, 'servers', 'nats-1', 'accounts.conf'), 'utf8'), /"orders\.>"/)
    const again = await answer(...args)
    assert.deepEqual([again.code, again.value.code], [78, 'ERR_CONFIG_INVALID'])
  })

  const server = await startNatsServer({
    name: 'nats-1',
    cwd: join(out, 'servers', 'nats-1'),
    configFile: 'nats-server.conf',
    args: SINGLE_SERVER_ARGS,
  })
  cleanup.use(server)

  await t.test('status says that no issuer has worked yet', async () => {
    const { code, value } = await answer('status', '--config', issuerConfig)
    assert.deepEqual([code, value.code], [69, 'ERR_NATS_UNAVAILABLE'])
  })

  for (const [name, args] of Object.entries({
    issuer: ['issuer', '--config', issuerConfig],
    'nats-1': ['agent', '--config', join(out, 'agents', 'nats-1', 'agent.json')],
    orders: ['agent', '--config', join(out, 'agents', 'orders', 'agent.json')],
  })) {
    const logFile = join(folder, `${name}.log`)
    cleanup.use(
      await Child.start({ name, module: 'cli/main', args: [...args, '--json'], logFile, onEvent: () => {} }),
    )
  }

  await t.test('status shows every node once it has reported', async () => {
    const status = await eventually(
      async () => {
        const { value } = await answer('status', '--config', issuerConfig)
        return value.agents?.every((agent: { status: object | null }) => agent.status !== null) ? value : null
      },
      { timeout: PATIENCE },
    )
    assert.deepEqual([status.version, status.phase, status.waitingFor], [1, 'steady', []])
    const { stdout } = await rotor('status', '--config', issuerConfig)
    for (const words of ['trust domain prod', 'nats-1', 'orders', 'nobody is waited for'])
      assert.ok(stdout.includes(words), stdout)
  })

  await t.test('rotate lets the next authority sign now, proven on every node', async () => {
    const before = (await answer('inspect', identity)).value.chain[0].fingerprint
    const { code, value, stderr } = await answer('rotate', '--config', issuerConfig, '--reason', 'a drill')
    assert.equal(code, 0, stderr)
    assert.equal(value.type, 'rotated')
    const { value: status } = await answer('status', '--config', issuerConfig)
    assert.equal(status.active, value.epoch)
    for (const agent of status.agents) assert.equal(agent.status.leaf.issuerEpoch, value.epoch, agent.name)
    const after = (await answer('inspect', identity)).value
    assert.notEqual(after.chain[0].fingerprint, before)
    assert.equal(after.trusted.length, 2)
  })

  await t.test('probe tells what a listener serves and that it takes us', async () => {
    const { code, value } = await answer('probe', `127.0.0.1:${port}`, '--identity', identity)
    assert.deepEqual(
      [code, value.ok, value.trusted, value.accepted, value.authorized],
      [0, true, true, true, true],
    )
    const stranger = await answer('probe', `127.0.0.1:${port}`)
    assert.deepEqual([stranger.code, stranger.value.accepted], [1, false])
    assert.equal(stranger.value.served.fingerprint, value.served.fingerprint)
  })

  await t.test('inspect reads a bundle and a certificate file', async () => {
    const bundle = await answer('inspect', join(out, 'issuer', 'keys', 'genesis.jws'))
    assert.deepEqual(
      [bundle.code, bundle.value.payload.version, bundle.value.signers[0].signed],
      [0, 1, true],
    )
    const root = await answer('inspect', join(out, 'issuer', 'keys', 'root.crt'))
    assert.deepEqual([root.code, root.value.certificates[0].ca], [0, true])
  })
})

test('help teaches: every command has a summary, and the exit codes are told', async () => {
  const { code, stdout } = await rotor('--help')
  assert.equal(code, 0)
  for (const words of [
    'demo',
    'init',
    'issuer',
    'agent',
    'status',
    'census',
    'rotate',
    'probe',
    'inspect',
    'Exit codes:',
  ]) {
    assert.ok(stdout.includes(words), words)
  }
  assert.match((await rotor('init', '--help')).stdout, /Example/)
})
