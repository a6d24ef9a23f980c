/** `rotor rollback` and `rotor withdraw`: take a rotation back, after and before its authority signs. */
import type { Command } from 'commander'
import { type OrderOptions, placeOrder } from '../order.ts'

export function addRollback(program: Command): void {
  shared(program.command('rollback'))
    .summary('let the authority before sign again')
    .description(
      `Asks the issuer to publish a bundle in which the authority before signs again. Every node still trusts it, so nothing
breaks; nodes with a leaf of the newer one get a leaf of the older one, and the newer one leaves trust when nobody stands on
it. The version of the bundle rises as always. The next epoch, or "rotor rotate", tries again with a new authority.`,
    )
    .addHelpText(
      'after',
      '\nExample: rotor rollback --config issuer.json --reason "billing does not take the new chain"',
    )
    .action(async (options: OrderOptions) => {
      await placeOrder(options, { kind: 'rollback' }, ({ active, version }) => ({
        value: { type: 'rolled-back', epoch: active, version },
        words: `Epoch ${active} signs again, proven on every node.`,
      }))
    })

  shared(program.command('withdraw'))
    .summary('take the next authority back before it signs')
    .description(
      `Asks the issuer to take the next authority out of the bundle while it is being distributed. It has signed nothing, so
nobody depends on it. The next epoch, or "rotor rotate", tries again with a new authority.`,
    )
    .addHelpText(
      'after',
      '\nExample: rotor withdraw --config issuer.json --reason "wrong root"     # "rotor status" says "distributing"',
    )
    .action(async (options: OrderOptions) => {
      await placeOrder(options, { kind: 'withdraw' }, ({ active, version }) => ({
        value: { type: 'withdrawn', epoch: active, version },
        words: `Epoch ${active} signs on; no node trusts the one that was withdrawn.`,
      }))
    })
}

const shared = (command: Command): Command =>
  command
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .requiredOption('--reason <text>', 'why; it is recorded in the bundle')
    .option('--no-wait', 'return when the order was accepted, not when it is carried out')
    .option('--json', 'print the answer as JSON', false)
