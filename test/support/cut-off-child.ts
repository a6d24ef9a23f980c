/**
 * One of three machines is cut off in the middle of a rotation, and comes back. Run with namespaces of its own for mounts and
 * network; in them every nats-server has a machine: a namespace with an address, on one cable to a bridge. Issuer, the other
 * agents and a service are at the bridge, the agent of nats-3 is where its server is. Pulling the cable loses packets
 * and says so to nobody. Prints one JSON line: see `cut-off.test.ts`.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findNatsServer, type NatsBinary } from '../../src/local/nats-server.ts'
import { chainProblems } from './bundle-history.ts'
import { eventually } from './eventually.ts'
import { Orders, type OrdersReport, STREAM, SUBJECT } from './orders.ts'
import { PATIENCE, RunningDomain } from './running-domain.ts'

export interface Outcome {
  /** While the machine was away: the phase, and by how many epochs the domain had moved. */
  readonly away: {
    readonly phase: string
    readonly moved: number
    /** Who was waited for. */
    readonly named: readonly string[]
    /** Who had applied the newest bundle. */
    readonly followed: readonly string[]
    /** Orders that were taken, and that came to their reader. */
    readonly taken: number
    readonly read: number
  }
  /** Epochs by which the domain has moved in the end, when everybody holds a leaf of the newest. */
  readonly moved: number
  /** Listeners that show another leaf than the one of their server. */
  readonly wrong: readonly string[]
  readonly chain: readonly string[]
  /** Servers that refused a route. */
  readonly refused: readonly string[]
  readonly orders: OrdersReport
  /** Milliseconds: from the cut until the domain was seen to hold, from the repair until it was settled. */
  readonly took: { readonly held: number; readonly settled: number }
}

const MACHINES = ['nats-1', 'nats-2', 'nats-3']
const AWAY = 'nats-3'
const NEAR = ['issuer', 'nats-1', 'nats-2', 'orders']
const ENOUGH = 20
const patient = { timeout: PATIENCE, interval: 100 }

/** Linux 6.15: what was lost is sent again each second, not after twice the time each time. The end comes sooner, no more. */
const IMPATIENT = 'f=/proc/sys/net/ipv4/tcp_rto_max_ms; [ ! -w $f ] || echo 1000 > $f'
const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'inherit' })
const cable = (machine: string): string => `to-${machine}`

/**
 * Machines on a bridge, and names for them. Who is where is written down: a machine that has to ask for another one on its
 * cable is told "no route" when no answer comes, and that would be a word.
 */
async function wire(dir: string): Promise<void> {
  execFileSync('mount', ['-t', 'tmpfs', 'run', '/run'])
  execFileSync('sh', ['-c', IMPATIENT])
  ip('link', 'set', 'lo', 'up')
  ip('link', 'add', 'hub', 'address', '02:00:00:00:00:fe', 'type', 'bridge')
  ip('address', 'add', '10.99.0.254/24', 'dev', 'hub')
  ip('link', 'set', 'hub', 'up')
  const places = [
    ...MACHINES.map((name, i) => ({ name, address: `10.99.0.${i + 1}`, mac: `02:00:00:00:00:0${i + 1}` })),
    { name: 'hub', address: '10.99.0.254', mac: '02:00:00:00:00:fe' },
  ]
  for (const { name, address, mac } of places.slice(0, -1)) {
    ip('netns', 'add', name)
    ip('link', 'add', cable(name), 'type', 'veth', 'peer', 'name', 'eth0', 'address', mac, 'netns', name)
    ip('link', 'set', cable(name), 'master', 'hub', 'up')
    ip('-n', name, 'link', 'set', 'lo', 'up')
    ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0')
    ip('-n', name, 'link', 'set', 'eth0', 'up')
    execFileSync('ip', ['netns', 'exec', name, 'sh', '-c', IMPATIENT])
    const others = places.filter((other) => other.name !== name)
    for (const { address: to, mac: lladdr } of others)
      ip('-n', name, 'neighbour', 'replace', to, 'lladdr', lladdr, 'dev', 'eth0', 'nud', 'permanent')
    ip('neighbour', 'replace', address, 'lladdr', mac, 'dev', 'hub', 'nud', 'permanent')
  }
  const hosts = ['127.0.0.1 localhost', ...places.map(({ name, address }) => `${address} ${name}`)]
  const file = join(dir, 'hosts')
  await writeFile(file, `${hosts.join('\n')}\n`)
  execFileSync('mount', ['--bind', file, '/etc/hosts'])
}

/** A nats-server that runs on the machine its working folder is named after. */
async function serverOnMachine(dir: string): Promise<NatsBinary> {
  const { path: real, version } = findNatsServer()
  const path = join(dir, 'nats-server')
  await writeFile(path, `#!/bin/sh\nexec ip netns exec "$(basename "$PWD")" ${real} "$@"\n`, { mode: 0o755 })
  return { path, version }
}

async function story(dir: string): Promise<Outcome> {
  await using domain = await RunningDomain.start({
    servers: MACHINES.length,
    hosts: MACHINES,
    binary: await serverOnMachine(dir),
    services: [{ name: 'orders', publish: [SUBJECT], streams: [STREAM] }],
  })
  await domain.startIssuer()
  const far = domain.local.startAgent(AWAY, [], { under: ['ip', 'netns', 'exec', AWAY] })
  for (const name of NEAR.slice(1)) await domain.startAgent(name)
  await far
  const everybody = [...NEAR, AWAY]
  const before = await domain.settled(everybody)
  await using orders = await Orders.begin(domain, 'orders')
  await eventually(() => orders.read > ENOUGH, patient)

  // 1. ordered, decided, and the machine is away before anybody was told
  let cut: { at: number; taken: number; read: number } | null = null
  domain.onEvent = (event) => {
    if (cut !== null || event.type !== 'commit' || event.when !== 'after' || event.move !== 'prepare') return
    ip('link', 'set', cable(AWAY), 'down')
    cut = { at: performance.now(), taken: orders.taken, read: orders.read }
  }
  await domain.order()
  const { at, taken, read } = await eventually(() => cut, patient)
  // 2. all others have what there is to have; it is held for this one alone, and work goes on
  const held = await eventually(async () => {
    const now = await domain.overview()
    const named = [...new Set(now.waitingFor.map(({ name }) => name))]
    const followed = now.agents
      .filter(({ status }) => status?.version === now.version)
      .map(({ name }) => name)
    if (now.version > before.version && String(named) === AWAY && followed.length >= NEAR.length)
      return { ...now, named, followed }
    throw new Error(`${now.phase} ${now.reason}: waits for ${named}; ${followed} have ${now.version}`)
  }, patient)
  const heldAt = performance.now()
  await eventually(() => orders.taken > taken + ENOUGH && orders.read > read + ENOUGH, patient)
  const away = {
    phase: held.phase,
    moved: held.active - before.active,
    named: held.named,
    followed: held.followed,
    taken: orders.taken - taken,
    read: orders.read - read,
  }
  // 3. the cable is back
  ip('link', 'set', cable(AWAY), 'up')
  const backAt = performance.now()
  const after = await domain.settled(everybody, ({ active }) => active > before.active)
  const settledAt = performance.now()
  const probes = await domain.probe(await domain.identity('orders'), ['client', 'cluster'])
  const leaves = new Map<string, string>()
  for (const name of MACHINES) leaves.set(name, (await domain.identity(name)).leaf.sha256)
  return {
    away,
    moved: after.active - before.active,
    wrong: probes
      .filter(({ server, result }) => result.served.sha256 !== leaves.get(server))
      .map(({ server, kind }) => `${kind} listener of ${server}`),
    refused: await refused(domain),
    chain: chainProblems(await domain.history()),
    orders: await orders.finish(),
    took: { held: Math.round(heldAt - at), settled: Math.round(settledAt - backAt) },
  }
}

/** A server that is told of another one by its address instead of its name dials it, and takes no certificate without it. */
async function refused(domain: RunningDomain): Promise<string[]> {
  const logs = await Promise.all(MACHINES.map((name) => readFile(domain.local.logFile(name), 'utf8')))
  return MACHINES.filter((_, i) => logs[i]?.includes('failed to verify certificate'))
}

const dir = await mkdtemp(join(tmpdir(), 'rotor-cut-off-'))
try {
  await wire(dir)
  process.stdout.write(`${JSON.stringify(await story(dir))}\n`)
} finally {
  await rm(dir, { recursive: true, force: true })
}
