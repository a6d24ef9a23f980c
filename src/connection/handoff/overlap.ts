/**
 * Which messages of the second connection did the first one deliver already? Pure.
 *
 * While both connections have a plain subscription each message comes twice. Three moments matter, for each sid:
 * - `note`: the first connection answered a PING that was sent after the second one had the subscription (and all
 *   servers knew). What it delivers from here on has a copy on the second.
 * - `hold`: the second connection answered a PING after that. What it got so far was, or will be, delivered by the
 *   first, which still is subscribed: it is dropped, whatever it says. What comes from here on is kept.
 * - `merge`: the first has delivered its last message. Kept messages go on, but those that the first delivered, too.
 *
 * Messages are the same when sid, subject, reply, headers and payload are. When several are, byte by byte, it can not
 * be told which of them came twice: then as many are dropped as surely did, and the others are delivered. Never lost.
 */
import type { ClientMessage, Frame } from './internals.ts'

/** A frame that is a message. */
export interface MessageFrame extends Frame {
  readonly msg: ClientMessage
  readonly data: Uint8Array
}

export class Overlap {
  readonly #noted = new Set<number>()
  readonly #holding = new Set<number>()
  /** Deliveries of the first connection minus copies of the second that are dropped anyway, for each message. */
  readonly #balance = new Map<string, number>()
  #held: MessageFrame[] = []
  #heldCount = 0
  #heldBytes = 0
  #keyBytes = 0
  #matched = 0

  /** Bytes that are remembered now. */
  get bytes(): number {
    return this.#heldBytes + this.#keyBytes
  }

  /** Messages of the second connection that were held for the cut. */
  get held(): number {
    return this.#heldCount
  }

  /** Held messages that were found to be copies. */
  get matched(): number {
    return this.#matched
  }

  note(sids: Iterable<number>): void {
    for (const sid of sids) this.#noted.add(sid)
  }

  hold(sids: Iterable<number>): void {
    for (const sid of sids) this.#holding.add(sid)
  }

  /** The first connection delivered this one. */
  delivered({ msg, data }: MessageFrame): void {
    if (this.#noted.has(msg.sid)) this.#count(keyOf(msg, data), 1)
  }

  /** The second connection got this one. */
  arrived(frame: MessageFrame): void {
    const { msg, data } = frame
    if (!this.#holding.has(msg.sid)) {
      this.#count(keyOf(msg, data), -1)
      return
    }
    this.#held.push(frame)
    this.#heldCount += 1
    this.#heldBytes += data.length + msg.subject.length
  }

  /** The held messages that are still to be delivered, in their order. Nothing is held afterwards. */
  merge(): MessageFrame[] {
    const held = this.#held
    this.#held = []
    this.#heldBytes = 0
    return held.filter((frame) => !this.isCopy(frame))
  }

  /** Was this one delivered by the first connection? Says so once for each delivery. */
  isCopy({ msg, data }: MessageFrame): boolean {
    const key = keyOf(msg, data)
    if ((this.#balance.get(key) ?? 0) <= 0) return false
    this.#count(key, -1)
    this.#matched += 1
    return true
  }

  #count(key: string, by: 1 | -1): void {
    const before = this.#balance.get(key) ?? 0
    const after = before + by
    if (before === 0) this.#keyBytes += key.length
    if (after === 0) {
      this.#keyBytes -= key.length
      this.#balance.delete(key)
    } else {
      this.#balance.set(key, after)
    }
  }
}

/** Bytes as characters of one byte: equal strings are equal messages. Lengths first, so that no two parts can be shifted. */
function keyOf({ sid, subject, reply, hdr }: ClientMessage, data: Uint8Array): string {
  const to = text(subject)
  const answer = reply === undefined ? '' : text(reply)
  return `${sid} ${to.length} ${answer.length} ${hdr} ${to}${answer}${text(data)}`
}

const text = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
