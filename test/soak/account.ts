/**
 * Has every message arrived, once, and if not, who may be blamed? Pure bookkeeping: what services tell goes in, and what
 * faults hit; at the end of each rotation the account is closed, and what nobody may be blamed for is a problem.
 *
 * A flow is from one service to the one that counts its messages. A service that is killed and started again begins a new
 * life, and numbers its messages from 0 again. What it published and did not live to tell is counted as `untold`.
 */
import { Ledger, readLedgers } from '../../bench/load/ledger.ts'

export interface Flow {
  readonly from: string
  readonly to: string
}

/** What one life of a service has told so far; every number only grows. */
export interface Told {
  /** Core messages published: 0 to `core - 1`. */
  readonly core: number
  readonly requests: { readonly sent: number; readonly failed: number }
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

interface Stored {
  /** Sequence on the stream. */
  readonly sequence: number
  readonly rotation: number
}

class Life {
  readonly core = new Ledger(1)
  readonly stored = new Map<number, Stored>()
  /** JetStream messages that were acknowledged to the publisher and did not arrive yet. */
  readonly owed = new Set<number>()
  /** Those of them that have to arrive before the account is closed. */
  due: readonly number[] = []
  acknowledged = 0
  told: Told = { core: 0, requests: { sent: 0, failed: 0 } }
  /** When it told so, since the last closing: then all of these had been published. */
  tellings: { readonly core: number; readonly at: number }[] = []
  over = false
  closed = { core: 0, lost: 0, duplicated: 0, reordered: 0, acknowledged: 0, sent: 0, failed: 0 }
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
  /** Servers each service was connected to since the last closing. */
  readonly #servers = new Map<string, Set<string>>()
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
  tells(service: string, number: number, server: string | undefined, told: Told, at: number): void {
    const life = this.#life(service, number)
    life.told = told
    life.tellings.push({ core: told.core, at })
    if (server !== undefined) this.#serversOf(service).add(server)
  }

  acknowledged(service: string, life: number, numbers: readonly number[]): void {
    const { stored, owed } = this.#life(service, life)
    for (const number of numbers) if (!stored.has(number)) owed.add(number)
    this.#life(service, life).acknowledged += numbers.length
  }

  /** @param at milliseconds of a monotonic clock */
  received(by: string, life: number, number: number, at: number): void {
    this.#life(this.#source(by), life).core.take(0, number, at)
  }

  /** @param sequence of the message on the stream: the same one again is a redelivery, another one a duplicate */
  stored(by: string, life: number, number: number, sequence: number): void {
    const { stored, owed } = this.#life(this.#source(by), life)
    owed.delete(number)
    const first = stored.get(number)
    if (first === undefined) {
      stored.set(number, { sequence, rotation: this.#rotation })
      return
    }
    const message = `message ${number} of ${this.#source(by)} (life ${life})`
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

  /** The service was killed: what it told last is all that it will ever tell. */
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
    for (const lives of this.#lives.values()) for (const life of lives) life.due = [...life.owed]
  }

  /**
   * What is still to come, in words. `marks`: what each living service had told when the rotation was over. `explained`: with
   * core messages that may be lost, because a fault explains it.
   */
  outstanding(marks: ReadonlyMap<string, Told>, { explained }: { explained: boolean }): string[] {
    return this.flows.flatMap(({ from, to }) =>
      this.#livesOf(from).flatMap((life, i) => {
        const { lost } = this.#read(life, this.#mark(from, life, marks))
        const missing = explained || this.#blame(from, to).length === 0 ? lost - life.closed.lost : 0
        const owed = owing(life).length
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
    this.#servers.clear()
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
      const told = this.#mark(from, life, marks)
      const name = `${from}${i === 0 ? '' : ` (life ${i})`} -> ${to}`
      const now = this.#read(life, told)
      const { closed } = life
      const core = {
        published: told.core - closed.core,
        // one that arrives after its rotation was closed takes back no verdict
        lost: Math.max(0, now.lost - closed.lost),
        duplicated: now.duplicated - closed.duplicated,
        reordered: now.reordered - closed.reordered,
      }
      const acknowledged = life.acknowledged - closed.acknowledged
      const requests = {
        sent: told.requests.sent - closed.sent,
        failed: told.requests.failed - closed.failed,
      }
      for (const key of ['published', 'lost', 'duplicated', 'reordered'] as const)
        counts.core[key] += core[key]
      for (const key of ['sent', 'failed'] as const) counts.requests[key] += requests[key]
      counts.jetstream.acknowledged += acknowledged
      const owed = owing(life)
      counts.jetstream.lost += owed.length
      if (core.lost > 0) judge(`core ${name}: ${core.lost} lost, ${this.#lostWhen(life, told)}`, blame)
      for (const what of ['duplicated', 'reordered'] as const) {
        if (core[what] > 0) judge(`core ${name}: ${core[what]} ${what}`, blame)
      }
      if (requests.failed > 0) {
        judge(
          `requests of ${from} to ${asked}: ${requests.failed} of ${requests.sent} not answered`,
          askedBlame,
        )
      }
      if (owed.length > 0) problems.push(`jetstream ${name}: ${owed.length} lost, the first is ${owed[0]}`)
      if (!life.over && (core.published === 0 || acknowledged === 0 || requests.sent === 0)) {
        problems.push(
          `${name}: said ${core.published} core messages, ${acknowledged} on JetStream, ${requests.sent} requests in a whole rotation`,
        )
      }
      // told once
      for (const number of owed) life.owed.delete(number)
      life.tellings = []
      life.closed = {
        core: told.core,
        lost: now.lost,
        duplicated: now.duplicated,
        reordered: now.reordered,
        acknowledged: life.acknowledged,
        ...requestsOf(told),
      }
    }
  }

  /** `untold`: arrived, of services that were killed before they could tell of them. Of a living one that is a problem. */
  atTheEnd(): { readonly untold: number; readonly problems: readonly string[] } {
    let untold = 0
    const problems: string[] = []
    for (const { from, to } of this.flows) {
      for (const [i, life] of this.#livesOf(from).entries()) {
        const { corrupt } = this.#read(life, life.told)
        const beyond = life.over ? corrupt : 0
        untold += beyond
        if (corrupt > beyond)
          problems.push(
            `core ${from} (life ${i}) -> ${to}: ${corrupt} beyond the ${life.told.core} that it published`,
          )
      }
    }
    return { untold, problems }
  }

  /** `the first is 17, published 300 ms after it`: of the numbers since the last closing, and of the first thing that was hit. */
  #lostWhen(life: Life, told: Told): string {
    const [seen = new Uint8Array()] = life.core.notes().seen
    let first = life.closed.core
    while (first < told.core && (seen[first] ?? 0) > 0) first += 1
    const published = life.tellings.find(({ core }) => core > first)
    const hit = Math.min(...[...this.#hits.values()].map(({ at }) => at))
    const when =
      published === undefined || !Number.isFinite(hit)
        ? ''
        : `, published ${Math.abs(Math.round(published.at - hit))} ms ${published.at < hit ? 'before' : 'after'} it`
    return `the first is ${first}${when}`
  }

  #read(life: Life, told: Told) {
    return readLedgers([life.core.notes()], [told.core])
  }

  #mark(service: string, life: Life, marks: ReadonlyMap<string, Told>): Told {
    return life.over ? life.told : (marks.get(service) ?? life.told)
  }

  /** Why a core message of this flow may be missing: either end, or the server of either end, was hit. */
  #blame(from: string, to: string): string[] {
    return [...this.#hits.values()].flatMap(({ name, what }) => {
      if (name === from || name === to) return [`${name} was ${what}`]
      const users = [from, to].filter((service) => this.#serversOf(service).has(name))
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

  #serversOf(service: string): Set<string> {
    const servers = this.#servers.get(service) ?? new Set()
    this.#servers.set(service, servers)
    return servers
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

const owing = ({ due, owed }: Life): number[] => due.filter((number) => owed.has(number))

const requestsOf = ({ requests }: Told) => ({ sent: requests.sent, failed: requests.failed })
