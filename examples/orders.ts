/**
 * A service in library mode: the agent runs inside it, and its connection moves whenever there is a new certificate.
 * It stores numbered orders in JetStream, and asks the billing service how many it has.
 *
 *   node examples/orders.ts /rotor/agents/orders/agent.json
 */
import { jetstream, jetstreamManager, StorageType } from '@nats-io/jetstream'
import { connect, inboxPrefix, makeLogger } from 'nats-rotor'
import { readAgentConfig, startAgent } from 'nats-rotor/agent'
import { every, keepTrying, say, signOfLife, untilStopped } from './process.ts'

const stopped = untilStopped()
const config = await readAgentConfig(process.argv[2] ?? 'agent.json')
const run = Date.now()
const counts = { stored: 0, asked: 0, unanswered: 0, billed: 0 }

await using cleanup = new AsyncDisposableStack()
const logger = makeLogger({ name: config.agent })
const agent = cleanup.use(await startAgent({ config, logger }))
const nc = await connect({
  servers: config.servers,
  identity: agent.identity,
  name: config.agent,
  // The account lets a node receive answers only below its own name.
  inboxPrefix: inboxPrefix(config.domain, config.agent),
  handoff: { logger },
})
cleanup.defer(() => nc.drain())
const timer = setInterval(() => say(counts), 5_000)
cleanup.defer(() => clearInterval(timer))

const js = jetstream(nc)
const jsm = await jetstreamManager(nc, { checkAPI: false })
const stream = {
  name: 'ORDERS',
  subjects: ['orders.new'],
  storage: StorageType.File,
  num_replicas: 3,
  max_age: 3_600e9,
}
await keepTrying(() => jsm.streams.add(stream), stopped)
const storing = every(50, stopped, async () => {
  const order = { run, number: counts.stored + 1 }
  // Stored until it is acknowledged; the message id makes the repetition harmless.
  const store = () => js.publish('orders.new', JSON.stringify(order), { msgID: `${run}-${order.number}` })
  if ((await keepTrying(store, stopped)) === undefined) return
  counts.stored += 1
  await signOfLife()
})
const asking = every(500, stopped, async () => {
  counts.asked += 1
  const answer = await nc.request('billing.count', '', { timeout: 5_000 }).catch(() => null)
  if (answer === null) counts.unanswered += 1
  else counts.billed = Number(answer.string())
})
await Promise.race([Promise.all([storing, asking]), agent.done])
