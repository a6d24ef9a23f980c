/**
 * Who is signed for next, and who has to come back, and when? A whole fleet may renew at once: the line is as long as
 * it can be answered in time, by the measured time of an answer, and everybody else is given a moment of its own.
 */
import { RotorError } from '../../src/errors.ts'
import { spread } from '../../src/schedule.ts'
import type { Clock, Duration, Instant } from '../../src/time.ts'

export interface LineOptions {
  readonly clock: Clock
  /**
   * Requests that are worked on at once: so many that neither our thread nor those of the pool stand still for want of
   * one, and fewer than the connections we have to an engine. @default 16
   */
  readonly width?: number
  /** The longest wait that is expected of a newcomer, milliseconds. @default 2 s */
  readonly patience?: Duration
}

interface Waiting {
  readonly start: () => Promise<void>
  readonly replaced: () => void
}

/** Before the first measurement: a slow one, so that the first wave is rather sent away than kept for too long. */
const FIRST_GUESS: Duration = 5
/** Weight of the newest measurement: twenty answers make a new mean. */
const WEIGHT = 0.1
/** One answer that took many times as long as the mean was a machine that stood still: many of them are a slow one. */
const OUTLIER = 8
/** Nobody is told to come back at once: that would be a loop. */
const SHORTEST_RETRY: Duration = 100
/** What a slow authority makes us expect may be wrong soon: nobody is sent away for longer than this at once. */
const LONGEST_RETRY: Duration = 30_000
/** How far ahead of its moment an agent may come: clocks and timers are not exact. */
const EARLY: Duration = 50

/**
 * At most one request of each agent waits, so no agent can fill the line; a newer one takes the place of the one
 * before. Whoever is sent away has a reservation, and those who come later stand behind all reservations: nobody is
 * sent away for ever.
 */
export class SigningLine {
  readonly #clock: Clock
  readonly #width: number
  readonly #patience: Duration
  /** In the order of their coming. */
  readonly #waiting = new Map<string, Waiting>()
  /** When an agent that was sent away is expected, in the order of the refusals. */
  readonly #reserved = new Map<string, Instant>()
  #working = 0
  /** Mean time from one answer to the next while there is work. */
  #interval = FIRST_GUESS
  #lastAnswer: Instant = 0

  constructor({ clock, width = 16, patience = 2_000 }: LineOptions) {
    this.#clock = clock
    this.#width = width
    this.#patience = patience
  }

  /**
   * Does `work` when it is the turn of this agent, and gives its outcome. Throws ERR_SIGN_BUSY with the milliseconds
   * as `details.retryAfter` when the line is too long, or when a newer request of the agent takes its place.
   */
  async enter<T>(agent: string, work: () => Promise<T>): Promise<T> {
    const now = this.#clock.now()
    if (!this.#waiting.has(agent) && !this.#mayEnter(agent, now)) throw this.sentAway(agent)
    this.#reserved.delete(agent)
    return await new Promise<T>((resolve, reject) => {
      this.#waiting.get(agent)?.replaced()
      // a key that is there keeps its place
      this.#waiting.set(agent, {
        start: () => work().then(resolve, reject),
        replaced: () => reject(busy('a newer request of this agent took its place', this.#wait())),
      })
      this.#advance()
    })
  }

  /** The refusal of this agent's request, with a moment that is kept free for it. */
  sentAway(agent: string): RotorError {
    const now = this.#clock.now()
    for (const [other, moment] of this.#reserved) {
      if (moment + 2 * this.#patience >= now) break
      this.#reserved.delete(other)
    }
    const known = this.#reserved.get(agent)
    const again = known !== undefined && known > now ? known : now + this.#momentFor(agent)
    this.#reserved.set(agent, again)
    return busy('many agents renew at the moment', again - now)
  }

  #momentFor(agent: string): Duration {
    const wait = this.#wait()
    return wait <= LONGEST_RETRY ? wait : LONGEST_RETRY / 2 + spread(agent, LONGEST_RETRY / 2)
  }

  /** Newcomers stand behind all who were sent away before; who comes at its moment only behind the line. */
  #mayEnter(agent: string, now: Instant): boolean {
    if (this.#working < this.#width) return true
    const line = (this.#waiting.size + this.#working) * this.#interval
    const reserved = this.#reserved.get(agent)
    // an estimate may be wrong by a factor of two before somebody is sent away again
    if (reserved !== undefined && now >= reserved - EARLY) return line <= 2 * this.#patience
    return line + this.#reserved.size * this.#interval <= this.#patience
  }

  /** Until the line and all reservations of now are served. */
  #wait(): Duration {
    return Math.ceil((this.#waiting.size + this.#working + this.#reserved.size + 1) * this.#interval)
  }

  #advance(): void {
    for (const [agent, { start }] of this.#waiting) {
      if (this.#working >= this.#width) return
      this.#waiting.delete(agent)
      this.#working += 1
      const began = this.#clock.now()
      void start().finally(() => {
        this.#working -= 1
        this.#measure(began, this.#clock.now())
        this.#advance()
      })
    }
  }

  /** An answer alone takes its whole time; of several at once each one takes what it needs after the one before. */
  #measure(began: Instant, now: Instant): void {
    const took = Math.max(0, now - Math.max(began, this.#lastAnswer))
    this.#lastAnswer = now
    const counted = Math.min(took, OUTLIER * this.#interval + FIRST_GUESS)
    this.#interval += WEIGHT * (counted - this.#interval)
  }
}

const busy = (why: string, retryAfter: Duration): RotorError =>
  new RotorError('ERR_SIGN_BUSY', why, {
    details: { retryAfter: Math.max(SHORTEST_RETRY, Math.round(retryAfter)) },
  })
