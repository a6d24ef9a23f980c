/** `rotor rotate`: the next authority now, not at the start of its epoch. */
import type { Command } from 'commander'
import { type OrderOptions, placeOrder } from '../order.ts'

interface RotateOptions extends OrderOptions {
  readonly force: boolean
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
      await placeOrder(options, { kind: 'rotate', force: options.force }, ({ active, version }) => ({
        value: { type: 'rotated', epoch: active, version },
        words: `Epoch ${active} signs, proven on every node.`,
      }))
    })
}
