/** A copy may come after the cut, most of all by way of another server: they are looked for a while longer. */
import type { Dispatcher, Internals } from './internals.ts'
import type { MessageFrame, Overlap } from './overlap.ts'
import { within } from './patience.ts'
import type { SecondConnection } from './second.ts'

/** Takes the place of the client's dispatcher for the time of `dwell`, milliseconds, and then gives it back. */
export function withoutLateCopies(
  { protocol, kinds }: Internals,
  second: SecondConnection,
  overlap: Overlap,
  plain: ReadonlySet<number>,
  dwell: number,
): Dispatcher {
  let isOver = false
  // what waits in the socket while the service is busy is not late
  within(second.over, dwell, () => new Error('no copies any more')).catch(() => {
    isOver = true
  })
  return {
    push: (frame) => {
      if (isOver) second.parser.dispatcher = protocol
      else if (frame.kind === kinds.message && plain.has(frame.msg?.sid ?? -1)) {
        if (overlap.isCopy(frame as MessageFrame)) return
      }
      protocol.push(frame)
    },
  }
}
