/** Whom a pid file names, and what a signal would do to that process. With real processes. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { dispositionOf, readPid, readSignallable, signalPidFile } from '../../../../agent/targets/process.ts'

const LOOP = 'echo ready; while :; do sleep 0.05; done'
const linux = process.platform === 'linux'

describe('a process of a pid file', () => {
  let folder: string
  let pidFile: string
  const children: ChildProcess[] = []
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rotor-process-'))
    pidFile = join(folder, 'service.pid')
  })
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })
  after(() => rm(folder, { recursive: true, force: true }))

  async function start(script: string): Promise<ChildProcess & { pid: number }> {
    const child = spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] })
    children.push(child)
    await once(child.stdout, 'data')
    await writeFile(pidFile, `${child.pid}\n`)
    return Object.assign(child, { pid: child.pid ?? 0 })
  }
  const refused = (message: RegExp) => ({ code: 'ERR_TARGET_UNREACHABLE', message })

  test('is refused when the file is missing, holds no process id, or a group of processes', async () => {
    await assert.rejects(readPid(join(folder, 'none')), refused(/ENOENT/))
    for (const text of ['', 'service', '-1', '0', '1', '12.5', '1e99', '4194305000']) {
      await writeFile(pidFile, text)
      await assert.rejects(readPid(pidFile), refused(/pid file .*: (expected a process id|process)/), text)
    }
  })

  test('is refused when it has ended', async () => {
    const child = await start(LOOP)
    assert.equal(await readPid(pidFile), child.pid)
    child.kill('SIGKILL')
    await once(child, 'exit')
    await assert.rejects(readPid(pidFile), refused(/process \d+ is not running/))
  })

  if (linux) {
    for (const name of ['SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const) {
      const short = name.slice(3)
      test(`${name}: a handler, an ignored one and the default are told apart; only the default is refused`, async () => {
        const handles = await start(`trap : ${short}; ${LOOP}`)
        assert.equal(await dispositionOf(handles.pid, name), 'handles')
        assert.deepEqual(await signalPidFile(pidFile, name), { pid: handles.pid, disposition: 'handles' })

        const ignores = await start(`trap '' ${short}; ${LOOP}`)
        assert.equal(await dispositionOf(ignores.pid, name), 'ignores')
        assert.deepEqual(await signalPidFile(pidFile, name), { pid: ignores.pid, disposition: 'ignores' })

        const dies = await start(LOOP)
        assert.equal(await dispositionOf(dies.pid, name), 'dies')
        await assert.rejects(
          signalPidFile(pidFile, name),
          refused(new RegExp(`process ${dies.pid} of .* does not handle ${name} and would end by it`)),
        )
        for (const { exitCode, signalCode } of [handles, ignores, dies]) {
          assert.deepEqual([exitCode, signalCode], [null, null])
        }
      })
    }

    test('is another one when the expected text is not in its command line, which is never shown', async () => {
      await start(`trap : HUP; secret=hunter2; ${LOOP}`)
      const { disposition } = await readSignallable(pidFile, 'SIGHUP', { commandLine: '/bin/sh -c trap' })
      assert.equal(disposition, 'handles')
      await assert.rejects(readSignallable(pidFile, 'SIGHUP', { commandLine: 'orders' }), (error: Error) => {
        assert.match(
          error.message,
          /"orders" is not in the command line of process \d+, which is another one/,
        )
        assert.doesNotMatch(error.message, /hunter2/)
        return true
      })
    })
  }
})
