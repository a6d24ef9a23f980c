/**
 * A service with its agent beside it: the agent keeps the files in IDENTITY and sends SIGHUP when they are new. A
 * service in any other language does the same three things: read the files, connect, do both again on SIGHUP.
 * It takes numbered orders out of JetStream, notices any that is missing or came twice, and answers with their count.
 *
 *   IDENTITY=/rotor/agents/billing/identity SERVERS=tls://nats-1:4222 INBOX=_INBOX.shop.billing \
 *   PID_FILE=/run/billing/pid node examples/billing.ts
 */
import { rm, writeFile } from 'node:fs/promises'
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { HeldIdentity, makeLogger, RebuiltConnection, readIdentity, type Use } from 'nats-rotor'
import { aborted, keepTrying, say, signOfLife, untilStopped } from './process.ts'

const { IDENTITY = 'identity', SERVERS = 'tls://localhost:4222', INBOX = '_INBOX', PID_FILE } = process.env
const stopped = untilStopped()
const logger = makeLogger({ name: 'billing' })
const counts = { billed: 0, missing: 0, twice: 0, moves: 0 }
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

/** The service's work, on whatever connection it has now. What it returns ends the work, with nothing half done. */
const work: Use = async (nc) => {
  const stop = new AbortController()
  const jsm = await jetstreamManager(nc, { checkAPI: false })
  // Until the orders service has made the stream.
  const settings = { durable_name: 'billing', ack_policy: AckPolicy.Explicit, ack_wait: 10e9 }
  await keepTrying(() => jsm.consumers.add('ORDERS', settings), stopped)
  const consumer = await jetstream(nc).consumers.get('ORDERS', 'billing')
  nc.subscribe('billing.count', {
    callback: (error, message) => {
      if (error === null) message.respond(String(counts.billed))
    },
  })
  const billing = (async () => {
    // Whole batches: when this ends, every order that came is counted and acknowledged.
    while (!stop.signal.aborted) {
      await keepTrying(async () => {
        for await (const message of await consumer.fetch({ max_messages: 100, expires: 1_000 })) {
          take(message.json())
          message.ack()
          await signOfLife()
        }
      }, stop.signal)
    }
  })()
  return async () => {
    stop.abort()
    await billing
  }
}

await using cleanup = new AsyncDisposableStack()
const identity = new HeldIdentity(await readIdentity(IDENTITY))
const connection = cleanup.use(
  await RebuiltConnection.open({
    servers: SERVERS.split(','),
    identity,
    use: work,
    options: { name: 'billing', inboxPrefix: INBOX },
  }),
)

async function reload(): Promise<void> {
  const next = await readIdentity(IDENTITY)
  const leafIsNew = next.certificate !== identity.current().certificate
  identity.set(next)
  if (!leafIsNew) return
  await connection.move()
  counts.moves += 1
}
process.on(
  'SIGHUP',
  () => void reload().catch((error) => logger.error({ err: error }, 'the new files were not taken')),
)
if (PID_FILE !== undefined) {
  await writeFile(PID_FILE, `${process.pid}\n`)
  cleanup.defer(() => rm(PID_FILE, { force: true }))
}
const timer = setInterval(() => say(counts), 5_000)
cleanup.defer(() => clearInterval(timer))
await aborted(stopped)
