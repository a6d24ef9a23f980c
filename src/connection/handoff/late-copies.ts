/**
 * A copy may come after the cut, most of all by way of another server: they are looked for a while longer, in the place
 * of the client's own dispatcher.
 */
import type { Duration } from '../../time.ts'
import type { Dispatcher, Frame, Internals } from './internals.ts'
import type { MessageFrame, Overlap } from './overlap.ts'
import { within } from './patience.ts'
import type { SecondConnection } from './second.ts'

export interface LateCopiesOptions {
  readonly overlap: Overlap
  /** Subscriptions whose messages may be copies. */
  readonly plain: ReadonlySet<number>
  /** Milliseconds. */
  readonly dwell: Duration
}

export class LateCopies implements Dispatcher {
  /** Resolves when the client has its place again. */
  readonly over: Promise<void>
  readonly #internals: Internals
  readonly #options: LateCopiesOptions

  constructor(internals: Internals, second: SecondConnection, options: LateCopiesOptions) {
    this.#internals = internals
    this.#options = options
    // what waits in the socket while the service is busy is not late
    const noMore = () => new Error('no copies any more')
    this.over = within<void>(second.over, options.dwell, noMore).catch(() => {
      if (second.parser.dispatcher === this) second.parser.dispatcher = internals.protocol
    })
  }

  push(frame: Frame): void {
    const { protocol, kinds } = this.#internals
    const { overlap, plain } = this.#options
    const isPlain = frame.kind === kinds.message && plain.has(frame.msg?.sid ?? -1)
    if (isPlain && overlap.isCopy(frame as MessageFrame)) return
    protocol.push(frame)
  }
}
