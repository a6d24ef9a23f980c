/**
 * Has every message arrived, once, and if not, who may be blamed? Pure bookkeeping: what services tell goes in, and what
 * faults hit; at the end of each rotation the account is closed, and what nobody may be blamed for is a problem.
 *
 * A flow is from one service to the one that counts its messages. A service that is killed and started again begins a new
 * life, and numbers its messages from 0 again. What it published and did not live to tell is counted as `untold`.
 */
import { Life, type Told } from './life.ts'

export type { Told } from './life.ts'

export interface Flow {
  readonly from: string
  readonly to: string
}

/** One thing that may cost messages of those who used it. */
export interface Hit {
  /** A server or a service. */
  readonly name: string
  /** `killed`, `stopped`, ... */
  readonly what: string
  /** Milliseconds of a monotonic clock: when it began. */
  readonly at: number
}

export interface Counts {
  readonly core: Record<'published' | 'lost' | 'duplicated' | 'reordered', number>
  readonly jetstream: Record<'acknowledged' | 'lost' | 'duplicated' | 'redelivered', number>
  readonly requests: Record<'sent' | 'failed', number>
}

export interface Closing {
  /** Of this rotation alone. */
  readonly counts: Counts
  /** What a fault explains, by name. */
  readonly explained: readonly string[]
  /** What nothing explains. */
  readonly problems: readonly string[]
}

const zero = (): Counts => ({
  core: { published: 0, lost: 0, duplicated: 0, reordered: 0 },
  jetstream: { acknowledged: 0, lost: 0, duplicated: 0, redelivered: 0 },
  requests: { sent: 0, failed: 0 },
})

export class Account {
  readonly flows: readonly Flow[]
  /** By the publisher. */
  readonly #lives = new Map<string, Life[]>()
  /** Servers each service was connected to since the last closing, the present one last. */
  readonly #servers = new Map<string, readonly string[]>()
  readonly #hits = new Map<string, Hit>()
  /** The last rotation with something that lets JetStream deliver again: to all, and to one service. */
  readonly #redelivers = new Map<string, number>()
  #rotation = 0
  #now = zero()
  #problems: string[] = []

  constructor(flows: readonly Flow[]) {
    this.flows = flows
  }

  // ---- what services tell

  /** @param at milliseconds of a monotonic clock */
  tells(service: string, life: number, server: string | undefined, told: Told, at: number): void {
    this.#life(service, life).tells(told, at)
    if (server === undefined) return
    this.#servers.set(service, [...this.#serversOf(service).filter((name) => name !== server), server])
  }

  acknowledged(service: string, life: number, numbers: readonly number[]): void {
    this.#life(service, life).acknowledged(numbers)
  }

  /** @param at milliseconds of a monotonic clock */
  received(by: string, life: number, number: number, at: number): void {
    this.#life(this.#source(by), life).received(number, at)
  }

  /** @param sequence of the message on the stream: the same one again is a redelivery, another one a duplicate */
  stored(by: string, life: number, number: number, sequence: number): void {
    const from = this.#source(by)
    const first = this.#life(from, life).stored(number, { sequence, rotation: this.#rotation })
    if (first === null) return
    const message = `message ${number} of ${from} (life ${life})`
    if (first.sequence !== sequence) {
      this.#now.jetstream.duplicated += 1
      this.#problems.push(`jetstream: ${message} is on the stream as ${first.sequence} and as ${sequence}`)
      return
    }
    this.#now.jetstream.redelivered += 1
    const allowed = Math.max(this.#redelivers.get('') ?? -1, this.#redelivers.get(by) ?? -1)
    if (allowed < first.rotation) {
      this.#problems.push(
        `jetstream: ${message} came to ${by} again, and nothing was hit since it came first`,
      )
    }
  }

  /** The service was killed. */
  over(service: string, life: number): void {
    this.#life(service, life).over = true
  }

  hit(hit: Hit): void {
    this.#hits.set(hit.name, hit)
    // whom JetStream may deliver to again: to a service alone, or to everybody on the cluster
    this.#redelivers.set(this.#isService(hit.name) ? hit.name : '', this.#rotation)
  }

  // ---- at the end of a rotation

  /** The rotation is over: what JetStream acknowledged until now belongs to it. */
  mark(): void {
    for (const lives of this.#lives.values()) for (const life of lives) life.mark()
  }

  /**
   * What is still to come, in words. `marks`: what each living service had told when the rotation was over. `explained`: with
   * core messages that may be lost, because a fault explains it.
   */
  outstanding(marks: ReadonlyMap<string, Told>, { explained }: { explained: boolean }): string[] {
    return this.flows.flatMap(({ from, to }) =>
      this.#livesOf(from).flatMap((life, i) => {
        const counts = explained || this.#blame(from, to).length === 0
        const missing = counts ? life.missing(this.#mark(from, life, marks)).length : 0
        const owed = life.owing().length
        return [
          ...(missing > 0 ? [`core ${from} (life ${i}) -> ${to}: ${missing}`] : []),
          ...(owed > 0 ? [`jetstream ${from} (life ${i}) -> ${to}: ${owed}`] : []),
        ]
      }),
    )
  }

  /** Closes the account of this rotation; the next one begins. */
  close(marks: ReadonlyMap<string, Told>): Closing {
    const counts = this.#now
    const explained: string[] = []
    const problems = this.#problems
    for (const flow of this.flows) this.#closeFlow(flow, marks, counts, explained, problems)
    this.#rotation += 1
    this.#now = zero()
    this.#problems = []
    this.#hits.clear()
    // where it is now; it may be hit before it tells again
    for (const [service, servers] of this.#servers) this.#servers.set(service, servers.slice(-1))
    return { counts, explained, problems }
  }

  #closeFlow(
    { from, to }: Flow,
    marks: ReadonlyMap<string, Told>,
    counts: Counts,
    explained: string[],
    problems: string[],
  ): void {
    const blame = this.#blame(from, to)
    // it asks the service whose messages it counts itself
    const asked = this.#source(from)
    const askedBlame = this.#blame(from, asked)
    const judge = (text: string, by: readonly string[]): void => {
      if (by.length > 0) explained.push(`${text} (${by.join(', ')})`)
      else problems.push(text)
    }
    for (const [i, life] of this.#livesOf(from).entries()) {
      const name = `${from}${i === 0 ? '' : ` (life ${i})`} -> ${to}`
      // before its times are forgotten
      const when = (number: number) => this.#when(life.publishedAt(number))
      const told = this.#mark(from, life, marks)
      const [first] = life.missing(told)
      const firstLost = first === undefined ? '' : `the first is ${first}${when(first)}`
      const { core, lost, acknowledged, owed, requests } = life.close(told)
      add(counts.core, { ...core, lost: lost.length })
      add(counts.requests, requests)
      add(counts.jetstream, { acknowledged, lost: owed.length })
      if (lost.length > 0) judge(`core ${name}: ${lost.length} lost, ${firstLost}`, blame)
      for (const what of ['duplicated', 'reordered'] as const) {
        if (core[what] > 0) judge(`core ${name}: ${core[what]} ${what}`, blame)
      }
      const { sent, failed } = requests
      if (failed > 0) judge(`requests of ${from} to ${asked}: ${failed} of ${sent} not answered`, askedBlame)
      if (owed.length > 0) problems.push(`jetstream ${name}: ${owed.length} lost, the first is ${owed[0]}`)
      if (!life.over && (core.published === 0 || acknowledged === 0 || sent === 0)) {
        problems.push(
          `${name}: said ${core.published} core messages, ${acknowledged} on JetStream, ${sent} requests in a whole rotation`,
        )
      }
    }
  }

  /** `untold`: arrived, of services that were killed before they could tell of them. Of a living one that is a problem. */
  atTheEnd(): { readonly untold: number; readonly problems: readonly string[] } {
    let untold = 0
    const problems: string[] = []
    for (const { from, to } of this.flows) {
      for (const [i, life] of this.#livesOf(from).entries()) {
        const beyond = life.beyond()
        if (life.over) untold += beyond
        else if (beyond > 0)
          problems.push(
            `core ${from} (life ${i}) -> ${to}: ${beyond} beyond the ${life.told.core} that it published`,
          )
      }
    }
    return { untold, problems }
  }

  /** Seen from the first thing that was hit: `, published 300 ms after it`. */
  #when(published: number | null): string {
    const hit = Math.min(...[...this.#hits.values()].map(({ at }) => at))
    if (published === null || !Number.isFinite(hit)) return ''
    return `, published ${Math.abs(Math.round(published - hit))} ms ${published < hit ? 'before' : 'after'} it`
  }

  #mark(service: string, life: Life, marks: ReadonlyMap<string, Told>): Told {
    return life.over ? life.told : (marks.get(service) ?? life.told)
  }

  /** Why a core message of this flow may be missing: either end, or the server of either end, was hit. */
  #blame(from: string, to: string): string[] {
    return [...this.#hits.values()].flatMap(({ name, what }) => {
      if (name === from || name === to) return [`${name} was ${what}`]
      const users = [from, to].filter((service) => this.#serversOf(service).includes(name))
      return users.length === 0 ? [] : [`${name}, the server of ${users.join(' and ')}, was ${what}`]
    })
  }

  #isService(name: string): boolean {
    return this.flows.some(({ from }) => from === name)
  }

  #source(by: string): string {
    const flow = this.flows.find(({ to }) => to === by)
    if (flow === undefined) throw new TypeError(`nobody publishes to ${by}`)
    return flow.from
  }

  #serversOf(service: string): readonly string[] {
    return this.#servers.get(service) ?? []
  }

  #livesOf(service: string): Life[] {
    const lives = this.#lives.get(service) ?? []
    this.#lives.set(service, lives)
    return lives
  }

  #life(service: string, number: number): Life {
    const lives = this.#livesOf(service)
    while (lives.length <= number) lives.push(new Life())
    const life = lives[number]
    if (life === undefined) throw new TypeError(`expected a life from 0 on, found ${number}`)
    return life
  }
}

function add<T extends Record<string, number>>(sum: T, more: Partial<T>): void {
  for (const key in more) sum[key] = ((sum[key] ?? 0) + (more[key] ?? 0)) as T[typeof key]
}
