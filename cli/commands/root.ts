/** `rotor root`: a new root for the domain, and what there is. */
import type { Command } from 'commander'
import { asOperator } from '../../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { type OrderOptions, placeOrder } from '../order.ts'
import { makeOutput, relative, table } from '../output.ts'

interface RotateOptions extends OrderOptions {
  readonly crossSign: boolean
}

export function addRoot(program: Command): void {
  const root = program
    .command('root')
    .summary('change the root of a domain, or show its roots')
    .description('Changes the root of a domain, or shows its roots.')
  addRotate(root)
  addStatus(root)
}

function addRotate(root: Command): void {
  root
    .command('rotate')
    .summary('move the domain to a new root')
    .description(
      `Makes a new root with a new key, lets every node trust it beside the old one, and then rotates to an authority under it.
The old root leaves, and its key is deleted, when the last authority it signed has retired. A rotation that is under way
is finished first. With --cross-sign both roots also sign each other's key, and leaves carry that: for clients outside
of the domain that trust one root from a file of their own. These certificates end with the last old authority.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--reason <text>', 'why; it is recorded in the bundle', 'a new root')
    .option('--cross-sign', "old and new root sign each other's key", false)
    .option('--no-wait', 'return when the order was accepted, not when the new root signs')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      '\nExample: rotor root rotate --config issuer.json --reason "the yearly change"\n         rotor root status --config issuer.json',
    )
    .action(async (options: RotateOptions) => {
      const { crossSign } = options
      await placeOrder(options, { kind: 'root-rotate', crossSign }, ({ roots, active, version }) => {
        const [newest] = roots
        if (newest === undefined || !newest.epochs.includes(active)) {
          throw new RotorError(
            'ERR_ORDER_REFUSED',
            `the change of the root was given up: the newest root did not sign epoch ${active}; the log of the issuer has the reason`,
          )
        }
        return {
          value: { type: 'root-rotated', root: newest.sha256, epoch: active, version, roots: roots.length },
          words: `Root ${newest.sha256} signs: epoch ${active}, proven on every node. The old root leaves with its last authority.`,
        }
      })
    })
}

function addStatus(root: Command): void {
  root
    .command('status')
    .summary('show which roots are trusted and what each of them signed')
    .description(
      'Shows the roots of the newest bundle, the newest first, with the trusted authorities that each of them signed.',
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText('after', '\nExample: rotor root status --config issuer.json')
    .action(async (options: { readonly config: string; readonly json: boolean }) => {
      const output = makeOutput(options.json)
      await asOperator(options.config, async ({ config, names, nc }) => {
        const overview = await gatherOverview(nc, names, config, Date.now())
        const { domain, version, phase, active, roots } = overview
        output.answer({ domain, version, phase, active, roots }, renderRoots(overview))
      })
    })
}

export function renderRoots({ domain, version, active, roots, phase, at }: Overview): string {
  const rows = roots.map(({ sha256, subject, notAfter, epochs }, i) => [
    sha256.slice(0, 16),
    subject,
    relative(Date.parse(notAfter), at),
    epochs.length === 0 ? 'none' : epochs.join(', '),
    meaning(epochs.includes(active), i === 0, phase),
  ])
  return [
    `trust domain ${domain}  bundle ${version}`,
    table([['ROOT', 'NAME', 'ENDS', 'EPOCHS', ''], ...rows]),
  ].join('\n')
}

function meaning(signedActive: boolean, newest: boolean, phase: string): string {
  if (newest && phase === 'introducing') return 'new: nodes are learning it'
  if (signedActive) return 'signs'
  return newest ? 'signs next' : 'leaves with its last authority'
}
