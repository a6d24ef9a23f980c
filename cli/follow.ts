/** Shows how an order is carried out, until nothing that was ordered is under way any more. */
import type { Operator } from '../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../src/domain/overview.ts'
import { sleep } from '../src/time.ts'
import type { Output } from './output.ts'

export async function followOrder(
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
