import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connect } from '@nats-io/transport-node'
import { findNatsServer, type NatsServerOptions, startNatsServer } from '../../../src/local/nats-server.ts'
import { eventually } from '../../support/eventually.ts'
import { RELEASES } from '../../support/test-cluster.ts'

const CHILD = fileURLToPath(new URL('server-child.ts', import.meta.url))
const ARGS = ['--addr', '127.0.0.1', '--port', '-1']

describe('a local nats-server', { timeout: 30_000 }, () => {
  let cwd: string
  before(async () => {
    cwd = await mkdtemp(join(tmpdir(), 'rotor-local-'))
  })
  after(() => rm(cwd, { recursive: true, force: true }))
  const options = (name: string, more: Partial<NatsServerOptions> = {}) => ({
    name,
    cwd,
    args: ARGS,
    ...more,
  })

  for (const release of RELEASES) {
    test(`of ${release} accepts connections when it is started, and is gone when it is stopped`, async () => {
      const binary = findNatsServer(release)
      const server = await startNatsServer(options(release, { binary }))
      const nc = await connect({ servers: server.addresses.client ?? '', reconnect: false })
      assert.equal(nc.info?.version, server.version)
      assert.equal(server.version, binary.version)
      await nc.close()
      await Promise.all([server.stop(), server.stop()])
      assert.equal(isAlive(server.pid), false)
      assert.equal(server.kill('SIGTERM'), false)
    })
  }

  test('tells when it was killed', async () => {
    await using server = await startNatsServer(options('killed'))
    server.kill('SIGKILL')
    assert.deepEqual(await server.exited, { code: null, signal: 'SIGKILL' })
  })

  test('that ends early is reported with the end of its log', async () => {
    await writeFile(join(cwd, 'broken.conf'), 'listen: 127.0.0.1:-1\nno_such_option: 1\n')
    await assert.rejects(startNatsServer(options('broken', { configFile: 'broken.conf' })), {
      code: 'ERR_NATS_UNAVAILABLE',
      message: /nats-server broken ended at its start with 1(.|\n)*no_such_option/,
    })
  })

  test('is stopped when its start is given up', async () => {
    await assert.rejects(
      startNatsServer(options('aborted', { signal: AbortSignal.abort(new Error('no more')) })),
      /no more/,
    )
    const stop = new AbortController()
    const starting = startNatsServer(options('aborted-later', { signal: stop.signal }))
    const log = join(cwd, 'aborted-later.log')
    const pid = await eventually(async () => /\[(\d+)\]/.exec(await readFile(log, 'utf8'))?.[1], {
      interval: 1,
    })
    stop.abort(new Error('no more'))
    // it may just have become ready
    await starting.then(
      (server) => server.stop(),
      (error: unknown) => assert.match(String(error), /no more/),
    )
    assert.equal(isAlive(Number(pid)), false)
  })

  test('without a binary is an error that names the binary', async () => {
    await assert.rejects(startNatsServer(options('missing', { binary: join(cwd, 'nothing') })), {
      code: 'ERR_BINARY_MISSING',
      message: /nothing/,
    })
  })

  test('dies with the process that started it, also when that one is killed', async () => {
    const parent = spawn(process.execPath, [CHILD, cwd], { stdio: ['ignore', 'pipe', 'inherit'] })
    const servers = String((await once(parent.stdout, 'data'))[0]).trim()
    await (await connect({ servers, reconnect: false })).close()
    parent.kill('SIGKILL')
    // not by its pid: that stays until somebody reaps the orphan
    await eventually(async () => {
      await assert.rejects(connect({ servers, reconnect: false, timeout: 1000 }))
      return true
    })
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
