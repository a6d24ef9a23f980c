import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { openDirectory } from '../../../src/identity/directory.ts'
import { acquireLock } from '../../../src/identity/lock.ts'
import { temporaryFolder } from './kit.ts'

/** Another process that can hold the lock. */
class Rival implements AsyncDisposable {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async start(): Promise<Rival> {
    const child = fork(join(import.meta.dirname, 'lock-child.ts'), { execArgv: [] })
    assert.deepEqual(await once(child, 'message'), ['ready', undefined])
    return new Rival(child)
  }

  get pid(): number {
    return this.#child.pid ?? assert.fail('it runs')
  }

  async take(folder: string): Promise<string> {
    return await this.#ask({ take: folder })
  }

  async release(): Promise<string> {
    return await this.#ask('release')
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  async #ask(order: object | string): Promise<string> {
    const answer = once(this.#child, 'message')
    this.#child.send(order)
    return String((await answer)[0])
  }
}

/** Pid of a process that has ended and was waited for. */
const deadPid = (): string => execFileSync('sh', ['-c', 'echo $$'], { encoding: 'utf8' }).trim()

describe('the lock of an identity directory', () => {
  test('a second agent is refused, in the same process and in another one, and told who has it', async () => {
    await using folder = await temporaryFolder()
    await using directory = await openDirectory(folder.path)
    await assert.rejects(openDirectory(folder.path), {
      code: 'ERR_IDENTITY_LOCKED',
      message: new RegExp(`process ${process.pid} `),
    })
    await using rival = await Rival.start()
    assert.equal(await rival.take(join(directory.path, 'lock')), 'ERR_IDENTITY_LOCKED')
    await directory.close()
    assert.equal(await rival.take(join(directory.path, 'lock')), 'held')
    await assert.rejects(openDirectory(folder.path), {
      code: 'ERR_IDENTITY_LOCKED',
      message: new RegExp(`process ${rival.pid} `),
    })
  })

  test('a killed agent does not keep it', async () => {
    await using folder = await temporaryFolder()
    await using rival = await Rival.start()
    assert.equal(await rival.take(folder.path), 'held')
    await rival.kill()
    assert.equal((await readdir(folder.path)).length, 1)
    const lock = await acquireLock(folder.path)
    assert.equal((await readdir(folder.path)).length, 1)
    await lock.release()
    assert.deepEqual(await readdir(folder.path), [])
  })

  test('another process with the pid of a dead holder does not keep it', async (t) => {
    await using folder = await temporaryFolder()
    const lock = await acquireLock(folder.path)
    const [ours = ''] = await readdir(folder.path)
    await lock.release()
    const [pid, started = '', token = ''] = ours.split('-')
    t.diagnostic(`processes are told apart by pid and "${started}"`)
    // The same pid, that of this process, but started one clock tick earlier; and the same in another boot.
    const [ticks, boot] = started.split('.')
    await writeFile(join(folder.path, `${pid}-${Number(ticks) - 1}.${boot}-${token}`), 'held\n')
    await writeFile(join(folder.path, `${pid}-${ticks}.00000000-${token}`), 'held\n')
    await (await acquireLock(folder.path)).release()
    assert.deepEqual(await readdir(folder.path), [])
    await writeFile(join(folder.path, ours), 'held\n')
    await assert.rejects(acquireLock(folder.path), { code: 'ERR_IDENTITY_LOCKED' })
  })

  test('a process that was killed before it had the lock is passed over, other files too', async () => {
    await using folder = await temporaryFolder()
    await writeFile(join(folder.path, `${deadPid()}-1.00000000-${'a'.repeat(16)}`), '')
    await writeFile(join(folder.path, 'notes'), 'by hand')
    await using _directory = { [Symbol.asyncDispose]: (await acquireLock(folder.path)).release }
    assert.equal((await readdir(folder.path)).length, 2)
  })

  test('of many that find a stale lock at the same moment exactly one gets it', async () => {
    await using folder = await temporaryFolder()
    await using rivals = new AsyncDisposableStack()
    const all = await Promise.all(Array.from({ length: 5 }, () => Rival.start()))
    for (const rival of all) rivals.use(rival)
    for (let round = 0; round < 15; round++) {
      await writeFile(join(folder.path, `${deadPid()}-1.00000000-${'a'.repeat(16)}`), 'held\n')
      const answers = await Promise.all(all.map((rival) => rival.take(folder.path)))
      assert.deepEqual(answers.toSorted(), [...Array(4).fill('ERR_IDENTITY_LOCKED'), 'held'])
      await all[answers.indexOf('held')]?.release()
    }
    assert.deepEqual(await readdir(folder.path), [])
  })
})
