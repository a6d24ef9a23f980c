import assert from 'node:assert/strict'
import { test } from 'node:test'
import { turnFacts } from '../../../issuer/turn-facts.ts'
import { turnTime } from '../../../issuer/turns.ts'
import { type AgentEntry, agentEntry } from '../../../src/domain/agents.ts'
import { formatInstant, type Instant } from '../../../src/time.ts'
import { type AgentStatus, SILENT } from '../../../src/wire/status.ts'
import { at, bundleIn, status, steadyState } from '../../support/rotation-world.ts'

const bundle = bundleIn(steadyState())
const now = Date.parse(bundle.issuedAt) + 1000
const member = (name: string, role: AgentEntry['role']) => agentEntry.parse({ name, role })
const MEMBERS = [member('issuer', 'issuer'), member('n1', 'server'), member('orders', 'service')]

function facts(change: {
  members?: readonly AgentEntry[]
  reported?: Record<string, Instant>
  unread?: boolean
}) {
  const { members = MEMBERS, reported = {}, unread = false } = change
  const statusOf = (agent: string): AgentStatus | null => {
    const last = reported[agent]
    return last === undefined ? null : status(steadyState(), { agent, at: formatInstant(last) })
  }
  return turnFacts({
    view: { bundle: unread ? null : bundle },
    registry: { members: () => members },
    statuses: { get: statusOf },
    loop: { tolerates: () => false, confirms: () => null },
    clock: { now: () => now },
  })
}

test('a server is expected to be the first, for one turn after the version was issued', () => {
  const time = turnTime(bundle.schedule.epochDuration)
  const issued = Date.parse(bundle.issuedAt)
  assert.equal(facts({ reported: { n1: now } }).canaryUntil(bundle.version), issued + time)
  // before any report was read, or ever made: it may be about to start
  assert.equal(facts({}).canaryUntil(bundle.version), issued + time)
  // the version is not known here yet
  assert.equal(facts({}).canaryUntil(bundle.version + 1), now + time)
  assert.equal(facts({ unread: true }).canaryUntil(1), now + turnTime(0))
})

test('no server is expected where none is a member, or none has said anything for long', () => {
  const services = MEMBERS.filter(({ role }) => role !== 'server')
  assert.equal(facts({ members: services, reported: { orders: now } }).canaryUntil(bundle.version), 0)
  assert.equal(facts({ reported: { n1: now - SILENT, orders: now } }).canaryUntil(bundle.version), 0)
  const two = [...MEMBERS, member('n2', 'server')]
  const one = facts({ members: two, reported: { n1: now - SILENT, n2: now } })
  assert.notEqual(one.canaryUntil(bundle.version), 0)
})

test('a step has ended by what its agent reports, whether the release arrived or not', () => {
  const ended = (change: Partial<AgentStatus>) =>
    turnFacts({
      view: { bundle },
      registry: { members: () => MEMBERS },
      statuses: { get: (agent) => status(steadyState(), { agent, ...change }) },
      loop: { tolerates: () => false, confirms: () => null },
      clock: { now: () => at(104) },
    }).hasEnded({ agent: 'n1', version: 5 })
  assert.equal(ended({ version: 5 }), true)
  assert.equal(ended({ version: 6 }), true)
  assert.equal(ended({ version: 5, state: 'applying' }), false)
  assert.equal(ended({ version: 4 }), false)
  const lastError = { code: 'ERR_RELOAD_REFUSED' as const, message: '', at: formatInstant(now), version: 5 }
  assert.equal(ended({ version: 4, state: 'rolled-back', lastError }), true)
  assert.equal(ended({ version: 4, state: 'rolled-back', lastError: { ...lastError, version: 3 } }), false)
})

test('a version is proven by what a server reports of it, and by nobody else', () => {
  const appliedBy = (agent: string, change: Partial<AgentStatus>) =>
    turnFacts({
      view: { bundle },
      registry: { members: () => MEMBERS },
      statuses: {
        get: (name) =>
          name === agent
            ? status(steadyState(), { agent, at: formatInstant(now), version: 5, ...change })
            : null,
      },
      loop: { tolerates: () => false, confirms: () => null },
      clock: { now: () => now },
    }).appliedBy(5)
  assert.deepEqual(appliedBy('n1', {}), { agent: 'n1', version: 5, at: now })
  assert.equal(appliedBy('n1', { state: 'applying' }), null)
  assert.equal(appliedBy('n1', { state: 'rolled-back' }), null)
  assert.equal(appliedBy('n1', { version: 4 }), null)
  assert.equal(appliedBy('orders', {}), null)
})

test('a version is put back by what a server reports as its verdict, and by nothing else', () => {
  const refusedBy = (agent: string, change: Partial<AgentStatus>) =>
    turnFacts({
      view: { bundle },
      registry: { members: () => MEMBERS },
      statuses: { get: (name) => (name === agent ? status(steadyState(), { agent, ...change }) : null) },
      loop: { tolerates: () => false, confirms: () => null },
      clock: { now: () => now },
    }).refusedBy(5)
  const lastError = { code: 'ERR_PROOF_FAILED' as const, message: '', at: formatInstant(now), version: 5 }
  const back = { version: 4, state: 'rolled-back', lastError } as const
  assert.deepEqual(refusedBy('n1', back), ['n1'])
  assert.deepEqual(refusedBy('orders', back), [])
  assert.deepEqual(refusedBy('n1', { ...back, state: 'applied' }), [])
  assert.deepEqual(refusedBy('n1', { ...back, lastError: { ...lastError, version: 4 } }), [])
  const down = { ...lastError, code: 'ERR_NATS_UNAVAILABLE' as const }
  assert.deepEqual(refusedBy('n1', { ...back, lastError: down }), [])
})
