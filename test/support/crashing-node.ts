/**
 * An agent or an issuer that dies by SIGKILL, or freezes by SIGSTOP, at a named point.
 *
 *   crashing-node.ts agent <agent.json>
 *   crashing-node.ts issuer <issuer.json> <agent.json> [point]
 *
 * Prints {"type":"started"} when it runs. The last argument or a line on stdin names the point; a line is answered by
 * {"type":"armed"}. It dies the first time it gets there; with "freeze " before the point it says {"type":"frozen"} and
 * stops until SIGCONT. Points of an agent: a step, or "applied". Points of an issuer: "commit before prepare", "effect
 * after publish-bundle" and so on. Of an issuer each point, and whether it leads, is told as an event.
 */
import { createInterface } from 'node:readline'
import { readAgentConfig, startAgent } from '../../agent/index.ts'
import { type IssuerHandle, readIssuerConfig, startIssuer } from '../../issuer/index.ts'
import { makeLogger } from '../../src/log.ts'

const [role = '', config = '', agentConfig = '', first = ''] = process.argv.slice(2)
const logger = makeLogger({ name: role })
let point = first

const own = await readAgentConfig(role === 'issuer' ? agentConfig : config)
/** Pipes are written at once, also right before the end. */
const say = (event: { type: string } & Record<string, unknown>): void => {
  process.stdout.write(`${JSON.stringify({ ...event, node: own.agent })}\n`)
}

const reached = (here: string): void => {
  if (role === 'issuer') say({ type: 'point', point: here })
  if (here === point) process.kill(process.pid, 'SIGKILL')
  if (`freeze ${here}` !== point) return
  point = ''
  say({ type: 'frozen' })
  process.kill(process.pid, 'SIGSTOP')
}

let issuer: IssuerHandle | null = null
const agent = await startAgent({
  config: own,
  logger,
  onEvent: (event) => {
    if (role === 'agent') reached(event.type === 'step' ? event.step : event.type)
  },
})
if (role === 'issuer') {
  issuer = await startIssuer({
    config: await readIssuerConfig(config, own.agent),
    identity: agent.identity,
    logger,
    onEvent: (event) => {
      if (event.type === 'commit') reached(`commit ${event.when} ${event.move}`)
      if (event.type === 'effect') reached(`effect ${event.when} ${event.effect.kind}`)
      if (event.type === 'leads' || event.type === 'stands-by') say(event)
    },
  })
}
say({ type: 'started' })

const lines = createInterface({ input: process.stdin })
process.once('SIGTERM', () => lines.close())
for await (const line of lines) {
  point = line
  say({ type: 'armed' })
}
process.stdin.destroy()
await issuer?.stop()
await agent.stop()
