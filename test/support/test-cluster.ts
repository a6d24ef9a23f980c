/** Real nats-servers with the shipped configuration, for a trust domain of a test. */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import {
  type AccountUser,
  accountsBlock,
  SINGLE_SERVER_ARGS,
  serverSettings,
} from '../../src/domain/nats-config.ts'
import {
  findNatsServer,
  type NatsServerProcess,
  type NatsServerRelease,
  startNatsServer,
} from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { domainNames } from '../../src/wire/names.ts'
import type { TestDomain } from './test-domain.ts'

const SHIPPED = fileURLToPath(new URL('../../nats-server.conf', import.meta.url))

/** Every supported end of the range of nats-server versions. */
export const RELEASES: readonly NatsServerRelease[] = ['nats-server', 'nats-server-oldest']

export interface TestClusterOptions {
  readonly domain: TestDomain
  readonly users: readonly AccountUser[]
  /** @default 'nats-server', the newest */
  readonly release?: NatsServerRelease
  /** One server alone, or a cluster. @default 1 */
  readonly servers?: 1 | 3
}

export interface TestCluster extends AsyncDisposable {
  /** Each server works in `<folder>/nats-<n>`: its configuration, its identity files, its log. */
  readonly folder: string
  readonly servers: readonly NatsServerProcess[]
  /** `localhost:port` of each server's client listener. */
  readonly addresses: readonly string[]
  /** A new connection with a leaf of this user, to the first server; closed with the cluster. */
  connect(user: string): Promise<NatsConnection>
}

/** All of it is stopped and removed with the returned value. */
export async function startTestCluster(options: TestClusterOptions): Promise<TestCluster> {
  const { domain, users, release = 'nats-server', servers: count = 1 } = options
  const names = domainNames(domain.domain)
  await using cleanup = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'rotor-cluster-'))
  cleanup.defer(() => rm(folder, { recursive: true, force: true }))
  const accounts = accountsBlock({ domain: domain.domain, users })
  const ports = await freePorts(2 * count)
  const clientPorts = ports.slice(0, count)
  const routes = ports.slice(count).map((port) => `localhost:${port}`)

  const start = async (port: number, i: number): Promise<NatsServerProcess> => {
    const name = `nats-${i + 1}`
    const cwd = join(folder, name)
    await mkdir(cwd)
    const cluster = { name: domain.domain, listen: `127.0.0.1:${ports[count + i]}`, routes }
    const settings = serverSettings({
      name,
      client: `127.0.0.1:${port}`,
      ...(count === 1 ? {} : { cluster }),
      identity: cwd,
      storeDir: join(cwd, 'jetstream'),
      pidFile: join(cwd, 'pid'),
    })
    const leaf = await domain.leaf({ name })
    await Promise.all([
      writeFile(join(cwd, 'tls.crt'), leaf.chainPem),
      writeFile(join(cwd, 'tls.key'), leaf.keyPem, { mode: 0o600 }),
      writeFile(join(cwd, 'ca.pem'), domain.authority().certificate.pem),
      writeFile(join(cwd, 'server.conf'), settings),
      writeFile(join(cwd, 'accounts.conf'), accounts),
      copyFile(SHIPPED, join(cwd, 'nats-server.conf')),
    ])
    return cleanup.use(
      await startNatsServer({
        name,
        cwd,
        binary: findNatsServer(release),
        configFile: 'nats-server.conf',
        args: count === 1 ? SINGLE_SERVER_ARGS : [],
      }),
    )
  }
  const servers = await Promise.all(clientPorts.map(start))
  const addresses = clientPorts.map((port) => `localhost:${port}`)
  const owned = cleanup.move()
  return {
    folder,
    servers,
    addresses,
    async connect(user) {
      const { chainPem, keyPem } = await domain.leaf({ name: user, dns: [], ip: [] })
      const tls = {
        cert: chainPem,
        key: keyPem,
        ca: domain.authority().certificate.pem,
        // the trust anchor is the authority, which is no root
        allowPartialTrustChain: true,
      }
      const nc = await connect({
        servers: `tls://${addresses[0]}`,
        inboxPrefix: names.inbox(user),
        timeout: 3000,
        reconnect: false,
        ignoreClusterUpdates: true,
        tls,
      })
      owned.defer(() => nc.close())
      return nc
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
