/** One nats-server with TLS whose connections can be looked at from outside, and two generations of a client of it. */
import { dirname } from 'node:path'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { snapshotOf } from '../../src/identity/read.ts'
import { findNatsServer, type NatsServerProcess, startNatsServer } from '../../src/local/nats-server.ts'
import { makeTestDomain, type TestDomain } from './test-domain.ts'
import { startTlsServer } from './tls-server.ts'

/** As the server sees it. */
export interface SeenConnection {
  readonly cid: number
  /** As the client named itself. */
  readonly name: string
  /** Fingerprint of the client's leaf. */
  readonly leaf: string
  readonly subscriptions: number
}

export interface MonitoredServer extends AsyncDisposable {
  readonly domain: TestDomain
  /** `host:port` */
  readonly address: string
  /** Leaves of two authorities that the server trusts; they trust the same. */
  readonly generations: readonly [IdentitySnapshot, IdentitySnapshot]
  connections(): Promise<SeenConnection[]>
  /** Ends the server as a crash does. */
  kill(): Promise<void>
  /** At the same address. */
  startAgain(): Promise<void>
}

const HTTP_ANY_PORT = 'http: "127.0.0.1:-1"'

export async function startMonitoredServer(): Promise<MonitoredServer> {
  const domain = await makeTestDomain()
  const trusted = domain.authorities.map(({ certificate }) => certificate)
  const ca = trusted.map(({ pem }) => pem).join('')
  const generation = async (epoch: number, name: string): Promise<IdentitySnapshot> => {
    const { keyPem: key, chainPem: certificate } = await domain.leaf({ name: 'client', epoch })
    return snapshotOf({ key, certificate, ca }, { generation: name, version: 0 }, undefined, {}, name)
  }
  const generations = [
    await generation(domain.epoch - 1, 'first'),
    await generation(domain.epoch, 'second'),
  ] as const
  const leaf = await domain.leaf({ name: 'server' })
  const server = await startTlsServer({ leaf, trusted, config: HTTP_ANY_PORT })
  let running: NatsServerProcess = server.process
  return {
    domain,
    address: server.address('client'),
    generations,
    connections: () => look(running),
    async kill() {
      running.kill('SIGKILL')
      await running.exited
    },
    async startAgain() {
      const cwd = dirname(server.configFile)
      running = await startNatsServer({
        name: 'again',
        cwd,
        configFile: 'server.conf',
        binary: findNatsServer(),
      })
    },
    async [Symbol.asyncDispose]() {
      await running.stop()
      await server[Symbol.asyncDispose]()
    },
  }
}

interface Connz {
  readonly connections: readonly {
    readonly cid: number
    readonly name?: string
    readonly subscriptions: number
    readonly tls_peer_certs?: readonly { readonly cert_sha256: string }[]
  }[]
}

async function look({ addresses }: NatsServerProcess): Promise<SeenConnection[]> {
  const answer = await fetch(`http://${addresses.monitoring}/connz?auth=1&limit=4096`)
  const { connections } = (await answer.json()) as Connz
  return connections.map(({ cid, name = '', subscriptions, tls_peer_certs: certificates = [] }) => ({
    cid,
    name,
    subscriptions,
    leaf: certificates[0]?.cert_sha256 ?? '',
  }))
}
