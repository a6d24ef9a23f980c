/**
 * A service with its agent beside it: the agent keeps the files in IDENTITY, the service follows them. Its connection
 * and its listener move by themselves; the agent asks at /moved, which is answered when everything here has moved.
 * It takes numbered orders out of JetStream, notices any that is missing or came twice, and answers with their count.
 *
 *   IDENTITY=/rotor/agents/billing/identity SERVERS=tls://nats-1:4222 INBOX=_INBOX.shop.billing \
 *   PORT=8443 node examples/billing.ts
 */
import { createServer } from 'node:https'
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect, makeLogger, readIdentity, secureServer, watchIdentity } from 'nats-rotor'
import { keepTrying, pause, say, signOfLife, untilStopped } from './process.ts'

const {
  IDENTITY = 'identity',
  SERVERS = 'tls://localhost:4222',
  INBOX = '_INBOX',
  PORT = '8443',
} = process.env
const stopped = untilStopped()
const logger = makeLogger({ name: 'billing' })
const counts = { billed: 0, missing: 0, twice: 0, moved: 0 }
/** The last number of each run of the orders service. */
const last = new Map<number, number>()

/** Numbers come in order, because one order at a time is stored and one consumer reads them. */
function take({ run, number }: { run: number; number: number }): void {
  const before = last.get(run)
  if (before !== undefined && number <= before) {
    counts.twice += 1
    return
  }
  if (before !== undefined) counts.missing += number - before - 1
  last.set(run, number)
  counts.billed += 1
}

await using cleanup = new AsyncDisposableStack()
const identity = cleanup.use(await watchIdentity(IDENTITY, { logger }))
const nc = await connect({
  servers: SERVERS.split(','),
  identity,
  name: 'billing',
  inboxPrefix: INBOX,
  handoff: { logger },
})
cleanup.defer(() => nc.drain())

/** Returns when connection and listener stand on what the agent has written. */
async function everythingMoved(signal: AbortSignal): Promise<void> {
  const written = await readIdentity(IDENTITY)
  while (identity.current().generation !== written.generation) {
    signal.throwIfAborted()
    await pause(20, signal)
  }
  for (const follower of identity.followers()) await follower.follow(identity.current(), signal)
  counts.moved += 1
}

// Only nodes of this domain get in.
const server = createServer({ requestCert: true, rejectUnauthorized: true }, (request, response) => {
  if (request.url !== '/moved') return void response.writeHead(404).end()
  everythingMoved(AbortSignal.timeout(8_000)).then(
    () => response.writeHead(204).end(),
    (error) => response.writeHead(500).end(String(error)),
  )
})
const secured = secureServer(server, identity)
server.listen(Number(PORT))
cleanup.defer(async () => {
  await secured.close()
  server.close()
  server.closeAllConnections()
})

nc.subscribe('billing.count', {
  callback: (error, message) => {
    if (error === null) message.respond(String(counts.billed))
  },
})
const timer = setInterval(() => say(counts), 5_000)
cleanup.defer(() => clearInterval(timer))

// The orders service makes the stream.
const jsm = await jetstreamManager(nc, { checkAPI: false })
const settings = { durable_name: 'billing', ack_policy: AckPolicy.Explicit, ack_wait: 10e9 }
await keepTrying(() => jsm.consumers.add('ORDERS', settings), stopped)
const consumer = await keepTrying(() => jetstream(nc).consumers.get('ORDERS', 'billing'), stopped)
// Whole batches: when this ends, every order that came is counted and acknowledged.
while (!stopped.aborted) {
  await keepTrying(async () => {
    for await (const message of (await consumer?.fetch({ max_messages: 100, expires: 1_000 })) ?? []) {
      take(message.json())
      message.ack()
      await signOfLife()
    }
  }, stopped)
}
