/** Many agents that renew at the same moment, in a thread of their own: what they compute is not taken from the issuer. */
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { connect } from '@nats-io/transport-node'
import { renewLeaf } from '../../agent/renewal.ts'
import { acceptBundle } from '../../src/bundle/accept.ts'
import { snapshotOf } from '../../src/identity/read.ts'
import { systemClock } from '../../src/time.ts'
import type { SignerKey } from '../../src/wire/bundle.ts'
import { domainNames } from '../../src/wire/names.ts'

export interface RenewingAgent {
  readonly name: string
  readonly material: { readonly key: string; readonly certificate: string; readonly ca: string }
}

export interface RenewingAgents {
  readonly domain: string
  /** URL of the server. */
  readonly server: string
  /** Connections that the agents share. */
  readonly connections: number
  readonly envelope: Uint8Array
  readonly pinned: readonly SignerKey[]
  readonly agents: readonly RenewingAgent[]
}

const noNames = { dns: [], ip: [], uri: [] }

/** The new chain of each agent in PEM, in their order. Rejects with what the first one of them met. */
export async function renewAtOnce(fleet: RenewingAgents): Promise<string[]> {
  const worker = new Worker(new URL(import.meta.url), { workerData: fleet })
  try {
    const [chains] = await once(worker, 'message')
    return chains
  } finally {
    await worker.terminate()
  }
}

async function renewAll(fleet: RenewingAgents): Promise<string[]> {
  const { domain, pinned, agents } = fleet
  const now = systemClock.now()
  const bundle = await acceptBundle(fleet.envelope, { domain, pinned, held: null, highest: 0, now })
  const dials = Array.from({ length: fleet.connections }, () => connect({ servers: fleet.server }))
  const connections = await Promise.all(dials)
  const { signal } = new AbortController()
  const renewals = agents.map(async ({ name, material }, i) => {
    const held = snapshotOf(material, { generation: name, version: 1 }, undefined, {}, name)
    const nc = connections[i % connections.length]
    if (nc === undefined) throw new Error('no connection')
    const config = { agent: name, names: noNames, key: 'P-256' as const }
    const leaf = await renewLeaf(nc, config, domainNames(domain), held, bundle, systemClock, signal)
    return leaf.certificate
  })
  const chains = await Promise.all(renewals)
  for (const nc of connections) await nc.close()
  return chains
}

if (!isMainThread) parentPort?.postMessage(await renewAll(workerData))
