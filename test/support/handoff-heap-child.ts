/**
 * A process of its own for `handoff-heavy.test.ts`: a thousand handoffs of one connection with a trickle of traffic,
 * and what is left in memory, of handles and of listeners after some of them. Runs with --expose-gc.
 */
import { once } from 'node:events'
import { Ledger } from '../../bench/load/ledger.ts'
import { take } from '../../bench/load/moved.ts'
import { keepPace } from '../../bench/load/pace.ts'
import { encodePayload } from '../../bench/load/payload.ts'
import { connect } from '../../src/connection/connect.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { snapshotOf } from '../../src/identity/read.ts'

export interface HeapOptions {
  readonly address: string
  readonly name: string
  readonly generations: readonly Pick<IdentitySnapshot, 'key' | 'certificate' | 'ca'>[]
  /** Looks after so many handoffs; the last one is the end. */
  readonly lookAfter: readonly number[]
}

/** What is there at one moment. */
export interface Look {
  readonly handoffs: number
  readonly heapUsed: number
  /** Handles and timers of the process by kind. */
  readonly resources: Readonly<Record<string, number>>
  /** Listeners on the socket, on the process, and readers of the status of the connection. */
  readonly listeners: Readonly<Record<string, number>>
}

export type HeapMessage =
  | { readonly look: Look }
  | {
      readonly end: {
        readonly milliseconds: number
        readonly published: number
        readonly received: number
        readonly warnings: readonly string[]
      }
    }

const RATE = 50

async function run({ address, name, generations, lookAfter }: HeapOptions): Promise<void> {
  const warnings: string[] = []
  process.on('warning', ({ message }) => warnings.push(message))
  const all = generations.map((material, i) =>
    snapshotOf(material, { generation: `generation ${i}`, version: 0 }, undefined, {}, name),
  )
  const [first, second] = all
  if (first === undefined || second === undefined) throw new TypeError('expected two generations')
  const identity = new HeldIdentity(first)
  // what a wait leaves behind does not depend on how long it is
  const options = { servers: address, identity, name, handoff: { spread: 3_600_000, dwell: 5 } }
  const nc = await connect(options)
  const ledger = new Ledger(1)
  nc.subscribe('trickle', { callback: (_, { data }) => take(ledger, data) })
  const stop = new AbortController()
  let published = 0
  const pace = keepPace(
    [{ rate: RATE, work: () => nc.publish('trickle', encodePayload(0, published++)) }],
    stop.signal,
  )
  const [follower] = identity.followers()
  const signal = new AbortController().signal
  const began = performance.now()
  let handoffs = 0
  for (const until of lookAfter) {
    for (; handoffs < until; handoffs++) {
      const next = identity.current() === first ? second : first
      identity.set(next)
      await follower?.follow(next, signal)
    }
    await nc.flush()
    send({ look: { handoffs, ...lookAt(nc) } })
    await once(process, 'message')
  }
  const milliseconds = performance.now() - began
  stop.abort()
  await pace
  await nc.flush()
  send({ end: { milliseconds, published, received: ledger.total, warnings } })
  await nc.close()
  process.disconnect()
}

function lookAt(nc: object): Omit<Look, 'handoffs'> {
  const protocol = Reflect.get(nc, 'protocol')
  const { socket } = protocol.transport
  const resources: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) {
    // gone after this turn of the event loop
    if (kind !== 'Immediate') resources[kind] = (resources[kind] ?? 0) + 1
  }
  const listeners: Record<string, number> = { status: protocol.listeners.length }
  for (const [what, emitter] of [
    ['socket', socket],
    ['process', process],
  ])
    for (const event of emitter.eventNames())
      listeners[`${what} ${String(event)}`] = emitter.listenerCount(event)
  for (let i = 0; i < 4; i++) globalThis.gc?.()
  return { heapUsed: process.memoryUsage().heapUsed, resources, listeners }
}

const send = (message: HeapMessage): void => void process.send?.(message)

const [options] = (await once(process, 'message')) as [HeapOptions]
await run(options)
