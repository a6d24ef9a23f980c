/**
 * Several agents in one process: thirteen Node processes would drown two cores and measure the machine. Speaks JSON
 * lines: the events of all its agents out on stdout; ends with "stop" on stdin, SIGTERM, or its owner.
 */
import { createInterface } from 'node:readline'
import { readAgentConfig, startAgent } from '../agent/index.ts'
import { connect } from '../src/connection/connect.ts'
import { makeLogger } from '../src/log.ts'
import { domainNames } from '../src/wire/names.ts'

export interface NodesSettings {
  /** Paths of agent.json. */
  readonly configs: readonly string[]
  /** Library mode: each agent moves the live connection of a small service. */
  readonly connections: boolean
}

/** A wall clock that all processes of a machine share, with fractions of a millisecond. */
const clock = (): number => performance.timeOrigin + performance.now()

async function startNode(
  file: string,
  connections: boolean,
  say: (event: object) => void,
): Promise<AsyncDisposable> {
  const config = await readAgentConfig(file)
  await using started = new AsyncDisposableStack()
  const agent = started.use(
    await startAgent({
      config,
      logger: makeLogger({ name: config.agent }),
      onEvent: (event) => say({ ...event, node: config.agent, clock: clock() }),
    }),
  )
  if (connections) {
    // The smallest service there is: one subscription.
    const nc = await connect({
      servers: config.servers,
      identity: agent.identity,
      name: config.agent,
      inboxPrefix: domainNames(config.domain).inbox(config.agent),
    })
    started.defer(() => nc.close())
    nc.subscribe(`bench.${config.agent}`, { callback: () => {} })
    await nc.flush()
  }
  return started.move()
}

async function main({ configs, connections }: NodesSettings): Promise<void> {
  const say = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`)
  await using nodes = new AsyncDisposableStack()
  for (const node of await Promise.all(configs.map((file) => startNode(file, connections, say))))
    nodes.use(node)
  say({ type: 'started' })
  const lines = createInterface({ input: process.stdin })
  process.once('SIGTERM', () => lines.close())
  for await (const line of lines) if (line === 'stop') break
  process.stdin.destroy()
}

await main(JSON.parse(process.argv[2] ?? '{}'))
