/**
 * Which messages of the second connection did the first one deliver already? Pure.
 *
 * While both connections have a plain subscription each message comes twice. Three moments matter, for each sid:
 * - `note`: the first connection answered a PING that was sent after the second one had the subscription (and all
 *   servers knew). What it delivers from here on has a copy on the second.
 * - `hold`: the second connection answered a PING after that. What it got so far was, or will be, delivered by the
 *   first, which still is subscribed: it is dropped, whatever it says. On the same server only when the first has
 *   delivered it: a server that stops before that may end the subscription first. What comes from here on is kept.
 * - `merge`: the first has delivered its last message. Kept messages go on, but those that the first delivered, too.
 *
 * A queue group has each message once, on the one or the other connection. `keep` is the moment before the second one
 * becomes a member: from there on the group's messages wait on both, and a plain subscription on the second to the same
 * subject, the reference, says which came first. It may see messages for other members: those are nobody's here.
 *
 * Messages are the same when sid, subject, reply, headers and payload are. When several are, byte by byte, those that
 * the first connection delivered just before `note` may have copies or not. `compare` narrows it: what the second has
 * got when a PING is sent on the first, the first has delivered when the PONG comes. One moment without such a message
 * tells for sure; without one, as many are dropped as surely came twice, and the others are delivered. Never lost.
 */
import type { ClientMessage, Frame } from './internals.ts'

/** A frame that is a message. */
export interface MessageFrame extends Frame {
  readonly msg: ClientMessage
  readonly data: Uint8Array
}

type Role = 'plain' | 'member' | 'reference'

/** What the second connection got, in its order. */
interface Arrival {
  readonly role: Role
  readonly frame: MessageFrame
}

/** A message that came between `open` and `note`, counted since `open`. */
interface Early {
  first: number
  second: number
  /** Of those on the first connection, so many at most have no copy on the second. */
  alone: number
}

export class Overlap {
  readonly #open = new Set<number>()
  readonly #noted = new Set<number>()
  readonly #holding = new Set<number>()
  /** Deliveries of the first connection minus copies of the second that are dropped anyway, for each message. */
  readonly #balance = new Map<string, number>()
  readonly #early = new Map<string, Early>()
  #held: Arrival[] = []
  /** Messages that came on the first connection during the cut, and wait for their place in the order of the second. */
  #late: MessageFrame[] = []
  /** Messages of queue groups that came on the first connection and wait. */
  #kept: MessageFrame[] = []
  /** So many of the kept ones may be older than the reference; of the others it shows all, or has not come to them yet. */
  #older = Number.POSITIVE_INFINITY
  /** Of the late ones, those that have a place. */
  readonly #placed = new Set<MessageFrame>()
  /** What the second got before `hold`, and the first has not delivered yet, by message. Same server only. */
  readonly #ahead = new Map<string, MessageFrame[]>()
  readonly #sameServer: boolean
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

  /** Are there messages of which it is not known how often they came twice? */
  get unsure(): boolean {
    for (const { alone, second } of this.#early.values()) if (alone > 0 && second > 0) return true
    return false
  }

  /** Did the first connection deliver messages whose copies have not come to the second? After `merge`. */
  get owed(): boolean {
    for (const balance of this.#balance.values()) if (balance > 0) return true
    return false
  }

  /** @param options.sameServer a message has one moment on both: what the second got before the UNSUB, the first gets, too */
  constructor({ sameServer = false }: { readonly sameServer?: boolean } = {}) {
    this.#sameServer = sameServer
  }

  /** The second connection is going to have these. */
  open(sids: Iterable<number>): void {
    for (const sid of sids) this.#open.add(sid)
  }

  /** Called when a PING is sent on the first connection; what it returns is called when that is answered. Same server only. */
  compare(): () => void {
    const before = [...this.#early.values()].map((early) => ({ early, second: early.second }))
    return () => {
      for (const { early, second } of before)
        early.alone = Math.max(0, Math.min(early.alone, early.first - second))
    }
  }

  note(sids: Iterable<number>): void {
    for (const sid of sids) this.#noted.add(sid)
  }

  hold(sids: Iterable<number>): void {
    for (const sid of sids) this.#holding.add(sid)
  }

  /** The first connection delivered this one. */
  delivered({ msg, data }: MessageFrame): void {
    const { sid } = msg
    const isNoted = this.#noted.has(sid)
    if (!isNoted && !this.#open.has(sid)) return
    const key = keyOf(msg, data)
    const early = this.#earlyOf(key, sid)
    if (early !== undefined) {
      early.first += 1
      if (!isNoted) early.alone += 1
    }
    this.#caughtUp(key)
    this.#count(key, 1)
  }

  /** The same for one that waits: the server ends subscriptions one by one, and a later one may overtake on the first. */
  deliveredLate(frame: MessageFrame): void {
    this.delivered(frame)
    this.#late.push(frame)
    this.#heldBytes += sizeOf(frame)
  }

  /** The second connection got this one. */
  arrived(frame: MessageFrame): void {
    const { msg, data } = frame
    const isHeld = this.#holding.has(msg.sid)
    if (isHeld) this.#hold('plain', frame)
    if (isHeld && this.#early.size === 0) return
    const key = keyOf(msg, data)
    const early = this.#earlyOf(key, msg.sid)
    if (early !== undefined) early.second += 1
    if (isHeld) return
    if (this.#sameServer && (this.#balance.get(key) ?? 0) <= 0) this.#keepAhead(key, frame)
    this.#count(key, -1)
  }

  /** The second connection got this one as a member of its group. */
  arrivedForGroup(frame: MessageFrame): void {
    this.#hold('member', frame)
  }

  /** The second connection saw this one go by, with the sid of the subscription of the group. */
  seen(frame: MessageFrame): void {
    this.#hold('reference', frame)
  }

  /** The first connection got this one as a member of its group; it waits. */
  keep(frame: MessageFrame): void {
    this.#kept.push(frame)
    this.#heldBytes += sizeOf(frame)
  }

  /** The first answered a PING that was sent after the reference was there: what it did not show is newer than what it did. */
  refer(): void {
    this.#older = this.#kept.length
  }

  /** All messages that are still to be delivered, in their order. Nothing is held afterwards. */
  merge(): MessageFrame[] {
    return this.#release(true)
  }

  /** The same without plain subscriptions: the first connection goes on and delivers theirs. */
  mergeGroups(): MessageFrame[] {
    return this.#release(false)
  }

  #release(withPlain: boolean): MessageFrame[] {
    for (const [key, { alone }] of this.#early) {
      for (let i = 0; i < alone; i++) this.#count(key, -1)
      this.#keyBytes -= key.length
    }
    this.#early.clear()
    const held = this.#held
    const waiting = new Map<string, MessageFrame[][]>()
    for (const { role, frame } of held) {
      if (role === 'reference') waiting.set(keyOf(frame.msg, frame.data), [])
    }
    const plain = withPlain ? this.#plainInOrder(held) : new Map<Arrival, MessageFrame>()
    const { older, newer } = this.#unplaced()
    // The server had found these for the first, too, and took its subscription away before it came to deliver them.
    const out = withPlain ? [...older, ...[...this.#ahead.values()].flat()] : older
    let run = out
    const newest: MessageFrame[] = []
    for (const [i, frame] of this.#kept.entries()) {
      // What the reference has not seen is older than it; or newer, when it ended early or is behind.
      const places = waiting.get(keyOf(frame.msg, frame.data))
      if (places !== undefined) {
        run = []
        places.push(run)
      } else if (i >= this.#older) run = newest
      run.push(frame)
    }
    for (const arrival of held) {
      const { role, frame } = arrival
      const due = role === 'member' ? frame : plain.get(arrival)
      if (due !== undefined) out.push(due)
      if (role !== 'reference') continue
      const kept = waiting.get(keyOf(frame.msg, frame.data))?.shift()
      if (kept !== undefined) out.push(...kept)
    }
    for (const rest of waiting.values()) out.push(...rest.flat())
    out.push(...newer, ...newest)
    this.#held = []
    this.#kept = []
    this.#older = Number.POSITIVE_INFINITY
    this.#placed.clear()
    this.#ahead.clear()
    this.#heldBytes = 0
    return out
  }

  /** The plain messages that are due at the place of each arrival: its own, or one of the first that waited for it. */
  #plainInOrder(held: readonly Arrival[]): Map<Arrival, MessageFrame> {
    const late = new Map<string, MessageFrame[]>()
    for (const frame of this.#late) {
      const key = keyOf(frame.msg, frame.data)
      late.set(key, [...(late.get(key) ?? []), frame])
    }
    const due = new Map<Arrival, MessageFrame>()
    for (const arrival of held) {
      const { role, frame } = arrival
      if (role !== 'plain') continue
      const waited = this.isCopy(frame) ? late.get(keyOf(frame.msg, frame.data))?.shift() : frame
      if (waited === undefined) continue
      due.set(arrival, waited)
      this.#placed.add(waited)
    }
    return due
  }

  /**
   * What waited on the first and has no copy among the held ones. The second has dropped that copy before it held any,
   * or it is still on its way there: from another server, that is as far behind.
   */
  #unplaced(): { readonly older: MessageFrame[]; readonly newer: MessageFrame[] } {
    const unplaced = this.#late.splice(0).filter((frame) => !this.#placed.has(frame))
    const coming = new Map<string, number>()
    const isComing = ({ msg, data }: MessageFrame): boolean => {
      const key = keyOf(msg, data)
      const left = coming.get(key) ?? this.#balance.get(key) ?? 0
      coming.set(key, left - 1)
      return left > 0
    }
    // of equal ones it is the last
    const newer = new Set(unplaced.toReversed().filter(isComing))
    return {
      older: unplaced.filter((frame) => !newer.has(frame)),
      newer: unplaced.filter((frame) => newer.has(frame)),
    }
  }

  #hold(role: Role, frame: MessageFrame): void {
    this.#held.push({ role, frame })
    this.#heldBytes += sizeOf(frame)
    if (role !== 'reference') this.#heldCount += 1
  }

  /** Was this one delivered by the first connection? Says so once for each delivery. */
  isCopy({ msg, data }: MessageFrame): boolean {
    const key = keyOf(msg, data)
    if ((this.#balance.get(key) ?? 0) <= 0) return false
    this.#count(key, -1)
    this.#matched += 1
    return true
  }

  #keepAhead(key: string, frame: MessageFrame): void {
    const frames = this.#ahead.get(key)
    if (frames === undefined) this.#ahead.set(key, [frame])
    else frames.push(frame)
    this.#heldBytes += sizeOf(frame)
  }

  #caughtUp(key: string): void {
    const frames = this.#ahead.get(key)
    const frame = frames?.shift()
    if (frame === undefined) return
    this.#heldBytes -= sizeOf(frame)
    if (frames?.length === 0) this.#ahead.delete(key)
  }

  #earlyOf(key: string, sid: number): Early | undefined {
    const known = this.#early.get(key)
    if (known !== undefined || this.#noted.has(sid) || !this.#open.has(sid)) return known
    const early = { first: 0, second: 0, alone: 0 }
    this.#early.set(key, early)
    this.#keyBytes += key.length
    return early
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

const sizeOf = ({ msg, data }: MessageFrame): number => data.length + msg.subject.length

/** Bytes as characters of one byte: equal strings are equal messages. Lengths first, so that no two parts can be shifted. */
function keyOf({ sid, subject, reply, hdr }: ClientMessage, data: Uint8Array): string {
  const to = text(subject)
  const answer = reply === undefined ? '' : text(reply)
  return `${sid} ${to.length} ${answer.length} ${hdr} ${to}${answer}${text(data)}`
}

const text = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
