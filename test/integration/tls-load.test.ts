/** 50 rotations under constant requests: none fails, and nothing is left on an older generation. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2, constants, createSecureServer } from 'node:http2'
import { Agent, createServer, get } from 'node:https'
import { before, describe, test } from 'node:test'
import type { Server } from 'node:tls'
import { Server as GrpcServer } from '@grpc/grpc-js'
import { request } from 'undici'
import type { Identity, IdentitySnapshot } from '../../src/identity/identity.ts'
import { clientTls } from '../../src/tls/contexts.ts'
import { dispatcher } from '../../src/tls/dispatcher.ts'
import { listenGrpc } from '../../src/tls/grpc.ts'
import { httpsAgent } from '../../src/tls/https-agent.ts'
import { type SecureServerOptions, secureServer } from '../../src/tls/secure-server.ts'
import { eventually } from '../support/eventually.ts'
import { addEcho, type EchoClient, echoClient } from '../support/grpc-echo.ts'
import { type Generations, held, listening, makeGenerations, portOf } from '../support/tls-generations.ts'

const ROTATIONS = 50
const AT_ONCE = 6
/** Answers between two rotations. */
const ANSWERS = 20
const ANSWER = 'x'.repeat(2000)

type Ask = () => Promise<unknown>

describe('50 rotations under constant requests', { timeout: 120_000 }, () => {
  let generations: Generations
  /** All trust both authorities, so that every order of servers and clients works. */
  let turns: IdentitySnapshot[]

  before(async () => {
    generations = await makeGenerations()
    const { older, newer, make } = generations
    turns = await Promise.all([older, newer, older, newer].map((epoch) => make(epoch, [older, newer])))
  })

  const turn = (index: number): IdentitySnapshot => {
    const found = turns[index % turns.length]
    assert.ok(found)
    return found
  }

  /** Asks without end while the identities rotate. Returns the failures. */
  async function underLoad(ask: Ask, rotate: (next: IdentitySnapshot) => unknown): Promise<string[]> {
    const failures: string[] = []
    let answers = 0
    let stopped = false
    const worker = async (): Promise<void> => {
      while (!stopped) {
        await ask().catch((error: Error) => failures.push(`${error.message} ${String(error.cause ?? '')}`))
        answers += 1
        await new Promise(setImmediate)
      }
    }
    const workers = Array.from({ length: AT_ONCE }, worker)
    try {
      for (let i = 1; i <= ROTATIONS; i++) {
        const until = answers + ANSWERS
        await eventually(() => answers >= until, { interval: 1 })
        await rotate(turn(i))
      }
    } finally {
      stopped = true
      await Promise.all(workers)
    }
    assert.ok(answers >= ROTATIONS * ANSWERS)
    return failures
  }

  const onlyNewest = (identity: Identity): boolean =>
    identity.usage().every(({ generation }) => generation === identity.current().generation)

  async function httpsStory(
    options: SecureServerOptions,
    client: (identity: Identity, port: () => number) => { ask: Ask; close: () => unknown },
    server: Server = createServer({ requestCert: true }, (_, response) => response.end(ANSWER)),
  ): Promise<void> {
    const [ofServer, ofClient] = [held(turn(0)), held(turn(0))]
    const following = secureServer(server, ofServer, options)
    await listening(server)
    const { ask, close } = client(ofClient, () => portOf(server))
    const signal = new AbortController().signal
    const failures = await underLoad(ask, async (next) => {
      // the server first in one turn, the client first in the next
      const order = next.version % 2 === 0 ? [ofServer, ofClient] : [ofClient, ofServer]
      for (const identity of order) identity.set(next)
      assert.match(await following.follow(next, signal), /served to a new connection/)
    })
    assert.deepEqual(failures, [])
    if (options.closeIdle !== undefined) await eventually(() => onlyNewest(ofServer))
    await eventually(() => onlyNewest(ofClient))
    await close()
    await eventually(() => ofServer.usage().length === 0)
    await following.close()
    server.close()
    assert.deepEqual([...ofServer.followers(), ...ofClient.followers()], [])
  }

  const getBy =
    (agent: Agent, port: () => number): Ask =>
    async () => {
      const sent = get({ host: 'localhost', port: port(), agent })
      const [response] = await once(sent, 'response')
      let bytes = 0
      for await (const part of response) bytes += part.length
      assert.equal(bytes, ANSWER.length)
    }

  test('https: a server that closes idle connections, and a plain agent', () =>
    httpsStory({ closeIdle: 1000 }, (identity, port) => {
      const agent = new Agent({ keepAlive: true, ...clientTls(identity.current()) })
      return { ask: getBy(agent, port), close: () => agent.destroy() }
    }))

  test('https: server and agent follow', () =>
    httpsStory({}, (identity, port) => {
      const agent = httpsAgent(identity)
      return { ask: getBy(agent, port), close: () => agent.close() }
    }))

  test('https: server and dispatcher follow', () =>
    httpsStory({ closeIdle: 1000 }, (identity, port) => {
      const using = dispatcher(identity, { agent: { allowH2: false } })
      const ask: Ask = async () => {
        const { body } = await request(`https://localhost:${port()}`, { dispatcher: using })
        assert.equal(await body.text(), ANSWER)
      }
      return { ask, close: () => using.close() }
    }))

  test('http2: sessions of older generations go, with their streams finished', () => {
    const server = createSecureServer({ requestCert: true }, (_, response) => response.end(ANSWER))
    return httpsStory({ closeIdle: 0 }, http2Client, server)
  })

  test('http2: server and dispatcher follow', () => {
    const server = createSecureServer({ requestCert: true }, (_, response) => response.end(ANSWER))
    return httpsStory(
      { closeIdle: 0 },
      (identity, port) => {
        const using = dispatcher(identity, { agent: { allowH2: true } })
        const ask: Ask = async () => {
          const { body } = await request(`https://localhost:${port()}`, { dispatcher: using })
          assert.equal(await body.text(), ANSWER)
        }
        return { ask, close: () => using.close() }
      },
      server,
    )
  })

  /** Dials again when its session ends, and sends again what the server says it has not looked at (RFC 9113 8.7). */
  function http2Client(identity: Identity, port: () => number): { ask: Ask; close: () => void } {
    let session: ClientHttp2Session | null = null
    const open = (): ClientHttp2Session => {
      if (session !== null && !session.closed && !session.destroyed) return session
      session = connectHttp2(`https://localhost:${port()}`, clientTls(identity.current()))
      session.on('error', () => {})
      return session
    }
    const ask = async (): Promise<void> => {
      const stream = open().request({ ':path': '/' })
      let bytes = 0
      try {
        for await (const part of stream) bytes += part.length
      } catch (cause) {
        if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM && bytes === 0) return await ask()
        throw cause
      }
      assert.equal(bytes, ANSWER.length)
    }
    return { ask, close: () => session?.close() }
  }

  for (const closeIdle of [undefined, 0]) {
    test(`grpc: calls and a stream, ${closeIdle === undefined ? 'connections stay' : 'older ones are drained'}`, async () => {
      const server = new GrpcServer()
      const echo = addEcho(server)
      const identity = held(turn(0))
      const listener = await listenGrpc(server, identity, { host: '127.0.0.1', closeIdle })
      const root = generations.domain.root.certificate.pem
      const dial = (): EchoClient => echoClient(listener.port, identity.current(), root)
      const steady = dial()
      const watched = dial()
      const stream = watched.watch('first')
      await once(stream, 'data')
      const signal = new AbortController().signal
      const failures = await underLoad(
        async () => assert.equal(await steady.echo('hello'), 'hello agent'),
        async (next) => {
          identity.set(next)
          await listener.follow(next, signal)
          const another = dial()
          assert.equal(await another.echo('hello'), 'hello agent')
          another.close()
        },
      )
      assert.deepEqual(failures, [])
      const last = once(stream, 'data')
      echo.finish()
      assert.deepEqual(await last, ['last'])
      await once(stream, 'end')
      if (closeIdle !== undefined) await eventually(() => onlyNewest(identity))
      for (const client of [steady, watched]) client.close()
      await listener.close()
      await eventually(() => listener.usage().length === 0)
      await new Promise((resolve) => server.tryShutdown(resolve))
    })
  }
})
