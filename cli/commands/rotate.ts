/** `rotor rotate`: the next authority now, not at the start of its epoch. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { asOperator } from '../../src/domain/operator.ts'
import { gatherOverview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { formatInstant, sleep } from '../../src/time.ts'
import { decodeRecord, encodeRecord } from '../../src/wire/record.ts'
import { orderAnswer } from '../../src/wire/requests.ts'
import { signalOfProcess } from '../daemon.ts'
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
        await asOperator(options.config, async ({ config, names, nc }) => {
          const order = {
            v: 1,
            kind: 'rotate',
            force: options.force,
            reason: options.reason,
            by: userInfo().username,
            at: formatInstant(Date.now()),
          }
          const reply = await nc
            .request(names.orderSubject, encodeRecord(order), { timeout: 10_000 })
            .catch((cause) => {
              throw RotorError.from(
                cause,
                'ERR_NATS_UNAVAILABLE',
                `no issuer answers on ${names.orderSubject}`,
              )
            })
          const answer = decodeRecord(orderAnswer, reply.data, names.orderSubject)
          if (!answer.ok) throw new RotorError(answer.code, answer.message)
          if (!options.wait) return output.answer({ type: 'ordered' }, 'The issuer accepted the order.')
          output.note('The issuer accepted the order.')
          let said = ''
          for (;;) {
            const overview = await gatherOverview(nc, names, config, Date.now())
            const words = `${overview.phase}: ${overview.waitingFor.length === 0 ? overview.reason : `waits for ${overview.waitingFor.map((w) => `${w.name} (${w.missing})`).join(', ')}`}`
            if (words !== said) output.note(words)
            said = words
            if (overview.phase === 'steady' && !overview.ordered) {
              return output.answer(
                { type: 'rotated', epoch: overview.active, version: overview.version },
                `Epoch ${overview.active} signs, proven on every node.`,
              )
            }
            await sleep(200, signal)
          }
        })
      } finally {
        forget()
      }
    })
}
