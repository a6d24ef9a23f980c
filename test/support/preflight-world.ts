/** The facts of a small domain in which all is well, as plain values: see rotation-world.ts. */
import type { ConsumerFacts, Facts } from '../../src/preflight/facts.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { AGENTS, agentsOf, at, HOUR, healthy, leaf, rootsIn, steadyState } from './rotation-world.ts'

/** In the middle of epoch 104, which signs. */
export const NOW: Instant = at(104, 30)

const SERVERS = ['n1', 'n2']
const isServer = (name: string) => SERVERS.includes(name)

/** What agents say when all is well, and what some of them say instead. */
export const told = (
  state: RotationState,
  changes: Readonly<Record<string, Partial<AgentStatus> | null>> = {},
): Facts['seen']['agents'] =>
  agentsOf(
    state,
    Object.fromEntries(
      AGENTS.map((name) => {
        const well: Partial<AgentStatus> = {
          at: formatInstant(NOW),
          role: isServer(name) ? 'server' : name === 'issuer' ? 'issuer' : 'service',
          leaf: leaf(state.active, NOW + 2 * HOUR),
          configs: isServer(name) ? [{ name, edited: null, refused: null }] : [],
        }
        const change = changes[name]
        return [name, change === null ? null : { ...well, ...change }]
      }),
    ),
  )

export const CONSUMER: ConsumerFacts = {
  name: 'billing',
  durable: true,
  push: false,
  flowControl: false,
  ackPolicy: 'explicit',
  ackWait: 30_000,
  maxDeliver: -1,
  inactiveThreshold: 0,
}

export function facts(change: Partial<Facts> = {}): Facts {
  const state = change.state ?? steadyState()
  return {
    state,
    seen: healthy(state, NOW, { agents: told(state) }),
    policy: {},
    issuer: { lease: { holder: 'issuer', at: NOW, duration: 10_000 }, problem: null, waitingFor: [] },
    nodes: AGENTS.map((name) => ({
      name,
      role: isServer(name) ? 'server' : name === 'issuer' ? 'issuer' : 'service',
      lifetime: 2 * HOUR,
      connected: true,
    })),
    servers: SERVERS.map((name) => ({
      name,
      version: '2.15.1',
      connections: { now: 3, max: 65_536 },
      operatorMode: false,
      links: ['cluster'],
    })),
    listeners: SERVERS.flatMap((server) =>
      [
        { kind: 'client', address: '127.0.0.1:4222' },
        { kind: 'cluster', address: '127.0.0.1:6222' },
      ].map((listener) => ({
        server,
        ...listener,
        unreachable: null,
        untrusted: null,
        refused: null,
        forClients: true,
      })),
    ),
    secondConnection: null,
    streams: [{ name: 'PROD/ORDERS', storage: 'file', replicas: 3, consumers: [CONSUMER] }],
    keys: { problem: null, history: null, readable: [], disks: [{ dir: '/keys', free: 1e12 }] },
    rootEnds: Object.fromEntries(rootsIn(state).map(({ sha256, notAfter }) => [sha256, notAfter])),
    notSeen: [],
    ...change,
  }
}
