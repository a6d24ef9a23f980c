/** At which step is a handoff? Told by the commands that pass an open proxy; see STATES.md beside the handoff. */
import assert from 'node:assert/strict'
import type { Link, ServerProxy } from './proxy.ts'

interface Moment {
  readonly on: 'first' | 'second'
  /** What passes now, and all that was said since the handoff began. */
  readonly now: readonly string[]
  readonly first: readonly string[]
  readonly second: readonly string[]
}

const has = (commands: readonly string[], word: string): boolean =>
  commands.some((command) => command.startsWith(word))
const isPing = (commands: readonly string[]): boolean => commands.every((command) => command === 'PING')
/** With a group: `SUB subject group sid`. */
const joinsGroup = (commands: readonly string[]): boolean =>
  commands.some((command) => command.startsWith('SUB') && command.split(' ').length === 4)

/** In their order, for a service with plain and queue subscriptions that subscribes to nothing meanwhile. */
const STEPS = {
  'the second says who it is': ({ on, now }) => on === 'second' && has(now, 'CONNECT'),
  'the second subscribes': ({ on, now }) => on === 'second' && has(now, 'SUB') && !joinsGroup(now),
  'the first is asked what it delivered': ({ on, now, second }) =>
    on === 'first' && isPing(now) && has(second, 'SUB'),
  'the second is asked what it got': ({ on, now, first, second }) =>
    on === 'second' && isPing(now) && has(first, 'PING') && !joinsGroup(second),
  'the second joins the queue groups': ({ on, now }) => on === 'second' && joinsGroup(now),
  'the first unsubscribes': ({ on, now }) => on === 'first' && has(now, 'UNSUB'),
  'the first is asked for its last message': ({ on, now, first }) =>
    on === 'first' && isPing(now) && has(first, 'UNSUB'),
  'the second is asked for its last message': ({ on, now, first }) =>
    on === 'second' && isPing(now) && has(first, 'UNSUB'),
} as const satisfies Record<string, (moment: Moment) => boolean>

export type Step = keyof typeof STEPS

/** The first connection has all subscriptions. */
export const OVERLAP: readonly Step[] = [
  'the second says who it is',
  'the second subscribes',
  'the first is asked what it delivered',
  'the second is asked what it got',
  'the second joins the queue groups',
]
/** The first connection is losing, or has lost, its subscriptions. */
export const CUT: readonly Step[] = [
  'the first unsubscribes',
  'the first is asked for its last message',
  'the second is asked for its last message',
]

export interface AtStep {
  /** Did a handoff come to it? */
  readonly came: boolean
  /** Resolves when it does, after `act`; rejects when the handoff ends before. */
  reached(handoff?: Promise<unknown>): Promise<void>
}

/**
 * Calls `act` once, before what makes the step passes `proxy`. `asked` is the one of the two that it passes on. Only
 * one connection of the service may be open.
 */
export function at(
  proxy: ServerProxy,
  step: Step,
  act: (first: Link, second: Link, asked: Link) => void,
): AtStep {
  proxy.calm()
  const [first, ...more] = proxy.open
  assert.ok(first !== undefined && more.length === 0, 'expected one connection')
  const { promise, resolve } = Promise.withResolvers<void>()
  let came = false
  proxy.onCommands = (link, now) => {
    const second = proxy.links.at(-1)
    if (came || second === undefined || second === first) return
    const on = link === first ? 'first' : 'second'
    if (!STEPS[step]({ on, now, first: first.said, second: second.said })) return
    came = true
    act(first, second, link)
    resolve()
  }
  return {
    get came() {
      return came
    },
    async reached(handoff) {
      if (handoff === undefined) return await promise
      const ended = handoff.then(async (outcome) => {
        // both may have come to pass in the same turn
        await new Promise(setImmediate)
        throw new Error(`expected "${step}" before the end`, { cause: outcome })
      })
      await Promise.race([promise, ended])
    },
  }
}
