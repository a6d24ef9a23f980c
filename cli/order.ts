/** An order to the issuer as a command: placed, and shown how it is carried out until nothing of it is under way. */
import { userInfo } from 'node:os'
import { askIssuer, asOperator, type Operator } from '../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../src/domain/overview.ts'
import { formatInstant, sleep } from '../src/time.ts'
import { type Order, orderAnswer } from '../src/wire/requests.ts'
import { signalOfProcess } from './daemon.ts'
import { makeOutput, type Output } from './output.ts'

export interface OrderOptions {
  /** issuer.json */
  readonly config: string
  readonly reason: string
  /** Until it is carried out; otherwise until it was accepted. */
  readonly wait: boolean
  readonly json: boolean
}

type What = Pick<Order, 'kind'> & Partial<Pick<Order, 'force' | 'crossSign' | 'epoch' | 'signer'>>

/** Returns when the issuer has it in the state. Throws its refusal. */
export async function sendOrder({ nc, names }: Operator, what: What, reason: string): Promise<void> {
  const by = userInfo().username
  const order = { v: 1, force: false, ...what, reason, by, at: formatInstant(Date.now()) }
  await askIssuer(nc, names.orderSubject, order, orderAnswer)
}

/** `done` says what came of it, as an object and in words; it throws when that is not what was ordered. */
export async function placeOrder(
  options: OrderOptions,
  what: What,
  done: (now: Overview) => { readonly value: object; readonly words: string },
): Promise<void> {
  const output = makeOutput(options.json)
  const { signal, forget } = signalOfProcess()
  try {
    await asOperator(options.config, async (operator) => {
      await sendOrder(operator, what, options.reason)
      if (!options.wait) return output.answer({ type: 'ordered' }, 'The issuer accepted the order.')
      output.note('The issuer accepted the order.')
      const { value, words } = done(await carriedOut(operator, output, signal))
      output.answer(value, words)
    })
  } finally {
    forget()
  }
}

async function carriedOut(
  { nc, names, config }: Operator,
  output: Output,
  signal: AbortSignal,
): Promise<Overview> {
  let said = ''
  for (;;) {
    const overview = await gatherOverview(nc, names, config, Date.now())
    const whom = overview.waitingFor.map((w) => `${w.name} (${w.missing})`).join(', ')
    const words = `${overview.phase}: ${whom === '' ? overview.reason : `waits for ${whom}`}`
    if (words !== said) output.note(words)
    said = words
    if (overview.phase === 'steady' && !overview.ordered) return overview
    await sleep(200, signal)
  }
}
