import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { summarise } from '../../../bench/summary.ts'
import { Timeline } from '../../../bench/timeline.ts'

const T0 = 1_000_000

/** A rotation to version 2 as its processes tell it; the turn of the server lasts from 20 to 50. */
function rotation(): Timeline {
  const timeline = new Timeline(['nats-1', 'orders'])
  const issuer = (at: number, event: object) =>
    timeline.take({ type: '', node: 'issuer', at: new Date(T0 + at).toISOString(), ...event })
  const node = (name: string, at: number, event: object) =>
    timeline.take({ type: 'step', node: name, clock: T0 + at, version: 2, ...event })
  issuer(0, { type: 'commit', when: 'before', move: 'activate', version: 2 })
  issuer(0, { type: 'commit', when: 'after', move: 'activate', version: 2 })
  issuer(0, { type: 'effect', when: 'before', effect: { kind: 'publish-bundle', version: 2 } })
  node('nats-1', 5, { step: 'verify', version: 1 })
  node('orders', 6, { step: 'verify', version: 1 })
  node('nats-1', 10, { step: 'renew' })
  node('nats-1', 15, { step: 'stage' })
  node('nats-1', 20, { type: 'turn', turn: 'wanted' })
  node('nats-1', 50, { type: 'turn', turn: 'ours' })
  node('nats-1', 50, { step: 'publish' })
  node('nats-1', 55, { step: 'notify' })
  node('nats-1', 60, { step: 'prove' })
  node('nats-1', 80, { type: 'link', tookMs: 4 })
  node('nats-1', 80, { step: 'report' })
  node('orders', 9, { step: 'stage' })
  node('orders', 12, { type: 'applied' })
  return timeline
}

const applied = (timeline: Timeline) =>
  timeline.take({ type: 'applied', node: 'nats-1', clock: T0 + 90, version: 2 })

describe('the timeline of a rotation', () => {
  test('says nothing before the last node has proven the bundle', () => {
    const timeline = rotation()
    assert.equal(timeline.measure(2), null)
    assert.equal(timeline.quiet, false)
  })

  test('runs from the begin of publishing to the last node, and names it', () => {
    const timeline = rotation()
    applied(timeline)
    const measured = timeline.measure(2)
    assert.equal(measured?.provenMs, 90)
    assert.equal(measured?.slowest, 'nats-1')
  })

  test('gives every millisecond of a node to one part', () => {
    const timeline = rotation()
    applied(timeline)
    assert.deepEqual(timeline.measure(2)?.parts.get('nats-1'), {
      deliver: 5,
      verify: 5,
      renew: 5,
      stage: 5,
      turn: 30,
      publish: 5,
      notify: 5,
      prove: 16,
      link: 4,
      report: 10,
    })
  })

  test('is quiet when every node has the newest bundle and the issuer waits for nothing', () => {
    const timeline = rotation()
    applied(timeline)
    assert.equal(timeline.quiet, false)
    timeline.take({ type: 'waiting', node: 'issuer', reason: 'not-due', at: new Date(T0).toISOString() })
    assert.equal(timeline.quiet, true)
  })

  test('knows when the issuer went on', () => {
    const timeline = rotation()
    assert.equal(timeline.decidedMs(2), null)
    const at = new Date(T0 + 95).toISOString()
    timeline.take({ type: 'commit', when: 'after', move: 'converge', version: 2, node: 'issuer', at })
    assert.equal(timeline.decidedMs(2), 95)
  })

  test('keeps what failed', () => {
    const timeline = rotation()
    timeline.take({ type: 'rolled-back', node: 'orders', code: 'ERR_PROOF_FAILED', message: 'no' })
    assert.deepEqual(timeline.failures, ['orders: rolled-back, ERR_PROOF_FAILED: no'])
  })
})

test('the summary compares the rotation with one of each floor after the other', () => {
  const measured = { provenMs: 300, decidedMs: 310, slowest: 'nats-1', parts: new Map() }
  const round = {
    floors: { dial: [10], reload: [15], roundTrip: [5] },
    measured: { trust: { ...measured, provenMs: 60 }, signer: measured },
    cpuMs: { issuer: 50 },
  }
  const summary = summarise([round], () => 'server')
  assert.equal(summary.floorSumMs.p50, 30)
  assert.equal(summary.ratios.trust.p50, 2)
  assert.equal(summary.ratios.signer.max, 10)
  assert.equal(summary.target.met, false)
})
