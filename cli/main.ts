#!/usr/bin/env node
/** The `rotor` command: arguments in, exit code out. Everything it does is in `commands/`. */
import { Command, CommanderError } from 'commander'
import { ERRORS, RotorError } from '../src/errors.ts'
import { VERSION } from '../src/version.ts'
import { addBundle } from './commands/bundle.ts'
import { addCensus } from './commands/census.ts'
import { addDemo } from './commands/demo.ts'
import { addDoctor } from './commands/doctor.ts'
import { addHistory } from './commands/history.ts'
import { addInit } from './commands/init.ts'
import { addInspect } from './commands/inspect.ts'
import { addPause } from './commands/pause.ts'
import { addProbe } from './commands/probe.ts'
import { addRollback } from './commands/rollback.ts'
import { addRoot } from './commands/root.ts'
import { addRotate } from './commands/rotate.ts'
import { addAgent, addIssuer } from './commands/run.ts'
import { addSigner } from './commands/signer.ts'
import { addStatus } from './commands/status.ts'
import { addTaint } from './commands/taint.ts'
import { addToken } from './commands/token.ts'
import { addVault } from './commands/vault.ts'
import { sayError } from './output.ts'

function makeProgram(): Command {
  const program = new Command('rotor')
    .description('Rotates the certificate authorities and certificates of a NATS system while it runs.')
    .version(VERSION)
    .showHelpAfterError('(see --help)')
    // "agent" has options and commands with options of the same name
    .enablePositionalOptions()
    .exitOverride()
    // Wrapped to the terminal, not where the source has its lines.
    .configureHelp({ commandDescription: (command) => command.description().replace(/\n(?!\n)/g, ' ') })
    .addHelpText('after', exitCodes())
  for (const add of [
    addDemo,
    addInit,
    addIssuer,
    addAgent,
    addToken,
    addStatus,
    addCensus,
    addDoctor,
    addRotate,
    addRollback,
    addTaint,
    addPause,
    addRoot,
    addSigner,
    addHistory,
    addBundle,
    addProbe,
    addInspect,
    addVault,
  ])
    add(program)
  return program
}

/** The codes that can end a command, grouped as sysexits.h has them. */
function exitCodes(): string {
  const words: Record<number, string> = {
    64: 'wrong command line',
    65: 'data is not what it has to be',
    66: 'an input is missing',
    69: 'something needed does not answer',
    70: 'a defect in nats-rotor',
    74: 'disk or target failed, the old state is back',
    75: 'not now, try again',
    76: 'the other side does not behave as expected',
    77: 'not allowed',
    78: 'configuration',
    130: 'stopped by a signal',
  }
  const used = [...new Set(Object.values(ERRORS).map((entry) => entry.exit))].sort((a, b) => a - b)
  return `
Exit codes: 0 done, 1 the answer is "no"; ${used.map((code) => `${code} ${words[code] ?? ''}`).join(', ')}.
New here? "rotor demo" rotates a live three-node cluster in front of you.`
}

async function main(argv: readonly string[]): Promise<number> {
  try {
    await makeProgram().parseAsync([...argv])
    return Number(process.exitCode ?? 0)
  } catch (cause) {
    const json = argv.includes('--json')
    if (!(cause instanceof CommanderError)) return sayError(cause, json)
    // commander has told people already: help and version are no errors, anything else is a wrong command line
    if (cause.exitCode === 0) return 0
    return json
      ? sayError(new RotorError('ERR_USAGE', cause.message.replace(/^error: /, '')), json)
      : ERRORS.ERR_USAGE.exit
  }
}

process.exitCode = await main(process.argv)
