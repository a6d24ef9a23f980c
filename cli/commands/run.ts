/** `rotor issuer` and `rotor agent`: the two long-running processes. */
import { dirname, join as joinPath } from 'node:path'
import { type Command, Option } from 'commander'
import { type AgentEvent, joinDomain, readAgentConfig, readBundle, startAgent } from '../../agent/index.ts'
import { type IssuerEvent, type IssuerHandle, readIssuerConfig, startIssuer } from '../../issuer/index.ts'
import { RotorError } from '../../src/errors.ts'
import { makeLogger } from '../../src/log.ts'
import { formatInstant } from '../../src/time.ts'
import { runUntilSignal } from '../daemon.ts'
import { readJoinToken } from '../join-token.ts'
import { makeOutput, type Output } from '../output.ts'
import { addRemove } from './agent-remove.ts'

interface AgentFlags {
  readonly config?: string
  readonly dir?: string
  readonly join?: string
  readonly bundle?: string
  readonly checkConfig: boolean
  readonly logLevel: string
  readonly json: boolean
}

interface RunOptions {
  readonly config: string
  readonly name?: string
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
agents. It keeps its own identity current with an agent of its own. Logs go to stderr as JSON lines. Of several issuers one
leads; the others sign, too, and take over when it is gone.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--name <issuer>', 'which issuer of the domain this is (default: the "name" in --config)')
    .option(
      '--agent-config <file>',
      'configuration of its own agent (default: agent.json beside --config; with --name ../agents/NAME/agent.json)',
    )
    .addHelpText(
      'after',
      `
A second issuer, with the same issuer.json and the same keys
  rotor issuer --config prod/issuer/issuer.json --name issuer-b
How they share the keys, and who leads: docs/operations.md, "More than one issuer".`,
    )
    .action(async (options: RunOptions) => {
      const output = makeOutput(options.json)
      const config = await readIssuerConfig(options.config, options.name)
      const agentConfig = await readAgentConfig(await agentConfigOf(options))
      if (agentConfig.agent !== config.name)
        throw new RotorError(
          'ERR_CONFIG_INVALID',
          `agent.json of the issuer: expected the agent ${config.name}, found ${agentConfig.agent}; see --name and --agent-config`,
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
          onEvent: (event) => issuerEvent(output, config.name, event),
        })
      } catch (cause) {
        await agent.stop()
        throw cause
      }
      await runUntilSignal([issuer, agent])
    })
}

/** The first issuer has its agent beside the keys, further ones have theirs where `rotor init` lays out nodes. */
async function agentConfigOf({ config, name, agentConfig }: RunOptions): Promise<string> {
  if (agentConfig !== undefined) return agentConfig
  const first = (await readIssuerConfig(config)).name
  const folder = dirname(config)
  return name === undefined || name === first
    ? joinPath(folder, 'agent.json')
    : joinPath(folder, '..', 'agents', name, 'agent.json')
}

export function addAgent(program: Command): void {
  const agent = shared(program.command('agent'))
    // options that stand after "remove" are its own
    .enablePositionalOptions()
    .summary('run the agent of one node')
    .description(
      `Runs the agent beside a nats-server or a service: takes the newest bundle, writes one consistent set of files, tells
its targets, proves the result and reports. Logs go to stderr as JSON lines.`,
    )
    .option('--config <file>', 'agent.json of this node')
    .option('--dir <dir>', 'a directory for agent.json and identity; with --join it may be new')
    .option(
      '--join <file>',
      'join the domain with the token in this file, or "-" for stdin, or in ROTOR_JOIN_TOKEN; not used when there is a valid identity',
    )
    .option(
      '--bundle <file>',
      'a newer bundle from this file or https address, for a node that was away for long; it has to be signed by a signer the node knows',
    )
    .addHelpText(
      'after',
      `
A new node: "rotor token create" gives the token, once and for an hour
  rotor agent --dir /var/lib/rotor/orders-7 --join token-file
The token itself may follow --join, but every user of the machine can read that: a file or "-" is better.

A node that was away for so long that it trusts no server any more: "rotor bundle export" gives it the newest bundle
  rotor agent --dir /var/lib/rotor/orders-7 --bundle bundle.jws
When its certificate has ended as well, add --join with a new token.

Targets in agent.json: what is told that the files changed, and has to prove that it uses them, or gets the old ones back
  nats-server   RELOAD or SIGHUP, then a handshake with every listener
  signal        a signal to the process of a pid file      } then a handshake with its listener ("probe"),
  exec          a command of yours                         } a command of yours that says yes ("check"),
  http          a request over HTTPS, or on this machine   } or both
Example: "targets": [{ "type": "signal", "pidFile": "/run/orders.pid", "probe": { "address": "127.0.0.1:8443" } }]
All settings: docs/operations.md, "Targets".`,
    )
    .action(runAgent)
  addRemove(agent)
}

async function runAgent(flags: AgentFlags): Promise<void> {
  const output = makeOutput(flags.json)
  const join = await readJoinToken(flags.join)
  const file = await agentConfigFile(flags, join)
  const config = await readAgentConfig(file)
  if (flags.checkConfig) return output.answer(config, `${file}: valid`)
  const logger = makeLogger({ level: flags.logLevel, name: config.agent })
  const bundle = flags.bundle === undefined ? undefined : await readBundle(flags.bundle)
  const agent = await startAgent({
    config,
    logger,
    join,
    bundle,
    onEvent: (event) => agentEvent(output, config.agent, event),
  })
  output.event({ type: 'started', node: config.agent, at: formatInstant(Date.now()) }, null)
  await runUntilSignal([agent])
}

/** `agent.json`, which a join makes where `--dir` has none. */
async function agentConfigFile(
  { config, dir, checkConfig, logLevel }: AgentFlags,
  token: string | undefined,
): Promise<string> {
  if ((config === undefined) === (dir === undefined)) {
    throw new RotorError('ERR_USAGE', "expected one of '--config <file>' and '--dir <dir>'")
  }
  if (dir === undefined) return config ?? ''
  if (token === undefined || checkConfig) return joinPath(dir, 'agent.json')
  return joinDomain(token, dir, { logger: makeLogger({ level: logLevel, name: 'join' }) })
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

function issuerEvent(output: Output, node: string, event: IssuerEvent): void {
  if (output.json) output.event({ ...event, node, at: formatInstant(Date.now()) }, null)
}
