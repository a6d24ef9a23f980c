/**
 * How fast is this connection? Four measures, each short, so that rounds of several connections can follow one
 * another. All count the time of the whole process and the processor time of this thread alone: the latter hardly
 * depends on what else the machine does.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { NatsConnection } from '@nats-io/transport-node'
import { percentile } from '../demo/progress.ts'
import { PAYLOAD_BYTES } from './load/payload.ts'

export const ECHO = 'load.steady.echo'
const NOWHERE = 'load.steady.nowhere'
const FAN = 'load.steady.fan'

/** What the far end is told to publish. */
export interface Order {
  readonly subject: string
  readonly count: number
}

/** Microseconds; of a throughput, those of one message. Less is better. */
export const MEASURES = [
  'publish',
  'publishCpu',
  'subscribe',
  'subscribeCpu',
  'request',
  'requestCpu',
  'latencyP50',
  'latencyP99',
] as const
export type MeasureName = (typeof MEASURES)[number]
export type Measured = Readonly<Record<MeasureName, number>>

/** Messages published without letting others run. */
export const CHUNK = 500
const PUBLISHED = 10_000
/** The server multiplies what is published, so that receiving is what takes the time. */
const SUBSCRIPTIONS = 10
const FANNED = 2_000
const REQUESTS = 1_000
/** Requests under way at a time. */
const PIPELINE = 64
const SEQUENTIAL = 200

const BODY = new Uint8Array(PAYLOAD_BYTES)

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

export type Publish = (order: Order) => Promise<unknown>

type Part = (nc: NatsConnection, publish: Publish) => Promise<Partial<Measured>>

/** One after the other, each with all connections, before the next: what is compared is close together in time. */
export const MEASURING: readonly Part[] = [
  async (nc) => {
    const { wall, cpu } = await timed(PUBLISHED, () => publishMany(nc))
    return { publish: wall, publishCpu: cpu }
  },
  async (nc, publish) => {
    const { wall, cpu } = await timed(FANNED * SUBSCRIPTIONS, () => receiveMany(nc, publish))
    return { subscribe: wall, subscribeCpu: cpu }
  },
  async (nc) => {
    const { wall, cpu } = await timed(REQUESTS, () => askMany(nc))
    return { request: wall, requestCpu: cpu }
  },
  async (nc) => {
    const latencies = await askOneByOne(nc)
    return { latencyP50: percentile(latencies, 50) ?? 0, latencyP99: percentile(latencies, 99) ?? 0 }
  },
]

async function publishMany(nc: NatsConnection): Promise<void> {
  for (let i = 1; i <= PUBLISHED; i++) {
    nc.publish(NOWHERE, BODY)
    if (i % CHUNK === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await nc.flush()
}

async function receiveMany(nc: NatsConnection, publish: Publish): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  let left = FANNED * SUBSCRIPTIONS
  const subscriptions = Array.from({ length: SUBSCRIPTIONS }, () =>
    nc.subscribe(FAN, {
      callback: () => {
        left -= 1
        if (left === 0) resolve()
      },
    }),
  )
  await nc.flush()
  await publish({ subject: FAN, count: FANNED })
  await promise
  for (const subscription of subscriptions) subscription.unsubscribe()
}

async function askMany(nc: NatsConnection): Promise<void> {
  let left = REQUESTS
  const lane = async () => {
    while (left-- > 0) await nc.request(ECHO, BODY, { timeout: 10_000 })
  }
  await Promise.all(Array.from({ length: PIPELINE }, lane))
}

async function askOneByOne(nc: NatsConnection): Promise<number[]> {
  const latencies: number[] = []
  for (let i = 0; i < SEQUENTIAL; i++) {
    const began = performance.now()
    await nc.request(ECHO, BODY, { timeout: 10_000 })
    latencies.push((performance.now() - began) * 1000)
  }
  return latencies
}

/** Microseconds of each of `count` messages. */
async function timed(
  count: number,
  work: () => Promise<void>,
): Promise<{ readonly wall: number; readonly cpu: number }> {
  // what the one before left is not collected at the cost of this one
  collectGarbage()
  const before = process.threadCpuUsage()
  const began = performance.now()
  await work()
  const wall = ((performance.now() - began) * 1000) / count
  const used = process.threadCpuUsage(before)
  return { wall, cpu: (used.user + used.system) / count }
}
