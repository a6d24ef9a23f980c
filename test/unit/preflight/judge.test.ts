import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ConsumerFacts, Facts, ListenerFacts, ServerFacts } from '../../../src/preflight/facts.ts'
import { FINDINGS, type FindingId, finding, inOrder } from '../../../src/preflight/findings.ts'
import { judge } from '../../../src/preflight/judge.ts'
import { formatInstant } from '../../../src/time.ts'
import type { AgentStatus } from '../../../src/wire/status.ts'
import { CONSUMER, facts, NOW, told } from '../../support/preflight-world.ts'
import {
  at,
  distributingState,
  epochsIn,
  HOUR,
  healthy,
  held,
  hex,
  leaf,
  MINUTE,
  order,
  root,
  tainted,
} from '../../support/rotation-world.ts'

const WELL = facts()
const { state } = WELL

const seen = (change: Partial<Facts['seen']>): Facts => facts({ seen: { ...WELL.seen, ...change } })
const agent = (change: Partial<AgentStatus> | null, name = 'orders'): Facts =>
  seen({ agents: told(state, { [name]: change }) })
const node = (name: string, connected: boolean): Facts =>
  facts({ nodes: WELL.nodes.map((one) => (one.name === name ? { ...one, connected } : one)) })
const server = (change: Partial<ServerFacts>): Facts =>
  facts({ servers: (WELL.servers ?? []).map((one) => (one.name === 'n1' ? { ...one, ...change } : one)) })
const listener = (change: Partial<ListenerFacts>): Facts =>
  facts({ listeners: WELL.listeners.map((one, i) => (i === 1 ? { ...one, ...change } : one)) })
const consumer = (change: Partial<ConsumerFacts>): Facts =>
  facts({ streams: [{ name: 'A/S', storage: 'file', replicas: 1, consumers: [{ ...CONSUMER, ...change }] }] })
const keys = (change: Partial<Facts['keys']>): Facts => facts({ keys: { ...WELL.keys, ...change } })
const issuer = (change: Partial<Facts['issuer']>): Facts => facts({ issuer: { ...WELL.issuer, ...change } })
const rootEnds = (end: number): Facts => facts({ rootEnds: { [root(1).sha256]: end } })
const lastError = {
  code: 'ERR_RELOAD_REFUSED',
  message: 'no',
  at: formatInstant(0),
  version: state.version,
} as const

/** For each finding a domain in which nothing else is wrong, and what it is said of. */
const CASES: Readonly<Record<FindingId, { facts: Facts; now?: number; name: string; found: RegExp }>> = {
  'no-leader': {
    facts: issuer({ lease: { holder: 'issuer', at: NOW - MINUTE, duration: 10_000 } }),
    name: 'prod',
    found: /issuer has not renewed its lease of 10s for 1m/,
  },
  'issuer-problem': {
    facts: issuer({ problem: { code: 'ERR_AUTHORITY_SEALED', message: 'sealed', since: 'noon' } }),
    name: 'prod',
    found: /since noon: ERR_AUTHORITY_SEALED sealed/,
  },
  paused: {
    facts: facts({ state: { ...state, paused: { by: 'alice', reason: 'a fair', at: NOW } } }),
    name: 'prod',
    found: /by alice: a fair/,
  },
  tainted: { facts: facts({ state: tainted(state, 103, NOW) }), name: 'epoch 103', found: /alice: stolen/ },
  'rotation-under-way': {
    facts: facts({ state: { ...state, order: order(false, NOW) } }),
    name: 'prod',
    found: /phase steady, ordered by alice: drill/,
  },
  'rotation-holds': {
    facts: issuer({ waitingFor: [{ name: 'orders', kind: 'agent', missing: 'sleeps' }] }),
    name: 'orders',
    found: /sleeps/,
  },
  'agent-never-reported': { facts: agent(null), name: 'orders', found: /no status record/ },
  'agent-silent': {
    facts: agent({ at: formatInstant(NOW - HOUR) }),
    name: 'orders',
    found: /its last report/,
  },
  'agent-not-connected': { facts: node('orders', false), name: 'orders', found: /its last report/ },
  'agent-rolled-back': {
    facts: agent({ state: 'rolled-back', lastError, version: state.version - 1 }),
    name: 'orders',
    found: /ERR_RELOAD_REFUSED at version \d+: no/,
  },
  'agent-behind': {
    facts: agent({ version: state.version - 1 }),
    name: 'orders',
    found: /version \d+ of \d+/,
  },
  'agent-other-bundle': { facts: agent({ digest: hex('other') }), name: 'orders', found: /ours is/ },
  'agent-clock-off': {
    facts: agent({ clockOffsetMs: -6 * MINUTE, clockBoundMs: 5 }),
    name: 'orders',
    found: /-6m ±5ms, the lead is 5m/,
  },
  'leaf-ended': { facts: agent({ leaf: leaf(104, NOW) }), name: 'orders', found: /it ended at/ },
  'leaf-overdue': { facts: agent({ leaf: leaf(104, NOW + 19 * MINUTE) }), name: 'orders', found: /in 19m/ },
  'server-silent': {
    facts: facts({ servers: (WELL.servers ?? []).slice(1) }),
    name: 'n1',
    found: /no answer/,
  },
  'server-without-agent': {
    facts: facts({ servers: [...(WELL.servers ?? []), { ...SERVER(), name: 'n3' }] }),
    name: 'n3',
    found: /no agent has its name/,
  },
  'listener-unreachable': {
    facts: listener({ unreachable: 'ECONNREFUSED', forClients: null }),
    name: 'n1 cluster 127.0.0.1:6222',
    found: /ECONNREFUSED/,
  },
  'listener-untrusted': {
    facts: listener({ untrusted: 'self signed' }),
    name: 'n1 cluster 127.0.0.1:6222',
    found: /self signed/,
  },
  'listener-refuses': {
    facts: listener({ refused: 'TLS alert: unknown ca' }),
    name: 'n1 cluster 127.0.0.1:6222',
    found: /unknown ca/,
  },
  'leaf-not-for-clients': {
    facts: listener({ forClients: false }),
    name: 'n1 cluster 127.0.0.1:6222',
    found: /no clientAuth/,
  },
  'config-edited': {
    facts: agent({ configs: [{ name: 'n1', edited: 'accounts.conf was changed', refused: null }] }, 'n1'),
    name: 'n1',
    found: /accounts\.conf was changed/,
  },
  'config-refused': {
    facts: agent({ configs: [{ name: 'n1', edited: 'changed', refused: 'unknown field "x"' }] }, 'n1'),
    name: 'n1',
    found: /unknown field/,
  },
  'config-not-seen': { facts: agent({ configs: [] }, 'n1'), name: 'n1', found: /does not see/ },
  'operator-clients': {
    facts: server({ operatorMode: true, version: '2.14.5' }),
    name: 'n1',
    found: /nats-server 2\.14\.5 in operator mode, 3 clients/,
  },
  'server-connections-full': {
    facts: server({ connections: { now: 8, max: 8 } }),
    name: 'n1',
    found: /8 connections, max_connections is 8/,
  },
  'server-connections-tight': {
    facts: server({ connections: { now: 5, max: 8 } }),
    name: 'n1',
    found: /5 connections, max_connections is 8/,
  },
  'account-connections-full': {
    facts: facts({ secondConnection: 'maximum account active connections exceeded' }),
    name: 'prod',
    found: /exceeded/,
  },
  'consumer-loses': { facts: consumer({ maxDeliver: 1 }), name: 'A/S/billing', found: /max_deliver 1/ },
  'consumer-redelivers': { facts: consumer({ ackWait: 500 }), name: 'A/S/billing', found: /ack_wait 500ms/ },
  'consumer-vanishes': {
    facts: consumer({ durable: false, inactiveThreshold: 1_000 }),
    name: 'A/S/billing',
    found: /ephemeral, inactive_threshold 1s/,
  },
  'consumer-without-flow-control': {
    facts: consumer({ push: true }),
    name: 'A/S/billing',
    found: /push/,
  },
  'stream-one-copy': {
    facts: facts({ streams: [{ name: 'A/S', storage: 'memory', replicas: 1, consumers: [] }] }),
    name: 'A/S',
    found: /memory/,
  },
  'signer-ends': {
    facts: facts({ policy: { patience: 2 * HOUR } }),
    name: 'epoch 104',
    found: /in 3h30m/,
  },
  'signer-short': { facts: facts({ policy: { goOnBelow: 4 * HOUR } }), name: 'epoch 104', found: /in 3h30m/ },
  'bundle-ended': { facts: facts({ state: expiring(NOW) }), name: 'prod', found: /is accepted until/ },
  'bundle-stale': { facts: facts({ state: expiring(NOW + 30 * MINUTE) }), name: 'prod', found: /until/ },
  'root-too-short': {
    facts: rootEnds(NOW + 4 * HOUR),
    name: `root ${root(1).sha256.slice(0, 8)}`,
    found: /4h/,
  },
  'root-ends': { facts: rootEnds(NOW + 39 * HOUR), name: `root ${root(1).sha256.slice(0, 8)}`, found: /4h/ },
  'keys-unusable': { facts: keys({ problem: 'ERR_AUTHORITY_LOCKED wrong' }), name: 'prod', found: /LOCKED/ },
  'signer-key-missing': {
    facts: seen({
      held: epochsIn(state)
        .filter((epoch) => epoch !== 104)
        .map(held),
    }),
    name: 'epoch 104',
    found: /not among the keys/,
  },
  'root-key-missing': {
    facts: seen({ roots: [] }),
    name: `root ${root(1).sha256.slice(0, 8)}`,
    found: /not among the keys/,
  },
  'history-broken': { facts: keys({ history: 'version 3 is missing' }), name: 'prod', found: /version 3/ },
  'key-readable': {
    facts: keys({ readable: [{ file: '/keys/signer.key', mode: 0o644 }] }),
    name: '/keys/signer.key',
    found: /mode 644, expected 600/,
  },
  'disk-full': { facts: keys({ disks: [{ dir: '/keys', free: 2 ** 20 }] }), name: '/keys', found: /1 MiB/ },
  'disk-low': { facts: keys({ disks: [{ dir: '/keys', free: 2 ** 27 }] }), name: '/keys', found: /128 MiB/ },
  'not-seen': {
    facts: facts({ notSeen: [{ what: 'JSZ of n1', why: 'denied' }] }),
    name: 'JSZ of n1',
    found: /denied/,
  },
}

function SERVER(): ServerFacts {
  const [first] = WELL.servers ?? []
  assert.ok(first !== undefined)
  return first
}

/** The state with a bundle that is accepted until then. */
function expiring(end: number): Facts['state'] {
  const payload = state.payload.replace(/"expiresAt":"[^"]*"/, `"expiresAt":"${formatInstant(end)}"`)
  return { ...state, payload, digest: hex(payload) }
}

test('a domain in which all is well has no finding', () => {
  assert.deepEqual(judge(WELL, NOW), [])
})

describe('found alone, with its subject and what was found:', () => {
  for (const [id, { facts: given, name, found }] of Object.entries(CASES)) {
    test(id, () => {
      const all = judge(given, NOW)
      assert.deepEqual(
        all.map((one) => [one.id, one.subject.name]),
        [[id, name]],
      )
      assert.match(all[0]?.found ?? '', found)
      assert.equal(all[0]?.severity, FINDINGS[id as FindingId].severity)
    })
  }
})

test('one agent has one reason not to follow, and trouble of its clock beside it', () => {
  const given = agent({ at: formatInstant(0), state: 'rolled-back', clockOffsetMs: HOUR })
  assert.deepEqual(
    judge(given, NOW).map(({ id }) => id),
    ['agent-silent', 'agent-clock-off'],
  )
})

test('a listener for clients needs no clientAuth, and one of leaf nodes only where the server dials others', () => {
  const listeners: ListenerFacts[] = ['client', 'leafnode'].map((kind) => ({
    ...(WELL.listeners[0] as ListenerFacts),
    kind,
    forClients: false,
  }))
  assert.deepEqual(judge(facts({ listeners }), NOW), [])
  const dials = facts({
    listeners,
    servers: [
      { ...SERVER(), links: ['leafnode'] },
      { ...SERVER(), name: 'n2' },
    ],
  })
  assert.deepEqual(
    judge(dials, NOW).map(({ subject }) => subject.name),
    ['n1 leafnode 127.0.0.1:4222'],
  )
})

test('a nats-server that is mended keeps its operator-mode clients', () => {
  const dropping = ['2.9.10', '2.11.17', '2.12.15', '2.14.5']
  const kept = ['2.12.16', '2.14.6', '2.15.0', '3.0.0', 'dev']
  const drops = (version: string) => judge(server({ operatorMode: true, version }), NOW).length === 1
  assert.deepEqual([...dropping, ...kept].filter(drops), dropping)
})

test('a consumer whose client begins again by itself is none that loses', () => {
  assert.deepEqual(judge(consumer({ ackPolicy: 'none', push: true, flowControl: true }), NOW), [])
  assert.deepEqual(
    judge(consumer({ ackPolicy: 'none' }), NOW).map(({ id }) => id),
    ['consumer-loses'],
  )
})

test('what nobody could see is told once, and nothing is made of it', () => {
  const blind = facts({ servers: null, listeners: [], notSeen: [{ what: 'connections', why: 'denied' }] })
  const unknown = { ...blind, nodes: blind.nodes.map((one) => ({ ...one, connected: null })) }
  assert.deepEqual(
    judge(unknown, NOW).map(({ id }) => id),
    ['not-seen'],
  )
})

test('a rotation under way is judged as any other state', () => {
  const moving = distributingState()
  const now = at(104, 56)
  const given = facts({ state: moving, seen: healthy(moving, now, { agents: told(moving) }) })
  assert.deepEqual(
    judge(
      { ...given, issuer: { ...given.issuer, lease: { holder: 'issuer', at: now, duration: 10_000 } } },
      NOW,
    ).map(({ id }) => id),
    ['rotation-under-way'],
  )
})

test('the worst comes first, and more than twenty of one kind are counted', () => {
  const many = Array.from({ length: 25 }, (_, i) => finding('stream-one-copy', 'stream', `A/${i}`, 'memory'))
  const sorted = inOrder([
    ...many,
    finding('paused', 'domain', 'prod', 'x'),
    finding('disk-full', 'file', '/', 'x'),
  ])
  assert.deepEqual(
    sorted.slice(0, 3).map(({ id }) => id),
    ['disk-full', 'paused', 'stream-one-copy'],
  )
  assert.equal(sorted.length, 2 + 20 + 1)
  assert.equal(sorted.at(-1)?.subject.name, '5 more')
})
