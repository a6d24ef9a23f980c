import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Work } from '../../../agent/work.ts'
import type { AcceptedBundle } from '../../../src/bundle/accept.ts'
import { RotorError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/log.ts'
import { systemClock } from '../../../src/time.ts'
import { eventually } from '../../support/eventually.ts'
import { bundleIn, steadyState } from '../../support/rotation-world.ts'

const bundle = (version: number): AcceptedBundle => ({
  payload: { ...bundleIn(steadyState()), version },
  digest: String(version),
  text: '',
  authorities: [],
  roots: [],
  signers: [],
})

test('a bundle that failed is not tried again after a newer one was accepted', async (t) => {
  const stop = new AbortController()
  t.after(() => stop.abort())
  const tried: number[] = []
  const looked: number[] = []
  let highest = 1
  const applier = {
    isSuperseded: ({ payload }: AcceptedBundle) => {
      looked.push(payload.version)
      return highest > payload.version
    },
    isApplied: async () => false,
    apply: async ({ payload: { version } }: AcceptedBundle) => {
      tried.push(version)
      if (version === 1) {
        highest = 2
        work.offer({ bundle: bundle(2), message: null })
        throw new RotorError('ERR_TURN_REFUSED', 'version 2 has replaced version 1')
      }
      return async () => {}
    },
  }
  const reporter = { flush: async () => {} }
  const link = { leave: async () => {} }
  const work = new Work(applier, reporter, link, 10, systemClock, silentLogger, stop.signal)
  work.offer({ bundle: bundle(1), message: null })
  // the second time it comes from the timer
  await eventually(() => looked.filter((version) => version === 1).length === 2)
  await work.idle()
  assert.deepEqual(tried, [1, 2])
})

test('while a new leaf is due and can not be had, the timer that offers the bundle does not shorten the wait', async (t) => {
  const stop = new AbortController()
  t.after(() => stop.abort())
  let now = 1_000_000
  let tries = 0
  const applier = {
    isSuperseded: () => false,
    isApplied: async () => false,
    apply: async () => {
      tries += 1
      if (tries <= 2) throw new RotorError('ERR_SIGN_PROOF', 'the certificate has ended')
      return async () => {}
    },
  }
  const waits: number[] = []
  const logger = {
    ...silentLogger,
    warn: (fields: object) => void waits.push(Reflect.get(fields, 'againMs')),
  }
  const clock = { now: () => now }
  const link = { leave: async () => {} }
  const work = new Work(applier, { flush: async () => {} }, link, 60_000, clock, logger, stop.signal)
  const offer = async (version: number) => {
    work.offer({ bundle: bundle(version), message: null })
    await work.idle()
    return tries
  }
  assert.equal(await offer(1), 1)
  now += (waits[0] ?? assert.fail()) - 1
  assert.equal(await offer(1), 1)
  now += 1
  assert.equal(await offer(1), 2)
  assert.equal(await offer(1), 2)
  assert.equal(await offer(2), 3, 'a newer one is no repetition')
  assert.equal(await offer(2), 4, 'after a success nothing waits')
})
