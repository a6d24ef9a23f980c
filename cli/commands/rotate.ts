/** `rotor rotate`: the next authority now, not at the start of its epoch; or, with --dry-run, what that would do. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { gatherFacts } from '../../issuer/preflight/gather.ts'
import { asOperator } from '../../src/domain/operator.ts'
import { RotorError } from '../../src/errors.ts'
import type { FindingId } from '../../src/preflight/findings.ts'
import { judge } from '../../src/preflight/judge.ts'
import { planFor } from '../../src/preflight/plan.ts'
import { formatInstant } from '../../src/time.ts'
import { type OrderOptions, placeOrder } from '../order.ts'
import { colour, makeOutput } from '../output.ts'
import { acceptedId, counting, renderFindings, renderPlan } from '../preflight-view.ts'

interface RotateOptions extends Omit<OrderOptions, 'reason'> {
  readonly reason?: string
  readonly force: boolean
  readonly dryRun: boolean
  readonly accept: readonly FindingId[]
}

export function addRotate(program: Command): void {
  program
    .command('rotate')
    .summary('rotate now, or say what that would do')
    .description(
      `Asks the issuer to prepare the next authority now and to let it sign as soon as every node trusts it. With --force a
rotation goes on without the nodes it waits for; they are recorded with your reason, and will be refused until they
follow. With --dry-run nothing moves: it makes the checks of "rotor doctor" and says what the rotation would do, step by
step, and whom it would wait for in vain; it ends with 1 when there is an error or a warning that you did not accept,
or the rotation would hold or be refused.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--reason <text>', 'why; it is recorded in the bundle, and needed unless with --dry-run')
    .option('--force', 'go on without stragglers', false)
    .option('--dry-run', 'say what would happen, and change nothing', false)
    .option(
      '--accept <id>',
      'with --dry-run: a finding you know of; may be given several times',
      acceptedId,
      [],
    )
    .option('--no-wait', 'return when the order was accepted, not when the rotation is done')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      `
Example:
  rotor rotate --config prod/issuer/issuer.json --dry-run
  rotor rotate --config prod/issuer/issuer.json --reason "ticket 4711"`,
    )
    .action(async (options: RotateOptions) => {
      const { reason, force } = options
      if (options.dryRun) return await dryRun(options)
      if (reason === undefined)
        throw new RotorError('ERR_USAGE', "required option '--reason <text>' not specified")
      await placeOrder({ ...options, reason }, { kind: 'rotate', force }, ({ active, version }) => ({
        value: { type: 'rotated', epoch: active, version },
        words: `Epoch ${active} signs, proven on every node.`,
      }))
    })
}

async function dryRun({
  config: file,
  reason = 'dry run',
  force,
  accept,
  json,
}: RotateOptions): Promise<void> {
  const output = makeOutput(json)
  await asOperator(file, async (operator) => {
    const now = Date.now()
    const facts = await gatherFacts(operator, now)
    const findings = judge(facts, now)
    const { username: by } = userInfo()
    const order = {
      v: 1,
      kind: 'rotate',
      crossSign: false,
      force,
      reason,
      by,
      at: formatInstant(now),
    } as const
    const plan = planFor(facts, findings, order, now)
    const { domain } = operator.config
    output.answer(
      { type: 'dry-run', domain, at: formatInstant(now), plan, findings },
      [
        colour('bold', `trust domain ${domain}: what a rotation would do now`),
        '',
        plan === null ? colour('red', 'without the key store nobody can say') : renderPlan(plan),
        '',
        renderFindings(findings, accept),
      ].join('\n'),
    )
    process.exitCode = counting(findings, accept).length === 0 && plan?.outcome === 'done' ? 0 : 1
  })
}
