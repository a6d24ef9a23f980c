/**
 * One service of the demo, in a process of its own. `library`: the agent runs inside. `sidecar`: an agent beside it
 * keeps the files and sends SIGHUP. Speaks JSON lines: counts out on stdout, commands in on stdin.
 */
import { writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { connectionTarget, readAgentConfig, startAgent } from '../agent/index.ts'
import { RebuiltConnection } from '../src/connection/rebuild.ts'
import { RotorError } from '../src/errors.ts'
import { HeldIdentity, type Identity } from '../src/identity/identity.ts'
import { readIdentity } from '../src/identity/read.ts'
import { makeLogger } from '../src/log.ts'
import { formatInstant } from '../src/time.ts'
import { domainNames } from '../src/wire/names.ts'
import { Traffic } from './traffic.ts'

interface ServiceSettings {
  readonly mode: 'library' | 'sidecar'
  /** agent.json; a sidecar service reads addresses and its directory from it, no more. */
  readonly config: string
  readonly pidFile: string
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
  const connect = (identity: Identity) =>
    RebuiltConnection.open({
      servers: config.servers,
      identity,
      use: traffic.use,
      options: { name: config.agent, inboxPrefix: domainNames(config.domain).inbox(config.agent) },
    })

  await using cleanup = new AsyncDisposableStack()
  if (settings.mode === 'library') {
    const agent = cleanup.use(
      await startAgent({
        config,
        logger,
        onEvent: (event) => say({ ...event, node: config.agent, at: formatInstant(Date.now()) }),
      }),
    )
    const connection = cleanup.use(await connect(agent.identity))
    agent.addTarget(connectionTarget(config.agent, connection))
  } else {
    const identity = new HeldIdentity(await readIdentity(config.identity), logger)
    const connection = cleanup.use(await connect(identity))
    process.on('SIGHUP', () => {
      void (async () => {
        const next = await readIdentity(config.identity)
        const leafChanged = next.certificate !== identity.current().certificate
        identity.set(next)
        if (leafChanged) await connection.move()
      })().catch((cause) =>
        logger.error({ err: RotorError.from(cause).message }, 'the new identity was not taken'),
      )
    })
    await writeFile(settings.pidFile, String(process.pid))
  }
  say({ type: 'started', node: config.agent })
  const timer = setInterval(counts, COUNTS_EVERY)
  cleanup.defer(() => clearInterval(timer))
  await commands((command) => {
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
