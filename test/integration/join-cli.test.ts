/**
 * Joining as an operator does it: `rotor token` on one side, `rotor agent --join` on the other, `rotor agent remove` at the
 * end. The token comes from a file, from stdin or from the environment, and is never in the arguments of a process.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readIdentity } from '../../src/identity/read.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { answering, createToken, makeJoinable, nodeDir } from '../support/joining.ts'
import { PATIENCE, type RunningDomain } from '../support/running-domain.ts'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

describe('joining by command', { timeout: 180_000 }, () => {
  let domain: RunningDomain
  let config: string
  before(async () => {
    const joinable = await makeJoinable(
      ['node-1', 'node-2', 'node-3'],
      [{ name: 'node-*', role: 'service', names: { dns: ['{name}.internal'] } }],
    )
    domain = joinable.domain
    config = domain.local.founded.issuerConfig
    await domain.startAll()
    await answering(domain)
  })
  after(() => domain?.stop())

  interface Running {
    readonly pid: number
    stop(): Promise<string>
  }

  /** `rotor agent` as a process, until it has an identity. */
  async function runAgent(name: string, args: string[], input: string, env = {}): Promise<Running> {
    const child = spawn(process.execPath, [MAIN, 'agent', ...args], {
      stdio: ['pipe', 'ignore', 'pipe'],
      env: { ...process.env, ...env },
    })
    const said = text(child.stderr)
    const exited = once(child, 'exit')
    child.stdin.end(input)
    const stop = async () => {
      child.kill('SIGTERM')
      await exited
      return said
    }
    try {
      await eventually(() => readIdentity(join(nodeDir(domain, name), 'identity')), { timeout: PATIENCE })
    } catch (cause) {
      throw new Error(await stop(), { cause })
    }
    return { pid: child.pid ?? 0, stop }
  }

  const tokenOf = async (agent: string) => (await createToken(domain, agent)).text

  test('a token in a file lets a node join; the node runs, is listed, and is removed', async () => {
    const file = join(domain.local.dir, 'node-1.token')
    const made = await rotor(
      'token',
      'create',
      '--config',
      config,
      '--agent',
      'node-1',
      '--out',
      file,
      '--json',
      '--user',
    )
    assert.equal(made.code, 0, made.stderr)
    const answer = JSON.parse(made.stdout)
    assert.equal((await stat(file)).mode & 0o777, 0o600)
    const secret = (await readFile(file, 'utf8')).trim()
    assert.ok(!made.stdout.includes(secret.slice(7)))
    assert.match(answer.user, /user: "spiffe:\/\/demo\/node-1"/)

    const dir = nodeDir(domain, 'node-1')
    const agent = await runAgent('node-1', ['--dir', dir, '--join', file], '')
    const args = await readFile(`/proc/${agent.pid}/cmdline`, 'utf8')
    assert.ok(!args.includes(secret.slice(7, 40)))
    const written = JSON.parse(await readFile(join(dir, 'agent.json'), 'utf8'))
    assert.deepEqual(
      [written.agent, written.role, written.names.dns],
      ['node-1', 'service', ['node-1.internal']],
    )
    await domain.settled(['issuer', 'nats-1', 'node-1'], ({ agents }) => agents.length === 3)
    const listed = await rotor('token', 'list', '--config', config)
    assert.match(listed.stdout, new RegExp(`${answer.id} +node-1 +redeemed`))
    const log = await agent.stop()
    assert.ok(!log.includes(secret.slice(7, 40)))

    const removed = await rotor('agent', 'remove', 'node-1', '--config', config, '--reason', 'gone')
    assert.equal(removed.code, 0, removed.stderr)
    assert.match(removed.stdout, /node-1 was removed\.\nIts last known certificate is trusted until 20/)
    assert.equal((await domain.overview()).agents.length, 2)
  })

  test('a token from stdin or from the environment does as well', async () => {
    const stdin = await tokenOf('node-2')
    await (await runAgent('node-2', ['--dir', nodeDir(domain, 'node-2'), '--join', '-'], `${stdin}\n`)).stop()
    const variable = await tokenOf('node-3')
    const env = { ROTOR_JOIN_TOKEN: variable }
    await (await runAgent('node-3', ['--dir', nodeDir(domain, 'node-3')], '', env)).stop()
  })

  test('a token that does not count ends the command with its code, and says what to do', async () => {
    const {
      text: token,
      token: { id },
    } = await createToken(domain, 'node-2')
    const revoked = await rotor('token', 'revoke', id, '--config', config)
    assert.match(revoked.stdout, /counts no more/)
    const file = join(domain.local.dir, 'late.token')
    await writeFile(file, token)
    const dir = nodeDir(domain, 'late')
    const refused = await rotor('agent', '--dir', dir, '--join', file, '--json')
    assert.deepEqual(
      [refused.code, JSON.parse(refused.stdout.trim().split('\n').at(-1) ?? '').code],
      [77, 'ERR_JOIN_REFUSED'],
    )
    const stranger = await rotor('token', 'create', '--config', config, '--agent', 'stranger')
    assert.equal(stranger.code, 75)
    assert.match(stranger.stderr, /no entry of "agents" in issuer.json fits "stranger"/)
  })
})
