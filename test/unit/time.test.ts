import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import fc from 'fast-check'
import { Bell } from '../../src/bell.ts'
import { RotorError } from '../../src/errors.ts'
import { Backoff, runTasks } from '../../src/tasks.ts'
import { formatDuration, parseDuration, sleep } from '../../src/time.ts'

test('a duration that was formatted is parsed to the same number', () => {
  fc.assert(fc.property(fc.nat({ max: 1e12 }), (ms) => assert.equal(parseDuration(formatDuration(ms)), ms)))
})

test('what is no duration is refused and its key is named', () => {
  for (const text of ['', '6', 'h', '6 h', '-1h', '1h!', '1y', 'one hour']) {
    assert.throws(
      () => parseDuration(text, 'epoch'),
      (error: RotorError) =>
        RotorError.is(error) && error.code === 'ERR_CONFIG_INVALID' && error.message.startsWith('epoch:'),
      text,
    )
  }
})

test('a wait ends with the reason of its signal and leaves no listener', async () => {
  const controller = new AbortController()
  const reason = new RotorError('ERR_ABORTED', 'enough')
  const waiting = sleep(60_000, controller.signal)
  controller.abort(reason)
  await assert.rejects(waiting, (error) => error === reason)
  const other = new AbortController()
  await sleep(1, other.signal)
  assert.equal(getEventListeners(other.signal, 'abort').length, 0)
})

test('a long wait looks at its clock now and then: a machine that slept wakes soon', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const start = 1_000_000
  let now = start
  const waiting = sleep(3 * 3_600_000, undefined, { now: () => now })
  // The timers of the process stood still while three hours went by; a minute of timers is enough to notice.
  now = start + 3 * 3_600_000
  t.mock.timers.tick(60_000)
  await waiting
})

test('a clock that is set back makes no wait longer', async () => {
  let now = 1_000_000
  const waiting = sleep(5, undefined, { now: () => now })
  now -= 3_600_000
  await waiting
})

test('a bell that rang before anybody waited is not lost, and one ring wakes once', async () => {
  const bell = new Bell()
  const { signal } = new AbortController()
  bell.ring()
  await bell.wait(60_000, signal)
  const second = bell.wait(60_000, signal)
  bell.ring()
  await second
  await bell.wait(1, signal)
})

test('a bell that is waited for ends with its signal', async () => {
  const controller = new AbortController()
  const waiting = new Bell().wait(60_000, controller.signal)
  controller.abort(new Error('stop'))
  await assert.rejects(waiting, /stop/)
})

test('the first task that fails stops the others, all are awaited, and its failure is thrown', async () => {
  const ended: string[] = []
  const patient = async (signal: AbortSignal): Promise<void> => {
    await sleep(60_000, signal).catch(() => {})
    ended.push('patient')
  }
  const failing = async (): Promise<void> => {
    throw new Error('first')
  }
  await assert.rejects(runTasks(new AbortController().signal, [patient, failing, patient]), /first/)
  assert.deepEqual(ended, ['patient', 'patient'])
})

test('tasks that end because they were told to are no failure', async () => {
  const controller = new AbortController()
  const running = runTasks(controller.signal, [(signal) => sleep(60_000, signal)])
  controller.abort(new Error('told'))
  await running
})

test('backoff grows to its limit, stays within half and whole of a step, and begins again after reset', () => {
  const backoff = new Backoff({ base: 100, max: 1000, random: () => 1 })
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6].map(() => backoff.next()),
    [100, 200, 400, 800, 1000, 1000],
  )
  backoff.reset()
  assert.equal(backoff.next(), 100)
  assert.equal(new Backoff({ base: 100, random: () => 0 }).next(), 50)
})
