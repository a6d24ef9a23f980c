/**
 * An agent or an issuer that dies by SIGKILL at a named point.
 *
 *   crashing-node.ts agent <agent.json>
 *   crashing-node.ts issuer <issuer.json> <agent.json> [point]
 *
 * Prints {"type":"started"} when it runs. The last argument or a line on stdin names the point; a line is answered by
 * {"type":"armed"}. It dies the first time it gets there. Points of an agent: a step, or "applied". Points of an
 * issuer: "commit before prepare", "effect after publish-bundle" and so on.
 */
import { createInterface } from 'node:readline'
import { readAgentConfig, startAgent } from '../../agent/index.ts'
import { type IssuerHandle, readIssuerConfig, startIssuer } from '../../issuer/index.ts'
import { makeLogger } from '../../src/log.ts'

const [role = '', config = '', agentConfig = '', first = ''] = process.argv.slice(2)
const logger = makeLogger({ name: role })
let point = first

const reached = (here: string): void => {
  if (here === point) process.kill(process.pid, 'SIGKILL')
}

let issuer: IssuerHandle | null = null
const agent = await startAgent({
  config: await readAgentConfig(role === 'issuer' ? agentConfig : config),
  logger,
  onEvent: (event) => {
    if (role === 'agent') reached(event.type === 'step' ? event.step : event.type)
  },
})
if (role === 'issuer') {
  issuer = await startIssuer({
    config: await readIssuerConfig(config),
    identity: agent.identity,
    logger,
    onEvent: (event) => {
      if (event.type === 'commit') reached(`commit ${event.when} ${event.move}`)
      if (event.type === 'effect') reached(`effect ${event.when} ${event.effect.kind}`)
    },
  })
}
process.stdout.write('{"type":"started"}\n')

const lines = createInterface({ input: process.stdin })
process.once('SIGTERM', () => lines.close())
for await (const line of lines) {
  point = line
  process.stdout.write('{"type":"armed"}\n')
}
process.stdin.destroy()
await issuer?.stop()
await agent.stop()
