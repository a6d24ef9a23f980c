/**
 * Several agents in one process: thirteen Node processes would drown two cores and measure the machine. Speaks JSON
 * lines: the events of all its agents out on stdout; ends with "stop" on stdin, SIGTERM, or its owner.
 */
import { createInterface } from 'node:readline'
import { connectionTarget, readAgentConfig, startAgent } from '../agent/index.ts'
import { RebuiltConnection, type Use } from '../src/connection/rebuild.ts'
import { makeLogger } from '../src/log.ts'
import { domainNames } from '../src/wire/names.ts'

export interface NodesSettings {
  /** Paths of agent.json. */
  readonly configs: readonly string[]
  /** Library mode: each agent moves a live connection of a small service. */
  readonly connections: boolean
}

/** A wall clock that all processes of a machine share, with fractions of a millisecond. */
const clock = (): number => performance.timeOrigin + performance.now()

/** The smallest service there is: one subscription. */
const use =
  (subject: string): Use =>
  async (nc) => {
    const subscription = nc.subscribe(subject, { callback: () => {} })
    await nc.flush()
    return () => subscription.drain()
  }

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
    const connection = started.use(
      await RebuiltConnection.open({
        servers: config.servers,
        identity: agent.identity,
        use: use(`bench.${config.agent}`),
        options: { name: config.agent, inboxPrefix: domainNames(config.domain).inbox(config.agent) },
      }),
    )
    agent.addTarget(connectionTarget(config.agent, connection))
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
