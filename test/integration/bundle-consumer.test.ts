/**
 * An agent reads bundles again soon after its server came back, also when JetStream was not there at first: 1. it reads.
 * 2. The server is started again without JetStream, and the connection is back. 3. It is started with JetStream, and a
 * bundle is published: the agent has it within seconds.
 *
 * And it does not wait for a consumer that says nothing, while its connection stays: 1. it reads. 2. The server answers
 * nothing for so long that the agent asks for the removal of its consumer. 3. The server goes on: it has another consumer
 * of that name, from which the agent reads the last bundle once more, and the next one.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { consumeBundles } from '../../agent/consume.ts'
import { startNatsServer } from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import { type Logger, silentLogger } from '../../src/log.ts'
import { domainNames } from '../../src/wire/names.ts'
import { eventually } from '../support/eventually.ts'

/** Less than the NATS client waits by itself, which is 15 s and more. */
const SOON = 10_000
/** Two heartbeats of five seconds that did not come, and one request without an answer. */
const UNTIL_FORGOTTEN = 30_000

const names = domainNames('prod')
const AGENT = 'orders'

/** A server with the bundle stream, to which an agent may be connected. */
async function startDomain(cleanup: AsyncDisposableStack) {
  const [port = 0] = await freePorts(1)
  const dir = await mkdtemp(join(tmpdir(), 'rotor-consumer-'))
  cleanup.defer(() => rm(dir, { recursive: true, force: true }))
  const start = (...args: string[]) =>
    startNatsServer({ name: 'nats', cwd: dir, args: ['-a', '127.0.0.1', '-p', String(port), ...args] })
  const withJetStream = () => start('-js', '-sd', dir)
  const running = { server: await withJetStream() }
  cleanup.defer(() => running.server.stop())
  const nc = await connect({ port, maxReconnectAttempts: -1, reconnectTimeWait: 50, reconnectJitter: 0 })
  cleanup.defer(() => nc.close())
  const jsm = await jetstreamManager(nc)
  await jsm.streams.add({ name: names.bundleStream, subjects: [names.bundleSubject] })
  return { running, start, withJetStream, nc, jsm }
}

/** What the agent reads, as long as the test lasts. */
async function read(nc: NatsConnection, cleanup: AsyncDisposableStack, logger: Logger = silentLogger) {
  const seen: string[] = []
  const detach = await consumeBundles({
    names,
    agent: AGENT,
    inactiveThreshold: 3_600_000,
    logger,
    handle: async (message) => {
      seen.push(message.string())
      message.ack()
    },
  })(nc)
  cleanup.defer(detach)
  return seen
}

test('a bundle is read soon after JetStream came back later than the server', {
  timeout: 60_000,
}, async () => {
  await using cleanup = new AsyncDisposableStack()
  // 1. it reads
  const { nc, running, start, withJetStream } = await startDomain(cleanup)
  const seen = await read(nc, cleanup)
  await jetstream(nc).publish(names.bundleSubject, 'first')
  await eventually(() => seen.includes('first'))
  // 2. back without JetStream
  let reconnects = 0
  void (async () => {
    for await (const { type } of nc.status()) if (type === 'reconnect') reconnects += 1
  })()
  await running.server.stop()
  running.server = await start()
  await eventually(() => reconnects === 1)
  await nc.flush()
  // 3. back with it
  await running.server.stop()
  running.server = await withJetStream()
  await eventually(() => reconnects === 2)
  await eventually(() => jetstream(nc, { timeout: 500 }).publish(names.bundleSubject, 'second'))
  await eventually(() => seen.includes('second'), { timeout: SOON })
  assert.ok(seen.indexOf('second') > seen.indexOf('first'))
})

test('a consumer that says nothing is deleted and made again, on the same connection, and no bundle is missed', {
  timeout: 90_000,
}, async () => {
  await using cleanup = new AsyncDisposableStack()
  // 1. it reads
  const { nc, jsm, running } = await startDomain(cleanup)
  const { server } = running
  const told: string[] = []
  const logger = { ...silentLogger, debug: (_: object, text = '') => void told.push(text) }
  const seen = await read(nc, cleanup, logger)
  let disconnects = 0
  void (async () => {
    for await (const { type } of nc.status()) if (type === 'disconnect') disconnects += 1
  })()
  await jetstream(nc).publish(names.bundleSubject, 'first')
  await eventually(() => seen.includes('first'))
  const made = async () => (await jsm.consumers.info(names.bundleStream, names.consumer(AGENT))).created
  const before = await made()
  // 2. silence
  server.kill('SIGSTOP')
  cleanup.defer(() => void server.kill('SIGCONT'))
  const wasAsked = () => told.includes('the silent bundle consumer was not deleted yet')
  await eventually(wasAsked, { timeout: UNTIL_FORGOTTEN })
  // 3. another one of that name
  server.kill('SIGCONT')
  await eventually(() => seen.filter((text) => text === 'first').length === 2, { timeout: SOON })
  assert.notEqual(await made(), before)
  await jetstream(nc).publish(names.bundleSubject, 'second')
  await eventually(() => seen.includes('second'), { timeout: SOON })
  assert.equal(disconnects, 0)
})
