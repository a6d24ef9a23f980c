/** `rotor signer`: another key for the bundles of a domain, and which one signs. */
import { type Command, Option } from 'commander'
import { SIGNER_KINDS, type SignerKind } from '../../src/bundle/envelope.ts'
import { asOperator } from '../../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { type OrderOptions, placeOrder } from '../order.ts'
import { makeOutput, table } from '../output.ts'

interface RotateOptions extends OrderOptions {
  readonly algorithm: SignerKind
  readonly force: boolean
}

export function addSigner(program: Command): void {
  const signer = program
    .command('signer')
    .summary('change the key that signs bundles, or show it')
    .description('Changes the key that signs bundles, or shows it.')
  addRotate(signer)
  addWithdraw(signer)
  addStatus(signer)
}

function addRotate(signer: Command): void {
  shared(signer.command('rotate'))
    .summary('sign bundles with a new key')
    .description(
      `Makes a new key beside the old one. A bundle that names both is signed by both, so agents that know the old one learn the
new one. The old one leaves, and its key is deleted, when every agent has reported such a bundle; one that is gone for
good is removed first ("rotor agent remove"), or passed over with --force. Every later bundle carries the word of the
old signer for the new one: nodes that slept meanwhile, and older join tokens, need nothing else.`,
    )
    .addOption(
      new Option('--algorithm <kind>', 'what the new key is; ml-dsa-65 needs Node 24.7 on every node')
        .choices(SIGNER_KINDS)
        .default('ed25519'),
    )
    .requiredOption('--reason <text>', 'why; it is recorded in the bundle')
    .option('--force', 'go on without agents that do not follow; also for a change that is under way', false)
    .addHelpText('after', '\nExample: rotor signer rotate --config issuer.json --reason "the yearly change"')
    .action(async (options: RotateOptions) => {
      const { algorithm, force } = options
      await placeOrder(
        options,
        { kind: 'signer-rotate', signer: algorithm, force },
        ({ signers, version }) => {
          const [newest] = signers
          if (newest === undefined || newest.kind !== algorithm) {
            throw new RotorError('ERR_ORDER_REFUSED', 'the change of the signer was withdrawn')
          }
          return {
            value: { type: 'signer-rotated', signer: newest.kid, kind: newest.kind, version },
            words: `Signer ${newest.kid} signs alone since bundle ${version} or before. Take a new backup of the keys.`,
          }
        },
      )
    })
}

function addWithdraw(signer: Command): void {
  shared(signer.command('withdraw'))
    .summary('take a new signer back that is being introduced')
    .description(
      'The old key goes on signing alone, and the new one is deleted. For nodes that can not verify the new kind of key.',
    )
    .requiredOption('--reason <text>', 'why; it is recorded in the bundle')
    .addHelpText(
      'after',
      '\nExample: rotor signer withdraw --config issuer.json --reason "Node 22 on orders-3"',
    )
    .action(async (options: OrderOptions) => {
      await placeOrder(options, { kind: 'signer-withdraw' }, ({ signers, version }) => ({
        value: { type: 'signer-withdrawn', signer: signers[0]?.kid, version },
        words: `Signer ${signers[0]?.kid} signs alone.`,
      }))
    })
}

function addStatus(signer: Command): void {
  signer
    .command('status')
    .summary('show who signs bundles')
    .description('Shows the signers of the newest bundle, the newest first, and for whom a change waits.')
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText('after', '\nExample: rotor signer status --config issuer.json')
    .action(async ({ config, json }: { readonly config: string; readonly json: boolean }) => {
      const output = makeOutput(json)
      await asOperator(config, async (operator) => {
        const overview = await gatherOverview(operator.nc, operator.names, operator.config, Date.now())
        const { domain, version, signers, reason, waitingFor } = overview
        const waits = reason === 'agents-do-not-know-signer' ? waitingFor : []
        output.answer({ domain, version, signers, waitingFor: waits }, renderSigners(overview, waits))
      })
    })
}

const shared = (command: Command): Command =>
  command
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--no-wait', 'return when the order was accepted, not when it is carried out')
    .option('--json', 'print the answer as JSON', false)

function renderSigners({ domain, version, signers }: Overview, waits: Overview['waitingFor']): string {
  const changing = signers.length > 1
  const meaning = (i: number) =>
    !changing ? 'signs' : i === 0 ? 'new: agents are learning it' : 'signs, leaves then'
  const rows = signers.map(({ kid, kind }, i) => [kid, kind, meaning(i)])
  return [
    `trust domain ${domain}  bundle ${version}`,
    table([['SIGNER', 'KIND', ''], ...rows]),
    ...waits.map(({ name, missing }) => `waits for ${name}: ${missing}`),
  ].join('\n')
}
