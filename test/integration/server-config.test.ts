/** The shipped configuration on clusters of real servers, oldest and newest. */
import assert from 'node:assert/strict'
import { access, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { jetstreamManager, StorageType } from '@nats-io/jetstream'
import { accountsBlock, serverSettings } from '../../src/domain/nats-config.ts'
import { findNatsServer, startNatsServer } from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { domainNames } from '../../src/wire/names.ts'
import { eventually } from '../support/eventually.ts'
import { RELEASES, startTestCluster, type TestCluster } from '../support/test-cluster.ts'
import { makeTestDomain } from '../support/test-domain.ts'

const DOMAIN = 'prod'
const names = domainNames(DOMAIN)
const USERS = [
  { name: 'issuer-1', role: 'issuer' },
  { name: 'orders', role: 'service' },
] as const

for (const release of RELEASES) {
  describe(`nats-server.conf on ${release}`, { timeout: 60_000 }, () => {
    test('three servers form a cluster that holds a replicated bundle stream', async () => {
      const domain = await makeTestDomain({ domain: DOMAIN })
      await using cluster = await startTestCluster({ domain, release, servers: 3, users: USERS })
      const issuer = await cluster.connect('issuer-1')
      const jsm = await eventually(() => jetstreamManager(issuer, { timeout: 1000 }))
      const info = await eventually(() =>
        jsm.streams.add({
          name: names.bundleStream,
          subjects: [names.bundleSubject],
          storage: StorageType.File,
          num_replicas: 3,
        }),
      )
      assert.equal(info.cluster?.replicas?.length, 2)
      const found = new Set<string>()
      await eventually(async () => {
        const answers = await issuer.requestMany('$SYS.REQ.SERVER.PING', '', {
          strategy: 'timer',
          maxWait: 300,
        })
        for await (const answer of answers) found.add(answer.json<{ server: { name: string } }>().server.name)
        return found.size === 3
      })
      assert.deepEqual([...found].toSorted(), ['nats-1', 'nats-2', 'nats-3'])
    })

    test('a server joins only with a certificate that carries a host name of the routes', async () => {
      const domain = await makeTestDomain({ domain: DOMAIN })
      await using cluster = await startTestCluster({ domain, release, servers: 3, users: USERS })
      const [port = 0, clusterPort = 0] = await freePorts(2)
      const cwd = join(cluster.folder, 'intruder')
      await mkdir(cwd)
      // a service's certificate: same authority, but no DNS name
      const leaf = await domain.leaf({ name: 'orders', dns: [], ip: [] })
      const { routes } = await routesOf(cluster)
      const settings = serverSettings({
        name: 'intruder',
        client: `127.0.0.1:${port}`,
        cluster: { name: DOMAIN, listen: `127.0.0.1:${clusterPort}`, routes },
        identity: cwd,
        storeDir: join(cwd, 'jetstream'),
        pidFile: join(cwd, 'pid'),
      })
      await Promise.all([
        writeFile(join(cwd, 'tls.crt'), leaf.chainPem),
        writeFile(join(cwd, 'tls.key'), leaf.keyPem, { mode: 0o600 }),
        writeFile(join(cwd, 'ca.pem'), domain.authority().certificate.pem),
        writeFile(join(cwd, 'server.conf'), settings),
        writeFile(join(cwd, 'accounts.conf'), accountsBlock({ domain: DOMAIN, users: USERS })),
        copyFile(join(cluster.folder, 'nats-1', 'nats-server.conf'), join(cwd, 'nats-server.conf')),
      ])
      await using intruder = await startNatsServer({
        name: 'intruder',
        cwd,
        binary: findNatsServer(release),
        configFile: 'nats-server.conf',
      })
      const logs = ['nats-1', 'nats-2', 'nats-3'].map((name) => join(cluster.folder, name, `${name}.log`))
      await eventually(async () => {
        const texts = await Promise.all(logs.map((file) => readFile(file, 'utf8')))
        return texts.every((text) => /authentication error|Authorization Violation/i.test(text))
      })
      await access(intruder.logFile)
      const issuer = await cluster.connect('issuer-1')
      const { data } = (
        await issuer.request(`$SYS.REQ.SERVER.${issuer.info?.server_id}.ROUTEZ`, '', { timeout: 3000 })
      ).json<{ data: { routes: { remote_name?: string; port: number }[] } }>()
      assert.equal(
        data.routes.some((route) => route.remote_name === 'intruder' || route.port === clusterPort),
        false,
      )
    })
  })
}

async function routesOf(cluster: TestCluster): Promise<{ routes: string[] }> {
  const text = await readFile(join(cluster.folder, 'nats-1', 'server.conf'), 'utf8')
  return { routes: [...text.matchAll(/nats:\/\/(localhost:\d+)/g)].map((match) => match[1] ?? '') }
}
