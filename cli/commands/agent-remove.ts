/** `rotor agent remove`: a node is gone, or has to go. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { askIssuer, asOperator } from '../../src/domain/operator.ts'
import { agentRemoved } from '../../src/wire/enrolment.ts'
import { makeOutput } from '../output.ts'

interface RemoveOptions {
  readonly config: string
  readonly reason: string
  readonly json: boolean
}

export function addRemove(agent: Command): void {
  agent
    .command('remove <name>')
    .summary('take an agent out of the domain')
    .description(
      `Takes an agent out of the domain: no rotation waits for it, nothing is signed for it, its open join tokens count no
more, its status and consumer are deleted. Its certificate is trusted until it ends; to cut it off at once, take its
user out of accounts.conf and reload the servers. A token that is made later lets it join again.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--reason <text>', 'why; it is recorded', 'by the operator')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      '\nExample: rotor agent remove orders-7 --config issuer.json --reason "the machine is gone"',
    )
    .action(async (name: string, { config, reason, json }: RemoveOptions) => {
      const output = makeOutput(json)
      await asOperator(config, async ({ names, nc }) => {
        const request = { v: 1, op: 'remove-agent', agent: name, reason, by: userInfo().username }
        const { agent, leafEnds, revoked } = await askIssuer(nc, names.enrolSubject, request, agentRemoved)
        const trusted = leafEnds === null ? '' : `\nIts last known certificate is trusted until ${leafEnds}.`
        const tokens = revoked === 0 ? '' : ` ${revoked} open tokens of it were revoked.`
        output.answer(
          { type: 'removed', agent, leafEnds, revoked },
          `${agent} was removed.${tokens}${trusted}`,
        )
      })
    })
}
