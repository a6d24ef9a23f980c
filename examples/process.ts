/** What both sample services need around their work: an orderly end, patience, and a sign of life. */
import { writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** Aborts when the process is told to stop. */
export function untilStopped(): AbortSignal {
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => stop.abort())
  return stop.signal
}

/** The container is healthy while this file is new: see the healthchecks in docker-compose.yml. */
export const signOfLife = (): Promise<void> => writeFile('/tmp/alive', new Date().toISOString())

/** Tries until it works; gives up, with undefined, only when `signal` aborts. */
export async function keepTrying<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  while (!signal.aborted) {
    try {
      return await work()
    } catch {
      await pause(200, signal)
    }
  }
  return undefined
}

/** Returns after `ms`, or as soon as `signal` aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {})
}

/** Runs `work` over and over, `ms` apart, until `signal` aborts; resolves when the last run has ended. */
export async function every(ms: number, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await work()
    await pause(ms, signal)
  }
}

export const say = (event: object): void => console.log(JSON.stringify(event))
