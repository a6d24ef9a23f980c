/**
 * What an operator meets who got something wrong: every command ends with the exit code of its failure, names what to
 * fix, and with --json says it as one record. Nobody is shown a stack trace.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, chmod, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readAgentConfig, startAgent } from '../../agent/index.ts'
import { editJson } from '../../demo/domain.ts'
import { type Founded, found } from '../../issuer/founding/found.ts'
import { ERRORS, RotorError, type RotorErrorCode } from '../../src/errors.ts'
import { openDirectory } from '../../src/identity/directory.ts'
import { freePorts } from '../../src/local/ports.ts'
import { silentLogger } from '../../src/log.ts'
import { makeSchedule } from '../../src/schedule.ts'
import { rotor } from '../support/cli.ts'

const STACK = /^\s+at .+:\d+:\d+/m

interface Refusal {
  readonly args: readonly string[]
  readonly code: RotorErrorCode
  readonly exit: number
  /** All of these are in the message. */
  readonly says?: readonly string[]
  /** Also without --json. @default false */
  readonly people?: boolean
}

/** Runs it for machines, and for people where asked: each run is a process. */
async function assertRefused({ args, code, exit, says = [], people = false }: Refusal): Promise<void> {
  // one after the other: an agent locks its directory before it looks into it
  const json = await rotor(...args, '--json')
  const plain = people ? await rotor(...args) : null
  const where = `rotor ${args.join(' ')}\n${json.stdout}\n${plain?.stderr}`
  assert.equal(json.code, exit, where)
  const { message, ...rest } = JSON.parse(json.stdout)
  assert.deepEqual(rest, { type: 'error', code, action: ERRORS[code].action }, where)
  if (plain !== null) assert.deepEqual([plain.code, plain.stdout], [exit, ''], where)
  for (const text of [json.stdout, json.stderr, plain?.stderr ?? '']) assert.doesNotMatch(text, STACK)
  for (const part of says) {
    for (const text of [message, ...(plain === null ? [] : [plain.stderr])]) {
      assert.ok(text.includes(part), `${part} in ${text}`)
    }
  }
}

describe('what is wrong is said in full, with its exit code', { timeout: 180_000 }, () => {
  let folder: string
  let domain: Founded

  before(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'rotor-bad-')))
    const [clientPort = 0, clusterPort = 0] = await freePorts(2)
    domain = await found({
      domain: 'prod',
      out: join(folder, 'prod'),
      schedule: makeSchedule(),
      servers: [{ name: 'nats-1', host: '127.0.0.1', clientPort, clusterPort }],
      services: ['orders', 'billing', 'stock'].map((name) => ({ name })),
    })
  })
  after(async () => {
    await rm(folder, { recursive: true, force: true })
  })

  const agentFile = (name: string): string => domain.agentConfigs[name] ?? ''
  const identityDir = (name: string): string => join(folder, 'prod', 'agents', name, 'identity')

  /** A changed copy of a configuration beside it, so that relative paths stay good. */
  async function changed(file: string, change: Record<string, unknown>): Promise<string> {
    const copy = join(file, '..', `changed-${Math.random().toString(36).slice(2)}.json`)
    await writeFile(copy, await readFile(file, 'utf8'))
    await editJson(copy, change)
    return copy
  }

  async function written(name: string, text: string): Promise<string> {
    const file = join(folder, name)
    await writeFile(file, text)
    return file
  }

  test('every mistake in an issuer.json or agent.json is named at once, unknown keys too', async () => {
    const issuer = await changed(domain.issuerConfig, {
      domain: 'Not A Name',
      servers: [],
      replicas: 9,
      policy: { retireAfter: 'soon' },
      retries: 3,
      agents: [{ name: 'nats-1', role: 'boss', colour: 'red' }],
    })
    const agent = await changed(agentFile('orders'), {
      agent: 'Orders!',
      role: 'king',
      servers: ['http://127.0.0.1:4222'],
      names: { ip: ['300.1.1.1'], dns: ['orders test'] },
      keep: 1,
      targets: [{ type: 'telepathy' }],
      speed: 'fast',
    })
    const target = await changed(agentFile('orders'), {
      targets: [
        { type: 'signal', pidFile: '/run/x.pid', signal: 'SIGKILL', timeout: '5' },
        { type: 'exec', command: [], shell: true },
        { type: 'http', url: 'http://orders.test/reload', probe: { address: '127.0.0.1', kind: 'smtp' } },
      ],
    })
    const wrong = { code: 'ERR_CONFIG_INVALID', exit: 78 } as const
    await Promise.all([
      assertRefused({
        ...wrong,
        people: true,
        args: ['issuer', '--config', issuer],
        says: [
          issuer,
          'domain:',
          'servers:',
          'replicas:',
          'policy.retireAfter:',
          'agents.0.role:',
          '"colour"',
          '"retries"',
        ],
      }),
      assertRefused({
        ...wrong,
        args: ['agent', '--config', agent],
        says: [
          agent,
          'agent:',
          'role:',
          'servers.0:',
          'names.dns.0:',
          'names.ip.0:',
          'keep:',
          'targets.0.type:',
          '"speed"',
        ],
      }),
      assertRefused({
        ...wrong,
        args: ['agent', '--check-config', '--config', target],
        says: [
          'targets.0.signal:',
          'targets.0.timeout:',
          'targets.1.command:',
          '"shell"',
          'targets.2.url:',
          'targets.2.probe.address:',
          'targets.2.probe.kind:',
        ],
      }),
    ])
  })

  test('agents that do not fit together are named at once', async () => {
    const twice = { name: 'orders', role: 'service' }
    const config = await changed(domain.issuerConfig, {
      agents: [twice, twice, { name: 'nats-1', role: 'server' }],
    })
    await assertRefused({
      args: ['status', '--config', config],
      code: 'ERR_CONFIG_INVALID',
      exit: 78,
      says: ['"orders" is there twice', '"issuer"', 'agents.nats-1.listeners'],
    })
  })

  test('a configuration that is no JSON, no object, or not there is refused by name', async () => {
    const wrong = { code: 'ERR_CONFIG_INVALID', exit: 78 } as const
    const text = await written('text.json', 'domain = prod\n')
    const list = await written('list.json', '[]')
    const none = join(folder, 'none.json')
    await Promise.all([
      assertRefused({ ...wrong, args: ['issuer', '--config', text], says: [text, 'expected a JSON file'] }),
      assertRefused({ ...wrong, args: ['agent', '--config', list], says: [list, 'expected object'] }),
      assertRefused({ ...wrong, args: ['status', '--config', none], says: [none, 'ENOENT'] }),
    ])
  })

  test('a wrong command line ends with 64', async () => {
    const wrong = { code: 'ERR_USAGE', exit: 64 } as const
    const config = agentFile('orders')
    const out = join(folder, 'usage')
    const init = ['init', '--domain', 'prod', '--out', out]
    await Promise.all([
      assertRefused({ ...wrong, people: true, args: ['dance'], says: ["unknown command 'dance'"] }),
      assertRefused({ ...wrong, args: ['agent'], says: ["'--config <file>'"] }),
      assertRefused({ ...wrong, args: ['demo', '--epochs', 'many'], says: ["'--epochs <n>'", "'many'"] }),
    ])
    await Promise.all([
      assertRefused({ ...wrong, args: ['agent', '--config', config, '--fast'], says: ["'--fast'"] }),
      assertRefused({
        ...wrong,
        args: ['agent', '--config', config, '--log-level', 'loud'],
        says: ['--log-level', 'loud'],
      }),
      // the command line comes before any file
      assertRefused({
        ...wrong,
        args: ['agent', '--config', join(folder, 'none.json'), '--log-level', 'loud'],
        says: ['--log-level', 'loud'],
      }),
      assertRefused({
        ...wrong,
        args: ['issuer', '--config', join(folder, 'none.json'), '--log-level', 'loud', '--check-config'],
        says: ['--log-level', 'loud'],
      }),
      assertRefused({ ...wrong, args: [...init, '--server', 'nats-1'], says: ['--server', '"nats-1"'] }),
      assertRefused({
        ...wrong,
        args: [...init, '--server', 'nats-1=127.0.0.1', '--publish', 'orders=a.>'],
        says: ['--publish', '"orders=a.>"'],
      }),
    ])
    await assert.rejects(access(out), { code: 'ENOENT' })
  })

  test('init refuses wrong names, names given twice, ports and durations, and makes nothing', async () => {
    const wrong = { code: 'ERR_CONFIG_INVALID', exit: 78 } as const
    const out = join(folder, 'new')
    const init = (domainName: string, ...rest: string[]) => [
      'init',
      '--domain',
      domainName,
      '--out',
      out,
      ...rest,
    ]
    const server = ['--server', 'nats-1=127.0.0.1']
    const twice = ['--service', 'a', '--service', 'a', '--service', 'issuer']
    await Promise.all([
      assertRefused({ ...wrong, args: init('Prod', ...server), says: ['domain', '"Prod"'] }),
      assertRefused({ ...wrong, args: init('prod', '--server', 'n_1=127.0.0.1'), says: ['"n_1"'] }),
      assertRefused({ ...wrong, args: init('prod', ...twice), says: ['"a"', '"issuer"', 'one server'] }),
    ])
    await Promise.all([
      assertRefused({
        ...wrong,
        args: init('Prod', '--server', 'N_1=127.0.0.1', '--service', 'Orders', '--service', 'Billing'),
        says: ['domain', '"Prod"', '"N_1"', '"Orders"', '"Billing"'],
      }),
      assertRefused({
        ...wrong,
        args: init('prod', '--server', 'nats-1=bad host', '--service', 'orders=orders test,,ok.test'),
        says: ['server nats-1', '"bad host"', 'service orders', '"orders test", ""'],
      }),
    ])
    await Promise.all([
      assertRefused({ ...wrong, args: init('prod', '--server', 'n=127.0.0.1:99999:0'), says: ['99999, 0'] }),
      assertRefused({
        ...wrong,
        args: init('prod', ...server, '--epoch', '6 days'),
        says: ['--epoch', '"6 days"'],
      }),
      assertRefused({
        ...wrong,
        args: init('prod', ...server, '--passphrase-file', join(folder, 'no-passphrase')),
        says: ['passphrase file', 'no-passphrase'],
      }),
    ])
    await assert.rejects(access(out), { code: 'ENOENT' })
  })

  test('init founds nothing in a directory that is not empty', async () => {
    const out = join(folder, 'full')
    await mkdir(out)
    await writeFile(join(out, 'notes.txt'), 'mine')
    await assertRefused({
      args: ['init', '--domain', 'prod', '--out', out, '--server', 'nats-1=127.0.0.1'],
      code: 'ERR_CONFIG_INVALID',
      exit: 78,
      says: [out, 'empty'],
    })
    assert.deepEqual(await readdir(out), ['notes.txt'])
  })

  test('an agent does not start on a directory that is no identity, that another agent has, or whose key others read', async () => {
    const empty = join(folder, 'empty')
    await mkdir(empty, { mode: 0o700 })
    const nowhere = await changed(agentFile('orders'), { identity: empty })
    await chmod(join(identityDir('stock'), 'current', 'tls.key'), 0o644)
    await using _held = await openDirectory(identityDir('billing'))
    await Promise.all([
      assertRefused({
        people: true,
        args: ['agent', '--config', nowhere],
        code: 'ERR_IDENTITY_MISSING',
        exit: 66,
        says: [empty],
      }),
      assertRefused({
        args: ['agent', '--config', agentFile('billing')],
        code: 'ERR_IDENTITY_LOCKED',
        exit: 75,
        says: [identityDir('billing'), String(process.pid)],
      }),
      assertRefused({
        args: ['agent', '--config', agentFile('stock')],
        code: 'ERR_IDENTITY_MODE',
        exit: 77,
        says: ['tls.key', '644'],
      }),
    ])
  })

  test('an agent whose nats-server is not there does not start, says which, and leaves the directory free', async () => {
    const started = startAgent({
      config: await readAgentConfig(agentFile('nats-1')),
      logger: silentLogger,
      startTimeout: 300,
    })
    await assert.rejects(started, (error) => {
      assert.ok(RotorError.is(error))
      assert.deepEqual([error.code, error.exitCode], ['ERR_TARGET_UNREACHABLE', 69])
      assert.match(error.message, /nats-server nats-1: client listener 127\.0\.0\.1:\d+/)
      return true
    })
    await (await openDirectory(identityDir('nats-1'))).close()
  })

  test('an agent whose process, service or proof is not there does not start, and kills nobody', async () => {
    const folderOf = await mkdtemp(join(folder, 'targets-'))
    const pidFile = join(folderOf, 'service.pid')
    const [port = 0] = await freePorts(1)
    const deaf = spawn('/bin/sh', ['-c', 'echo ready; while :; do sleep 0.1; done'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      await once(deaf.stdout, 'data')
      await writeFile(pidFile, String(deaf.pid))
      const url = `http://127.0.0.1:${port}/reload`
      const config = await readAgentConfig(agentFile('orders'))
      for (const [target, words] of [
        [{ type: 'signal', pidFile: `${pidFile}-none` }, /pid file .*ENOENT/],
        [{ type: 'signal', pidFile }, /process \d+ of .* does not handle SIGHUP and would end by it/],
        [{ type: 'exec', command: ['/bin/true'], check: ['/no/such/check'] }, /\/no\/such\/check: no such/],
        [
          { type: 'exec', command: ['/bin/true'], probe: { address: `127.0.0.1:${port}` } },
          /probe: tls listener/,
        ],
        [{ type: 'http', url }, /http:\/\/127.*ECONNREFUSED/],
      ] as const) {
        const file = await changed(agentFile('orders'), { targets: [target] })
        const { targets } = await readAgentConfig(file)
        const started = startAgent({
          config: { ...config, targets },
          logger: silentLogger,
          startTimeout: 300,
        })
        await assert.rejects(started, { code: 'ERR_TARGET_UNREACHABLE', message: words })
      }
      assert.deepEqual([deaf.exitCode, deaf.signalCode], [null, null])
    } finally {
      deaf.kill('SIGKILL')
      await once(deaf, 'exit')
    }
  })

  test('what can not be read is said by probe, inspect and rotate as well', async () => {
    const none = join(folder, 'nothing')
    await Promise.all([
      assertRefused({ args: ['inspect', none], code: 'ERR_IDENTITY_MISSING', exit: 66, says: [none] }),
      assertRefused({ args: ['probe', 'nohost'], code: 'ERR_CONFIG_INVALID', exit: 78, says: ['"nohost"'] }),
      assertRefused({
        args: ['rotate', '--config', none, '--reason', 'a test'],
        code: 'ERR_CONFIG_INVALID',
        exit: 78,
        says: [none],
      }),
    ])
  })
})
