/**
 * An agent reads bundles again soon after its server came back, also when JetStream was not there at first: 1. it reads.
 * 2. The server is started again without JetStream, and the connection is back. 3. It is started with JetStream, and a
 * bundle is published: the agent has it within seconds.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { consumeBundles } from '../../agent/consume.ts'
import { startNatsServer } from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { silentLogger } from '../../src/log.ts'
import { domainNames } from '../../src/wire/names.ts'
import { eventually } from '../support/eventually.ts'

/** Less than the NATS client waits by itself, which is 15 s and more. */
const SOON = 10_000

test('a bundle is read soon after JetStream came back later than the server', {
  timeout: 60_000,
}, async () => {
  const names = domainNames('prod')
  const [port = 0] = await freePorts(1)
  await using cleanup = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'rotor-consumer-'))
  cleanup.defer(() => rm(dir, { recursive: true, force: true }))
  const start = (...args: string[]) =>
    startNatsServer({ name: 'nats', cwd: dir, args: ['-a', '127.0.0.1', '-p', String(port), ...args] })
  const withJetStream = () => start('-js', '-sd', dir)
  // 1. it reads
  let server = await withJetStream()
  cleanup.defer(() => server.stop())
  const nc = await connect({
    port,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
    reconnectJitter: 0,
  })
  cleanup.defer(() => nc.close())
  const jsm = await jetstreamManager(nc)
  await jsm.streams.add({ name: names.bundleStream, subjects: [names.bundleSubject] })
  const seen: string[] = []
  const detach = await consumeBundles({
    names,
    agent: 'orders',
    inactiveThreshold: 3_600_000,
    logger: silentLogger,
    handle: async (message) => {
      seen.push(message.string())
      message.ack()
    },
  })(nc)
  cleanup.defer(detach)
  await jetstream(nc).publish(names.bundleSubject, 'first')
  await eventually(() => seen.includes('first'))
  // 2. back without JetStream
  let reconnects = 0
  void (async () => {
    for await (const { type } of nc.status()) if (type === 'reconnect') reconnects += 1
  })()
  await server.stop()
  server = await start()
  await eventually(() => reconnects === 1)
  await nc.flush()
  // 3. back with it
  await server.stop()
  server = await withJetStream()
  await eventually(() => reconnects === 2)
  await eventually(() => jetstream(nc, { timeout: 500 }).publish(names.bundleSubject, 'second'))
  await eventually(() => seen.includes('second'), { timeout: SOON })
  assert.ok(seen.indexOf('second') > seen.indexOf('first'))
})
