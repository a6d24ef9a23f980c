/**
 * A request to the issuer. It is asked again while no answer comes: a request is lost with the server that it was on its
 * way to, or with the connection that the issuer has just left. What is asked here may be answered twice without
 * harm; a leaf, which costs the issuer something, is asked for once.
 */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { type Clock, type Duration, sleep } from '../src/time.ts'

/** Without an answer for so long a request is made again. */
const SILENCE: Duration = 1_500

/** The first answer. Throws when there is nobody to answer, or nobody did in `timeout` milliseconds. */
export async function insist(
  connection: () => NatsConnection,
  subject: string,
  data: Uint8Array | string,
  timeout: Duration,
  clock: Clock,
): Promise<Msg> {
  const begun = clock.now()
  const { promise, resolve, reject } = Promise.withResolvers<Msg>()
  const over = new AbortController()
  const once = async (): Promise<void> => {
    const left = timeout - (clock.now() - begun)
    resolve(await connection().request(subject, data, { timeout: Math.max(1, left) }))
  }
  const askAgain = async (): Promise<void> => {
    for (;;) {
      once().catch(reject)
      await sleep(SILENCE, over.signal, clock)
    }
  }
  const asking = askAgain().catch(() => {})
  try {
    return await promise
  } finally {
    over.abort()
    await asking
  }
}
