/** `rotor doctor`: what would break if a rotation began now? Looks, and changes nothing. */
import type { Command } from 'commander'
import { gatherFacts } from '../../issuer/preflight/gather.ts'
import { asOperator } from '../../src/domain/operator.ts'
import type { FindingId } from '../../src/preflight/findings.ts'
import { judge } from '../../src/preflight/judge.ts'
import { formatInstant } from '../../src/time.ts'
import { colour, makeOutput } from '../output.ts'
import { acceptedId, counting, renderFindings } from '../preflight-view.ts'

interface DoctorOptions {
  readonly config: string
  readonly accept: readonly FindingId[]
  readonly json: boolean
}

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .summary('say what would break before anything moves')
    .description(
      `Looks at agents, servers, listeners, streams, authorities and the key store, and names what would hold a rotation or
break by it, each with an id and what to do; docs/preflight.md has the list. Changes nothing. Run it where issuer.json
and the key store are. Ends with 1 when there is an error or a warning that you did not accept.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--accept <id>', 'a finding you know of; may be given several times', acceptedId, [])
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      `
Example, each night, with one warning that you live with:
  rotor doctor --config prod/issuer/issuer.json --accept consumer-loses`,
    )
    .action(async ({ config: file, accept, json }: DoctorOptions) => {
      const output = makeOutput(json)
      await asOperator(file, async (operator) => {
        const now = Date.now()
        const findings = judge(await gatherFacts(operator, now), now)
        const { domain } = operator.config
        output.answer(
          { type: 'doctor', domain, at: formatInstant(now), findings },
          `${colour('bold', `trust domain ${domain}`)}\n\n${renderFindings(findings, accept)}`,
        )
        process.exitCode = counting(findings, accept).length === 0 ? 0 : 1
      })
    })
}
