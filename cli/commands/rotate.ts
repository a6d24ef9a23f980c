/** `rotor rotate`: the next authority now, not at the start of its epoch. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { askIssuer, asOperator } from '../../src/domain/operator.ts'
import { formatInstant } from '../../src/time.ts'
import { orderAnswer } from '../../src/wire/requests.ts'
import { signalOfProcess } from '../daemon.ts'
import { followOrder } from '../follow.ts'
import { makeOutput } from '../output.ts'

interface RotateOptions {
  readonly config: string
  readonly reason: string
  readonly force: boolean
  readonly wait: boolean
  readonly json: boolean
}

export function addRotate(program: Command): void {
  program
    .command('rotate')
    .summary('rotate now')
    .description(
      `Asks the issuer to prepare the next authority now and to let it sign as soon as every node trusts it. With --force a
rotation goes on without the nodes it waits for; they are recorded with your reason, and will be refused until they
follow.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .requiredOption('--reason <text>', 'why; it is recorded in the bundle')
    .option('--force', 'go on without stragglers', false)
    .option('--no-wait', 'return when the order was accepted, not when the rotation is done')
    .option('--json', 'print the answer as JSON', false)
    .action(async (options: RotateOptions) => {
      const output = makeOutput(options.json)
      const { signal, forget } = signalOfProcess()
      try {
        await asOperator(options.config, async (operator) => {
          const order = {
            v: 1,
            kind: 'rotate',
            force: options.force,
            reason: options.reason,
            by: userInfo().username,
            at: formatInstant(Date.now()),
          }
          await askIssuer(operator.nc, operator.names.orderSubject, order, orderAnswer)
          if (!options.wait) return output.answer({ type: 'ordered' }, 'The issuer accepted the order.')
          output.note('The issuer accepted the order.')
          const { active, version } = await followOrder(operator, output, signal)
          output.answer(
            { type: 'rotated', epoch: active, version },
            `Epoch ${active} signs, proven on every node.`,
          )
        })
      } finally {
        forget()
      }
    })
}
