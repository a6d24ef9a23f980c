/**
 * A watch of the issuer whose consumer is lost, as with the server that has its only copy, tells again within seconds what
 * is written: 1. it tells. 2. Its consumer is deleted, and somebody writes. 3. It has that, and what comes later.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { connect } from '@nats-io/transport-node'
import { liveWatch } from '../../issuer/live-watch.ts'
import { findNatsServer, startNatsServer } from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { silentLogger } from '../../src/log.ts'
import { eventually } from '../support/eventually.ts'
import { RELEASES } from '../support/test-cluster.ts'

/** Less than the NATS client takes by itself, which is 60 to 90 s. */
const SOON = { timeout: 30_000 }
const BUCKET = 'status'

describe('a watch of the issuer', { concurrency: true, timeout: 60_000 }, () => {
  for (const release of RELEASES)
    test(`tells again what is written after its consumer was lost, on ${release}`, async () => {
      await using cleanup = new AsyncDisposableStack()
      const dir = await mkdtemp(join(tmpdir(), 'rotor-watch-'))
      cleanup.defer(() => rm(dir, { recursive: true, force: true }))
      const [port = 0] = await freePorts(1)
      const args = ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', dir]
      cleanup.use(await startNatsServer({ name: 'nats', cwd: dir, binary: findNatsServer(release), args }))
      const nc = await connect({ port })
      cleanup.defer(() => nc.close())
      const kv = await new Kvm(jetstream(nc)).create(BUCKET)
      // 1. it tells, of the keys it is for
      const seen: string[] = []
      const stop = await liveWatch(nc, {
        bucket: BUCKET,
        key: 'agent.*',
        take: (entry) => seen.push(`${entry.key} ${entry.string()}`),
        logger: silentLogger,
      })
      await kv.put('agent.orders', 'first')
      await kv.put('lease', 'of somebody')
      await eventually(() => seen.length === 1)
      // 2. lost, and nobody says so
      const jsm = await jetstreamManager(nc)
      for await (const { name } of jsm.consumers.list(`KV_${BUCKET}`))
        await jsm.consumers.delete(`KV_${BUCKET}`, name)
      await kv.put('agent.orders', 'second')
      // 3. it is there again
      await eventually(() => seen.includes('agent.orders second'), SOON)
      await kv.put('agent.billing', 'third')
      await eventually(() => seen.includes('agent.billing third'))
      assert.ok(seen.every((text) => text.startsWith('agent.')))
      await stop()
      await kv.put('agent.orders', 'fourth')
      await nc.flush()
      assert.ok(!seen.includes('agent.orders fourth'))
    })
})
