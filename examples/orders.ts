/**
 * A service in library mode: the agent runs inside it, and moves its connection whenever there is a new certificate.
 * It stores numbered orders in JetStream, and asks the billing service how many it has.
 *
 *   node examples/orders.ts /rotor/agents/orders/agent.json
 */
import { jetstream, jetstreamManager, StorageType } from '@nats-io/jetstream'
import { makeLogger, RebuiltConnection, type Use } from 'nats-rotor'
import { connectionTarget, readAgentConfig, startAgent } from 'nats-rotor/agent'
import { aborted, every, keepTrying, say, signOfLife, untilStopped } from './process.ts'

const stopped = untilStopped()
const config = await readAgentConfig(process.argv[2] ?? 'agent.json')
const run = Date.now()
const counts = { stored: 0, asked: 0, unanswered: 0, billed: 0 }

/** The service's work, on whatever connection it has now. What it returns ends the work, with nothing half done. */
const work: Use = async (nc) => {
  const stop = new AbortController()
  const js = jetstream(nc)
  const jsm = await jetstreamManager(nc, { checkAPI: false })
  await jsm.streams.add({
    name: 'ORDERS',
    subjects: ['orders.new'],
    storage: StorageType.File,
    num_replicas: 3,
    max_age: 3_600e9,
  })
  const storing = every(50, stop.signal, async () => {
    const order = { run, number: counts.stored + 1 }
    // Stored until it is acknowledged; the message id makes the repetition harmless.
    const store = () => js.publish('orders.new', JSON.stringify(order), { msgID: `${run}-${order.number}` })
    if ((await keepTrying(store, stopped)) === undefined) return
    counts.stored += 1
    await signOfLife()
  })
  const asking = every(500, stop.signal, async () => {
    counts.asked += 1
    const answer = await nc.request('billing.count', '', { timeout: 5_000 }).catch(() => null)
    if (answer === null) counts.unanswered += 1
    else counts.billed = Number(answer.string())
  })
  return async () => {
    stop.abort()
    await Promise.all([storing, asking])
  }
}

await using cleanup = new AsyncDisposableStack()
const agent = cleanup.use(await startAgent({ config, logger: makeLogger({ name: config.agent }) }))
const connection = cleanup.use(
  await RebuiltConnection.open({
    servers: config.servers,
    identity: agent.identity,
    use: work,
    // The account lets a node receive answers only below its own name.
    options: { name: config.agent, inboxPrefix: `_INBOX.${config.domain}.${config.agent}` },
  }),
)
agent.addTarget(connectionTarget(config.agent, connection))
const timer = setInterval(() => say(counts), 5_000)
cleanup.defer(() => clearInterval(timer))
await Promise.race([aborted(stopped), agent.done])
