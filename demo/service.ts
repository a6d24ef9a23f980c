/**
 * One service of the demo, in a process of its own. `library`: the agent runs inside. `sidecar`: an agent beside it
 * keeps the files, the service follows them, and answers the agent when it stands on them. Either way it has one
 * connection from its start to its end. Speaks JSON lines: counts out on stdout, commands in on stdin.
 */
import { createInterface } from 'node:readline'
import { readAgentConfig, startAgent } from '../agent/index.ts'
import { connect } from '../src/connection/connect.ts'
import { watchIdentity } from '../src/identity/watch.ts'
import { makeLogger } from '../src/log.ts'
import { formatInstant } from '../src/time.ts'
import { domainNames } from '../src/wire/names.ts'
import { answerWhenMoved } from './moved.ts'
import { Traffic } from './traffic.ts'

interface ServiceSettings {
  readonly mode: 'library' | 'sidecar'
  /** agent.json; a sidecar service reads addresses and its directory from it, no more. */
  readonly config: string
  /** Where a sidecar service answers its agent. */
  readonly port: number
  readonly neighbour: string
  readonly rate: number
  readonly replicas: number
}

const COUNTS_EVERY = 250

async function main(settings: ServiceSettings): Promise<void> {
  const config = await readAgentConfig(settings.config)
  const logger = makeLogger({ name: config.agent })
  const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`)
  const traffic = new Traffic({
    service: config.agent,
    neighbour: settings.neighbour,
    rate: settings.rate,
    replicas: settings.replicas,
  })
  const counts = () => say({ type: 'counts', node: config.agent, ...traffic.counts })

  await using cleanup = new AsyncDisposableStack()
  const startOwnAgent = async () => {
    const onEvent = (event: object) => say({ ...event, node: config.agent, at: formatInstant(Date.now()) })
    return cleanup.use(await startAgent({ config, logger, onEvent })).identity
  }
  const followFiles = async () => {
    const identity = cleanup.use(await watchIdentity(config.identity, { logger }))
    cleanup.use(await answerWhenMoved(config.identity, identity, settings.port))
    return identity
  }
  const nc = await connect({
    servers: config.servers,
    identity: settings.mode === 'library' ? await startOwnAgent() : await followFiles(),
    name: config.agent,
    inboxPrefix: domainNames(config.domain).inbox(config.agent),
    handoff: { logger },
  })
  cleanup.defer(() => nc.drain().catch(() => nc.close()))
  const stopTraffic = await traffic.start(nc)
  cleanup.defer(stopTraffic)
  say({ type: 'started', node: config.agent })
  const timer = setInterval(counts, COUNTS_EVERY)
  cleanup.defer(() => clearInterval(timer))
  await commands((command) => {
    if (command === 'publish') traffic.publish()
    if (command === 'stop-publishing') traffic.stopPublishing()
    if (command === 'count') counts()
  })
}

/** Returns when the owner says stop, goes away, or a signal comes. */
async function commands(handle: (command: string) => void): Promise<void> {
  const lines = createInterface({ input: process.stdin })
  process.once('SIGTERM', () => lines.close())
  process.on('SIGINT', () => {})
  for await (const line of lines) {
    if (line === 'stop') break
    handle(line)
  }
  process.stdin.destroy()
}

await main(JSON.parse(process.argv[2] ?? '{}'))
