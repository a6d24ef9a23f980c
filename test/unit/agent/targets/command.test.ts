/** Commands of the user's: their end, their words, and what they leave running. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { assertExecutable, runCommand } from '../../../../agent/targets/command.ts'
import { isRunning } from '../../../../agent/targets/process.ts'
import { eventually } from '../../../support/eventually.ts'

const { signal } = new AbortController()
const sh = (script: string): string[] => ['/bin/sh', '-c', script]

describe('a command', () => {
  test('that ends with 0 is fine, whatever it says', async () => {
    await runCommand(sh('echo out; echo err >&2'), { timeout: 10_000, signal })
  })

  test('that ends otherwise is an error of the given code with its last words', async () => {
    await assert.rejects(
      runCommand(sh('echo a lot; echo no room >&2; exit 3'), { timeout: 10_000, signal }),
      {
        code: 'ERR_NOTIFY_FAILED',
        message: '/bin/sh ended with 3: no room',
      },
    )
    await assert.rejects(
      runCommand(sh('echo only this; kill -TERM $$'), { timeout: 10_000, signal, code: 'ERR_PROOF_FAILED' }),
      { code: 'ERR_PROOF_FAILED', message: '/bin/sh ended with SIGTERM: only this' },
    )
    const endless = sh('i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; exit 1')
    await assert.rejects(runCommand(endless, { timeout: 30_000, signal }), (error: Error) => {
      assert.ok(error.message.length < 600)
      assert.match(error.message, /line 2999$/)
      return true
    })
  })

  test('that does not end is killed after the timeout, and the error says so', async () => {
    const began = performance.now()
    await assert.rejects(runCommand(sh('echo still here; exec sleep 30'), { timeout: 200, signal }), {
      code: 'ERR_NOTIFY_FAILED',
      message: '/bin/sh did not end within 200ms and was killed: still here',
    })
    assert.ok(performance.now() - began < 15_000)
  })

  test('that starts something which goes on with its output is done when it ends itself', async () => {
    const file = join(tmpdir(), `rotor-left-${process.pid}`)
    const left = sh(`(while :; do echo talking; sleep 0.05; done) & echo $! > ${file}`)
    const began = performance.now()
    await runCommand(left, { timeout: 30_000, signal })
    assert.ok(performance.now() - began < 15_000)
    const pid = Number(await readFile(file, 'utf8'))
    assert.equal(await isRunning(pid), true)
    process.kill(pid, 'SIGKILL')
    await rm(file)
    await eventually(async () => !(await isRunning(pid)))
  })

  test('is killed when its caller stops, who gets the reason', async () => {
    const stop = new AbortController()
    const running = runCommand(sh('exec sleep 30'), { timeout: 60_000, signal: stop.signal })
    stop.abort(new Error('enough'))
    await assert.rejects(running, { message: 'enough' })
    await assert.rejects(runCommand(sh('true'), { timeout: 1000, signal: stop.signal }), {
      message: 'enough',
    })
  })

  test('that does not exist is known before it is needed, and when it is run', async () => {
    const missing = '/no/such/command'
    await assert.rejects(assertExecutable(missing), {
      code: 'ERR_TARGET_UNREACHABLE',
      message: /no such command/,
    })
    await assert.rejects(assertExecutable('no-such-command-anywhere'), { code: 'ERR_TARGET_UNREACHABLE' })
    await assertExecutable('sh')
    await assert.rejects(runCommand([missing], { timeout: 1000, signal }), {
      code: 'ERR_NOTIFY_FAILED',
      message: /\/no\/such\/command.*ENOENT/,
    })
  })
})

test('a dead process that nobody looked at is not running', async () => {
  // the shell replaces itself by a program that never waits for its child
  const parent = spawn('/bin/sh', ['-c', '(exit 0) & echo $!; exec sleep 30'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  try {
    const [chunk] = await once(parent.stdout, 'data')
    const pid = Number(String(chunk))
    await eventually(async () => !(await isRunning(pid)))
    assert.equal(await isRunning(Number(parent.pid)), true)
  } finally {
    parent.kill('SIGKILL')
    await once(parent, 'exit')
  }
})
