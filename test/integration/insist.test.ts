/** Requests of agents to an issuer, on a real server: what gets lost is asked again, and nobody waits for nobody. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { connect, errors, type NatsConnection } from '@nats-io/transport-node'
import { insist } from '../../agent/insist.ts'
import { type NatsServerProcess, startNatsServer } from '../../src/local/nats-server.ts'
import { systemClock } from '../../src/time.ts'

let dir: string
let server: NatsServerProcess
let nc: NatsConnection
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rotor-insist-'))
  server = await startNatsServer({ name: 'insist', cwd: dir, args: ['-a', '127.0.0.1', '-p', '-1'] })
  nc = await connect({ servers: server.addresses.client ?? '' })
})
after(async () => {
  await nc.close()
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

/** Who hears everything, and answers from the request with this number on. */
async function listener(subject: string, from: number): Promise<string[]> {
  const heard: string[] = []
  nc.subscribe(subject, {
    callback: (_, message) => {
      heard.push(message.string())
      if (heard.length >= from) message.respond(String(heard.length))
    },
  })
  await nc.flush()
  return heard
}

test('what is answered is asked once', async () => {
  const heard = await listener('answered', 1)
  assert.equal((await insist(() => nc, 'answered', 'turn', 20_000, systemClock)).string(), '1')
  assert.deepEqual(heard, ['turn'])
})

test('a request that got lost is made again, on the connection that is in use then', async () => {
  const heard = await listener('lost', 2)
  const other = await connect({ servers: server.addresses.client ?? '' })
  try {
    const connections = [nc, other]
    const used: NatsConnection[] = []
    const connection = () => {
      used.push(connections.shift() ?? assert.fail('asked more than twice'))
      return used.at(-1) ?? assert.fail()
    }
    assert.equal((await insist(connection, 'lost', 'turn', 20_000, systemClock)).string(), '2')
    assert.deepEqual(
      [heard, used],
      [
        ['turn', 'turn'],
        [nc, other],
      ],
    )
  } finally {
    await other.close()
  }
})

test('without anybody who listens it fails at once, without an answer in its time', async () => {
  await assert.rejects(
    insist(() => nc, 'nobody', '', 60_000, systemClock),
    (cause: Error) =>
      cause.cause instanceof errors.NoRespondersError || cause instanceof errors.NoRespondersError,
  )
  const heard = await listener('silent', Number.POSITIVE_INFINITY)
  await assert.rejects(
    insist(() => nc, 'silent', '', 2_000, systemClock),
    errors.TimeoutError,
  )
  assert.equal(heard.length, 2)
})
