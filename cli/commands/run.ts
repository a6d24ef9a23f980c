/** `rotor issuer` and `rotor agent`: the two long-running processes. */
import { dirname, join } from 'node:path'
import { type Command, Option } from 'commander'
import { type AgentEvent, readAgentConfig, startAgent } from '../../agent/index.ts'
import { type IssuerEvent, type IssuerHandle, readIssuerConfig, startIssuer } from '../../issuer/index.ts'
import { makeLogger } from '../../src/log.ts'
import { formatInstant } from '../../src/time.ts'
import { runUntilSignal } from '../daemon.ts'
import { makeOutput, type Output } from '../output.ts'

interface RunOptions {
  readonly config: string
  readonly agentConfig?: string
  readonly checkConfig: boolean
  readonly logLevel: string
  readonly json: boolean
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

export function addIssuer(program: Command): void {
  shared(program.command('issuer'))
    .summary('run the issuer of a trust domain')
    .description(
      `Runs the issuer: prepares, activates and retires authorities on evidence, publishes signed bundles, and signs for
agents. It keeps its own identity current with an agent of its own. Logs go to stderr as JSON lines.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--agent-config <file>', 'configuration of its own agent (default: agent.json beside --config)')
    .action(async (options: RunOptions) => {
      const output = makeOutput(options.json)
      const config = await readIssuerConfig(options.config)
      const agentConfig = await readAgentConfig(
        options.agentConfig ?? join(dirname(options.config), 'agent.json'),
      )
      if (options.checkConfig) return output.answer(config, `${options.config}: valid`)
      const logger = makeLogger({ level: options.logLevel, name: 'issuer' })
      const agent = await startAgent({
        config: agentConfig,
        logger,
        onEvent: (event) => agentEvent(output, config.name, event),
      })
      let issuer: IssuerHandle
      try {
        issuer = await startIssuer({
          config,
          identity: agent.identity,
          logger,
          onEvent: (event) => issuerEvent(output, event),
        })
      } catch (cause) {
        await agent.stop()
        throw cause
      }
      await runUntilSignal([issuer, agent])
    })
}

export function addAgent(program: Command): void {
  shared(program.command('agent'))
    .summary('run the agent of one node')
    .description(
      `Runs the agent beside a nats-server or a service: takes the newest bundle, writes one consistent set of files, tells
its targets, proves the result and reports. Logs go to stderr as JSON lines.`,
    )
    .requiredOption('--config <file>', 'agent.json of "rotor init"')
    .addHelpText(
      'after',
      `
Targets in agent.json: what is told that the files changed, and has to prove that it uses them, or gets the old ones back
  nats-server   RELOAD or SIGHUP, then a handshake with every listener
  signal        a signal to the process of a pid file      } then a handshake with its listener ("probe"),
  exec          a command of yours                         } a command of yours that says yes ("check"),
  http          a request over HTTPS, or on this machine   } or both
Example: "targets": [{ "type": "signal", "pidFile": "/run/orders.pid", "probe": { "address": "127.0.0.1:8443" } }]
All settings: docs/operations.md, "Targets".`,
    )
    .action(async (options: RunOptions) => {
      const output = makeOutput(options.json)
      const config = await readAgentConfig(options.config)
      if (options.checkConfig) return output.answer(config, `${options.config}: valid`)
      const logger = makeLogger({ level: options.logLevel, name: config.agent })
      const agent = await startAgent({
        config,
        logger,
        onEvent: (event) => agentEvent(output, config.agent, event),
      })
      output.event({ type: 'started', node: config.agent, at: formatInstant(Date.now()) }, null)
      await runUntilSignal([agent])
    })
}

function shared(command: Command): Command {
  return command
    .option('--check-config', 'check the configuration and end', false)
    .addOption(new Option('--log-level <level>', 'how much is logged').choices(LEVELS).default('info'))
    .option('--json', 'print events as JSON lines on stdout', false)
}

/** Events are for machines; people read the log. */
function agentEvent(output: Output, node: string, event: AgentEvent): void {
  if (output.json) output.event({ ...event, node, at: formatInstant(Date.now()) }, null)
}

function issuerEvent(output: Output, event: IssuerEvent): void {
  if (output.json) output.event({ ...event, node: 'issuer', at: formatInstant(Date.now()) }, null)
}
