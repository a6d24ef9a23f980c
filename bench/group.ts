/** A domain as the benchmarks run it: its agents in few processes, and rotations by order. */
import { dirname, join } from 'node:path'
import type { Child } from '../demo/child.ts'
import { editJson, type LocalDomain } from '../demo/domain.ts'
import { RotorError } from '../src/errors.ts'
import { HeldIdentity } from '../src/identity/identity.ts'
import { readIdentity } from '../src/identity/read.ts'
import { connectWith } from '../src/nats/connect.ts'
import { formatInstant } from '../src/time.ts'
import { domainNames } from '../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../src/wire/record.ts'
import { orderAnswer } from '../src/wire/requests.ts'
import type { NodesSettings } from './nodes.ts'

const ISSUER = 'issuer'

/** One process for the issuer with its own agent, one for the agents of all servers, one for all services. */
export async function startAll(
  domain: LocalDomain,
  services: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const configOf = (name: string): string => domain.founded.agentConfigs[name] ?? ''
  for (const file of Object.values(domain.founded.agentConfigs)) await editJson(file, { spread: false })
  const nodes = (name: string, settings: NodesSettings): Promise<Child> =>
    domain.start(name, 'bench/nodes', [JSON.stringify(settings)])
  await domain.startServers()
  await domain.startIssuer()
  const groups = [
    await nodes('servers', { configs: domain.plans.map(({ name }) => configOf(name)), connections: false }),
    await nodes('services', { configs: services.map(configOf), connections: true }),
  ]
  for (const group of groups) await group.started('started', signal)
}

/** `rotor rotate`, without waiting. */
export async function orderRotation(domain: LocalDomain): Promise<void> {
  const names = domainNames(domain.name)
  const identity = new HeldIdentity(
    await readIdentity(join(dirname(domain.founded.issuerConfig), 'identity')),
  )
  const servers = domain.plans.map(({ host, clientPort }) => `tls://${host}:${clientPort}`)
  const nc = await connectWith({ servers, identity, name: 'rotor-bench', inboxPrefix: names.inbox(ISSUER) })
  try {
    const at = formatInstant(Date.now())
    const order = { v: 1, kind: 'rotate', force: false, reason: 'benchmark', by: 'bench', at }
    const reply = await nc.request(names.orderSubject, encodeRecord(order), { timeout: 10_000 })
    const answer = decodeRecord(orderAnswer, reply.data, names.orderSubject)
    if (!answer.ok) throw new RotorError(answer.code, answer.message)
  } finally {
    await nc.close()
  }
}
