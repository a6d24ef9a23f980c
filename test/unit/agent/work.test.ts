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
