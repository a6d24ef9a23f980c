/** `rotor taint`: an authority is not to be relied on any more. Followed until it is proven that nobody trusts it. */
import type { Command } from 'commander'
import { asOperator, type Operator } from '../../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { formatDuration, sleep } from '../../src/time.ts'
import { signalOfProcess } from '../daemon.ts'
import { type OrderOptions, sendOrder } from '../order.ts'
import { makeOutput, type Output } from '../output.ts'

interface TaintOptions extends OrderOptions {
  readonly epoch: string
}

export function addTaint(program: Command): void {
  program
    .command('taint')
    .summary('distrust an authority now: its key may be stolen')
    .description(
      `Nothing more is signed by the authority of this epoch, from this moment on. When it is the one that signs, a new one is
made and follows it as fast as the nodes trust it. Every node gets a new key and a leaf of another authority, then the tainted one
leaves trust, and every listener is tried with a certificate of it until all refuse. Nodes that do not follow within
"policy.taintPatience" are cut off and named; only the issuer that leads is waited for. With the key a thief can make certificates
in any name; so a node may renew with a certificate of that authority only when it is one that the issuer knew of when you gave
this order.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .requiredOption('--epoch <number>', 'which authority; "rotor status" shows them')
    .requiredOption('--reason <text>', 'why; it is recorded in the bundle')
    .option('--no-wait', 'return when nothing more is signed with it, not when nobody trusts it')
    .option('--json', 'print one JSON object for each step', false)
    .addHelpText(
      'after',
      '\nExample: rotor taint --config issuer.json --epoch 42 --reason "key store was copied"\n         rotor status --config issuer.json',
    )
    .action(async (options: TaintOptions) => {
      if (!/^-?\d+$/.test(options.epoch)) {
        throw new RotorError('ERR_USAGE', `--epoch: expected a whole number, found "${options.epoch}"`)
      }
      const epoch = Number(options.epoch)
      const output = makeOutput(options.json)
      const { signal, forget } = signalOfProcess()
      try {
        await asOperator(options.config, async (operator) => {
          const began = performance.now()
          const say = (step: string, words: string, more: object = {}): void => {
            const tookMs = Math.round(performance.now() - began)
            output.event(
              { type: 'taint', step, epoch, tookMs, ...more },
              `${formatDuration(tookMs)}  ${words}`,
            )
          }
          await sendOrder(operator, { kind: 'taint', epoch }, options.reason)
          say('stopped', `epoch ${epoch} signs nothing more`)
          if (options.wait) await follow(operator, epoch, say, output, signal)
        })
      } finally {
        forget()
      }
    })
}

type Say = (step: string, words: string, more?: object) => void

/** Tells each step when it is reached; returns with the last one. */
async function follow(
  { nc, names, config }: Operator,
  epoch: number,
  say: Say,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const steps = stepsOf(epoch)
  let said = ''
  for (;;) {
    const now = await gatherOverview(nc, names, config, Date.now())
    while (steps[0]?.reached(now) === true) {
      const { step, words } = steps.shift() ?? { step: '', words: () => '' }
      const taint = now.tainted.find((one) => one.epoch === epoch)
      say(step, words(now), { version: now.version, cutOff: taint?.removed?.cutOff ?? [] })
    }
    if (steps.length === 0) return
    const whom = now.waitingFor.map(({ name, missing }) => `${name} (${missing})`).join(', ')
    const words = `${now.phase}: ${whom === '' ? now.reason : `waits for ${whom}`}`
    if (words !== said) output.note(words)
    said = words
    await sleep(100, signal)
  }
}

interface Step {
  readonly step: string
  readonly reached: (now: Overview) => boolean
  readonly words: (now: Overview) => string
}

/** In their order: a later one is not looked for before the one before. */
function stepsOf(epoch: number): Step[] {
  const trusted = (now: Overview): boolean => now.authorities.some((authority) => authority.epoch === epoch)
  const tainted = (now: Overview) => now.tainted.find((one) => one.epoch === epoch)
  return [
    {
      step: 'replaced',
      reached: ({ active }) => active !== epoch,
      words: ({ active }) => `epoch ${active} signs`,
    },
    {
      step: 'reissued',
      reached: (now) => !trusted(now) || now.agents.every(({ status }) => status?.leaf.issuerEpoch !== epoch),
      words: () => 'no node has a certificate of it any more, or it was cut off',
    },
    {
      step: 'removed',
      reached: (now) => !trusted(now),
      words: (now) => {
        const cutOff = tainted(now)?.removed?.cutOff ?? []
        return `epoch ${epoch} is out of trust${cutOff.length === 0 ? '' : `; cut off: ${cutOff.join(', ')}`}`
      },
    },
    {
      step: 'proven',
      reached: (now) => !trusted(now) && tainted(now) === undefined,
      words: () =>
        'no node trusts it, every listener refuses a certificate of it, and no connection stands on it',
    },
  ]
}
