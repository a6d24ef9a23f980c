/**
 * The soak in short: a few rotations of a real domain with a fault in each. In one of them a message is counted as published
 * and never sent. That one is found, and nothing else: every rotation ends, every other message arrives, nothing is left.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runSoak, type SoakReport } from '../soak/soak.ts'

const PLANTED = 2
const FAULTS = ['issuer killed', 'agent frozen'] as const

test('rotations with a fault in each lose nothing but the message that was planted', {
  timeout: 300_000,
}, async (t) => {
  const report: SoakReport = await runSoak({
    rotations: FAULTS.length,
    seed: 5,
    services: 2,
    faults: FAULTS,
    plant: PLANTED,
    signal: t.signal,
    note: (text) => t.diagnostic(text),
  })
  assert.equal(report.problems.length, 1, report.problems.join('\n'))
  assert.match(
    String(report.problems),
    /^rotation 2, .*: core service-1 -> service-2: 1 lost, the first is \d+ \(machine: [^)]+\)$/,
  )
  assert.equal(report.ok, false)
  assert.equal(report.rotations, FAULTS.length)
  assert.deepEqual(Object.keys(report.faults).toSorted(), [...FAULTS].toSorted())
  assert.ok(report.core.published > 50 && report.jetstream.acknowledged > 50)
})
