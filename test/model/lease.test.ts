/**
 * The lease under everything that can happen to it: clocks that run fast or slow and are set anew, processes that are
 * paused between any two steps or start again, messages that are lost, late, or arrive when nobody waits for them any more.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LeaseCore, type LeaseWrite } from '../../issuer/lease/core.ts'
import type { Tick } from '../../src/time.ts'
import type { LeaseRecord } from '../../src/wire/lease.ts'

const RUNS = Number(process.env.ROTOR_MODEL_RUNS ?? 2_000)
const DURATION = 10_000
const PROCESSES = 3

type Action =
  | { readonly kind: 'time'; readonly ms: number }
  | {
      readonly kind: 'step' | 'arrive' | 'answer' | 'give up' | 'restart' | 'read state' | 'write state'
      readonly who: number
    }
  | { readonly kind: 'set clock'; readonly who: number; readonly ms: number }
  | { readonly kind: 'late'; readonly which: number }

const who = fc.nat(PROCESSES - 1)
const plain = (kind: Extract<Action, { who: number }>['kind']) =>
  fc.record({ kind: fc.constant(kind as 'step'), who })
const ACTION: fc.Arbitrary<Action> = fc.oneof(
  { weight: 20, arbitrary: plain('step') },
  { weight: 20, arbitrary: plain('arrive') },
  { weight: 20, arbitrary: plain('answer') },
  { weight: 3, arbitrary: plain('give up') },
  { weight: 1, arbitrary: plain('restart') },
  { weight: 10, arbitrary: plain('read state') },
  { weight: 10, arbitrary: plain('write state') },
  {
    weight: 12,
    arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 6_000 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('set clock' as const),
      who,
      ms: fc.integer({ min: -100_000, max: 100_000 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('late' as const), which: fc.nat(9) }) },
)
/** Of a monotonic clock against the real time. */
const RATES = fc.tuple(
  ...Array.from({ length: PROCESSES }, () => fc.double({ min: 0.9, max: 1.1, noNaN: true })),
)

/** A record as the server has it. */
interface Register<T> {
  value: T
  revision: number
}

type Request = { readonly kind: 'read' } | LeaseWrite
type Answer = () => void

interface Process {
  core: LeaseCore
  readonly rate: number
  wall: number
  /** On its way to the server. */
  request: Request | null
  /** On its way back. */
  answer: Answer | null
  /** What it read of the state, and the number it leads with. */
  state: { readonly fence: number; readonly revision: number; readonly seen: number } | null
}

class World {
  now = 1_000_000
  readonly lease: Register<LeaseRecord | null> = { value: null, revision: 0 }
  readonly state: Register<number> = { value: 0, revision: 1 }
  readonly processes: Process[]
  /** Writes that nobody waits for any more. */
  readonly late: LeaseWrite[] = []
  /** Which process was given which number. */
  readonly given = new Map<number, string>()
  #instances = 0

  constructor(rates: readonly number[]) {
    this.processes = rates.map((rate, i) => ({
      core: this.#core(i),
      rate,
      wall: i * 1_000_000,
      request: null,
      answer: null,
      state: null,
    }))
  }

  #core(i: number): LeaseCore {
    this.#instances += 1
    return new LeaseCore({ name: `issuer-${i}`, instance: String(this.#instances), duration: DURATION })
  }

  tick({ rate, wall }: Process): Tick {
    return { mono: this.now * rate, wall: this.now * rate + wall }
  }

  do(action: Action): void {
    if (action.kind === 'time') this.now += action.ms
    else if (action.kind === 'late') {
      const [write] = this.late.splice(action.which % Math.max(1, this.late.length), 1)
      if (write !== undefined) this.#write(write)
    } else this.#act(action)
    this.#check()
  }

  #act(action: Extract<Action, { who: number }>): void {
    const process = this.processes[action.who]
    assert.ok(process)
    switch (action.kind) {
      case 'step':
        this.#step(process)
        break
      case 'arrive':
        this.#arrive(process)
        break
      case 'answer': {
        const { answer } = process
        process.answer = null
        answer?.()
        break
      }
      case 'give up':
        if (process.request?.kind === 'write') this.late.push(process.request)
        if (process.request !== null || process.answer !== null) process.core.failed()
        process.request = null
        process.answer = null
        break
      case 'restart':
        if (process.request?.kind === 'write') this.late.push(process.request)
        Object.assign(process, { core: this.#core(action.who), request: null, answer: null, state: null })
        break
      case 'set clock':
        process.wall += action.ms
        break
      case 'read state':
        this.#readState(process)
        break
      case 'write state':
        this.#writeState(process)
        break
    }
  }

  #step(process: Process): void {
    if (process.request !== null || process.answer !== null) return
    const wish = process.core.wish(this.tick(process))
    if (wish.kind !== 'wait') process.request = wish
  }

  #arrive(process: Process): void {
    const { request, core } = process
    if (request === null) return
    process.request = null
    if (request.kind === 'read') {
      const { value, revision } = this.lease
      process.answer = () => core.read(value, revision, this.tick(process))
      return
    }
    const revision = this.#write(request)
    process.answer = () => (revision === null ? core.failed() : core.written(request, revision))
  }

  #write({ record, revision }: LeaseWrite): number | null {
    if (revision !== this.lease.revision) return null
    if (record.holder !== null) {
      const before = this.given.get(record.fence)
      assert.ok(before === undefined || before === record.instance, `fence ${record.fence} was given twice`)
      this.given.set(record.fence, record.instance)
    }
    this.lease.value = record
    this.lease.revision += 1
    return this.lease.revision
  }

  /** As a turn of the loop begins: who is outrun stops, who leads writes its number first of all. */
  #readState(process: Process): void {
    const fence = process.core.fence(this.tick(process))
    if (fence === null) return
    const { value, revision } = this.state
    if (value > fence) process.core.outrun(value)
    else process.state = { fence, revision, seen: value }
  }

  /** As it ends, however much later: nobody looks at the clock between the last look and the server. */
  #writeState(process: Process): void {
    const { state } = process
    process.state = null
    if (state === null || state.revision !== this.state.revision) return
    assert.ok(state.fence >= this.state.value, `fence ${state.fence} wrote after ${this.state.value}`)
    this.state.value = state.fence
    this.state.revision += 1
  }

  #check(): void {
    const leaders = this.processes.filter((process) => process.core.fence(this.tick(process)) !== null)
    assert.ok(leaders.length <= 1, 'two are certain to lead at the same time')
  }

  /** Nothing is lost any more and one process works: it leads. */
  heal(i: number): number | null {
    const process = this.processes[i]
    assert.ok(process)
    for (let end = this.now + 3 * DURATION; this.now < end; this.now += 100) {
      this.#act({ kind: 'answer', who: i })
      this.#step(process)
      this.#arrive(process)
      this.#act({ kind: 'answer', who: i })
      this.#check()
    }
    return process.core.fence(this.tick(process))
  }
}

test('a fencing number is given once, never two lead at a time, and no former leader writes after a later one', () => {
  fc.assert(
    fc.property(RATES, fc.array(ACTION, { maxLength: 300 }), (rates, actions) => {
      const world = new World(rates)
      for (const action of actions) world.do(action)
    }),
    { numRuns: RUNS },
  )
})

test('whatever went before, who is left alone and well leads soon', () => {
  fc.assert(
    fc.property(RATES, fc.array(ACTION, { maxLength: 100 }), who, (rates, actions, survivor) => {
      const world = new World(rates)
      for (const action of actions) world.do(action)
      assert.notEqual(world.heal(survivor), null)
    }),
    { numRuns: RUNS / 4 },
  )
})

test('the simulation gets somewhere: the lease changes hands, is renewed, and former leaders try to write', () => {
  let takeovers = 0
  let renewals = 0
  fc.assert(
    fc.property(RATES, fc.array(ACTION, { minLength: 200, maxLength: 300 }), (rates, actions) => {
      const world = new World(rates)
      for (const action of actions) world.do(action)
      takeovers += Math.max(0, world.given.size - 1)
      renewals += world.lease.revision - world.given.size
    }),
    { numRuns: 100, seed: 1 },
  )
  assert.ok(takeovers > 50 && renewals > 50, `${takeovers} takeovers, ${renewals} renewals`)
})
