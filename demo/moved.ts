/**
 * What a service tells the agent beside it: "what you wrote is in use here". A listener with mutual TLS that follows
 * the same files; a request to it is answered when every follower of the identity stands on what is on disk now.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { Identity } from '../src/identity/identity.ts'
import { readIdentity } from '../src/identity/read.ts'
import { type Duration, sleep } from '../src/time.ts'
import { secureServer } from '../src/tls/secure-server.ts'

/** Less than the agent waits, so that it hears the reason. */
const PATIENCE: Duration = 8_000
const LOOK_AGAIN: Duration = 10

/** Listens on `port` of 127.0.0.1: 204 when it stands on the files in `dir`, 500 with the reason when it does not. */
export async function answerWhenMoved(
  dir: string,
  identity: Identity,
  port: number,
): Promise<AsyncDisposable> {
  const server: Server = createServer({ requestCert: true, rejectUnauthorized: true }, (_, response) => {
    allMoved(dir, identity, AbortSignal.timeout(PATIENCE)).then(
      () => response.writeHead(204).end(),
      (cause) => response.writeHead(500).end(cause instanceof Error ? cause.message : String(cause)),
    )
  })
  const secured = secureServer(server, identity, { name: 'moved' })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    async [Symbol.asyncDispose]() {
      await secured.close()
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

async function allMoved(dir: string, identity: Identity, signal: AbortSignal): Promise<void> {
  const { generation } = await readIdentity(dir)
  while (identity.current().generation !== generation) await sleep(LOOK_AGAIN, signal)
  await Promise.all(identity.followers().map((follower) => follower.follow(identity.current(), signal)))
}
