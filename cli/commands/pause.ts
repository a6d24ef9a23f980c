/** `rotor pause` and `rotor resume`: no rotation begins or goes on in between. */
import type { Command } from 'commander'
import { asOperator } from '../../src/domain/operator.ts'
import { sendOrder } from '../order.ts'
import { makeOutput } from '../output.ts'

interface PauseOptions {
  readonly config: string
  readonly reason: string
  readonly json: boolean
}

export function addPause(program: Command): void {
  shared(program.command('pause'))
    .summary('let no rotation begin or go on')
    .description(
      `No authority is prepared or begins to sign, and none leaves trust before its end, until "rotor resume". What keeps the
domain alive goes on: renewals, a withdrawal, a rollback, a taint. A pause that is forgotten ends by itself when the
authority that signs nears its end ("policy.goOnBelow").`,
    )
    .addHelpText('after', '\nExample: rotor pause --config issuer.json --reason "change freeze"')
    .action((options: PauseOptions) => place('pause', options, 'The rotation is paused.'))

  shared(program.command('resume'))
    .summary('end a pause')
    .description('The rotation goes on where it was; what became due meanwhile is done now.')
    .addHelpText('after', '\nExample: rotor resume --config issuer.json --reason "the freeze is over"')
    .action((options: PauseOptions) => place('resume', options, 'The rotation goes on.'))
}

const shared = (command: Command): Command =>
  command
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .requiredOption('--reason <text>', 'why; it is recorded')
    .option('--json', 'print the answer as JSON', false)

async function place(kind: 'pause' | 'resume', options: PauseOptions, words: string): Promise<void> {
  const output = makeOutput(options.json)
  await asOperator(options.config, async (operator) => {
    await sendOrder(operator, { kind }, options.reason)
    output.answer({ type: kind === 'pause' ? 'paused' : 'resumed' }, words)
  })
}
