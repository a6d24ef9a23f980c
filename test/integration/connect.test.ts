/** Our connections to real servers: the newest identity at each dial, and a clear reason when there is none. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../../src/errors.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { type ConnectWithOptions, connectWith, natsTls } from '../../src/nats/connect.ts'
import type { Certificate } from '../../src/trust/certificate.ts'
import { eventually } from '../support/eventually.ts'
import { makeTestDomain, type TestDomain, type TestLeaf } from '../support/test-domain.ts'
import { startTlsServer, type TlsServer } from '../support/tls-server.ts'

const MINUTE = 60_000

let domain: TestDomain
let active: Certificate
let former: Certificate
let server: TestLeaf
let client: TestLeaf

const snapshot = (leaf: TestLeaf, anchors: readonly Certificate[] = [active]): IdentitySnapshot => ({
  key: leaf.keyPem,
  certificate: leaf.chainPem,
  ca: anchors.map((anchor) => anchor.pem).join(''),
  leaf: leaf.certificate,
  generation: leaf.certificate.sha256,
  version: 1,
})
const held = (leaf: TestLeaf, anchors?: readonly Certificate[]) => new HeldIdentity(snapshot(leaf, anchors))

/** Dials and closes again; for the dials that must fail. */
async function dial(options: ConnectWithOptions): Promise<void> {
  const nc = await connectWith(options)
  await nc.close()
}

before(async () => {
  domain = await makeTestDomain()
  active = domain.authority().certificate
  former = domain.authority(domain.epoch - 1).certificate
  server = await domain.leaf({ name: 'server' })
  client = await domain.leaf({ name: 'client' })
})

describe('a connection with an identity', () => {
  let running: TlsServer
  let address: string
  before(async () => {
    running = await startTlsServer({ leaf: server, trusted: [active] })
    address = running.address('client')
  })
  after(async () => await running[Symbol.asyncDispose]())

  test('connects by IP address and by name', async () => {
    for (const where of [address, address.replace('127.0.0.1', 'localhost'), `tls://${address}`]) {
      const nc = await connectWith({ servers: [where], identity: held(client), name: 'test' })
      await nc.flush()
      assert.equal(nc.info?.server_name, 'tested')
      await nc.close()
    }
  })

  test('the three parts are read at each dial, and are of one generation', async () => {
    const other = await domain.leaf({ name: 'other' })
    const identity = held(client)
    const options = natsTls(identity, [address])
    assert.deepEqual(Object.keys(options).slice(0, 3), ['key', 'cert', 'ca'])
    const nc = await connect({ servers: address, tls: options })
    await nc.flush()
    identity.set(snapshot(other))
    assert.deepEqual(
      { key: options.key, cert: options.cert, ca: options.ca },
      { key: other.keyPem, cert: other.chainPem, ca: active.pem },
    )
    await nc.close()
  })

  test('after the servers forgot an authority, the connection comes back with the new identity', async () => {
    const identity = held(client)
    const nc = await connectWith({ servers: [address], identity, reconnectTimeWait: 50 })
    try {
      const next = await domain.addAuthority(domain.epoch + 1, {
        notBefore: domain.now - MINUTE,
      })
      const nextServer = await domain.leaf({ name: 'server', epoch: next.epoch })
      const nextClient = await domain.leaf({ name: 'client', epoch: next.epoch })
      await running.write(nextServer, [next.certificate])
      assert.ok(running.process.kill('SIGHUP'))
      await eventually(async () =>
        (await running.log()).some((line) => line.includes('Reloaded server configuration')),
      )
      const back = reconnected(nc)
      identity.set(snapshot(nextClient, [next.certificate]))
      await nc.reconnect()
      await back
      await nc.flush()
      await assert.rejects(dial({ servers: [address], identity: held(client, [next.certificate]) }), {
        code: 'ERR_NATS_DENIED',
      })
    } finally {
      await nc.close()
      await running.write(server, [active])
      assert.ok(running.process.kill('SIGHUP'))
      await eventually(async () => {
        const lines = await running.log()
        return lines.filter((line) => line.includes('Reloaded server configuration')).length === 2
      })
    }
  })

  test('a refused certificate is told at once, with the reason', async () => {
    const { now } = domain
    const bad = [
      { leaf: await domain.leaf({ name: 'former', epoch: domain.epoch - 1 }), reason: /unknown ca/ },
      {
        leaf: await domain.leaf({ name: 'old', notBefore: now - 4 * MINUTE, notAfter: now - MINUTE }),
        reason: /certificate expired/,
      },
    ]
    for (const { leaf, reason } of bad) {
      const started = performance.now()
      await assert.rejects(dial({ servers: [address], identity: held(leaf), timeout: 3000 }), (error) => {
        assert.match(String(error), reason)
        assert.match(String(error), new RegExp(`${address} refuses our certificate`))
        assert.equal(RotorError.is(error) && error.code, 'ERR_NATS_DENIED')
        return true
      })
      assert.ok(performance.now() - started < 2500, 'faster than the timeout of the dial')
    }
  })

  test('a server certificate that we do not trust: ERR_NATS_UNAVAILABLE with the reason', async () => {
    await assert.rejects(dial({ servers: [address], identity: held(client, [former]) }), {
      code: 'ERR_NATS_UNAVAILABLE',
      message: /shows a certificate that we do not trust \("CN=server": UNABLE_TO_/,
    })
  })

  test('one server of several is enough, and when all fail each is named', async () => {
    const gone = await closedPort()
    const nc = await connectWith({ servers: [gone, address], identity: held(client), noRandomize: true })
    await nc.close()
    await assert.rejects(dial({ servers: [gone, address], identity: held(client, [former]) }), (error) => {
      assert.match(String(error), new RegExp(`${gone}: ECONNREFUSED; ${address} shows a certificate`))
      return true
    })
  })

  test('an aborted signal ends the dial', async () => {
    const identity = held(client)
    const early = AbortSignal.abort()
    await assert.rejects(dial({ servers: [address], identity, signal: early }), { code: 'ERR_ABORTED' })
    const late = new AbortController()
    const nc = await connectWith({ servers: [address], identity, signal: late.signal })
    late.abort()
    await nc.flush()
    await nc.close()
  })

  test('wrong server names are refused before anything is dialled', async () => {
    const identity = held(client)
    for (const servers of [[], ['no port:'], ['']]) {
      await assert.rejects(dial({ servers, identity }), { code: 'ERR_CONFIG_INVALID' })
    }
  })
})

describe('names in the certificate of the server', () => {
  test('dialled by IP address, the address must be in it: "localhost" is not enough', async () => {
    const leaf = await domain.leaf({ name: 'server', dns: ['localhost'], ip: [] })
    await using running = await startTlsServer({ leaf, trusted: [active] })
    const address = running.address('client')
    await assert.rejects(dial({ servers: [address], identity: held(client) }), {
      code: 'ERR_NATS_UNAVAILABLE',
      message: /127\.0\.0\.1 is not in the cert's list/,
    })
    await dial({ servers: [address.replace('127.0.0.1', 'localhost')], identity: held(client) })
  })

  test('with only an IP address in it, dialling by that address works', async () => {
    const leaf = await domain.leaf({ name: 'server', dns: [], ip: ['127.0.0.1'] })
    await using running = await startTlsServer({ leaf, trusted: [active] })
    const address = running.address('client')
    await dial({ servers: [address], identity: held(client) })
    await dial({ servers: ['127.0.0.2:4222', address], identity: held(client), noRandomize: true })
    const byName = address.replace('127.0.0.1', 'localhost')
    await assert.rejects(dial({ servers: [byName], identity: held(client) }), {
      code: 'ERR_NATS_UNAVAILABLE',
    })
  })
})

describe('other servers', () => {
  test('handshake_first works, by IP address too', async () => {
    await using running = await startTlsServer({
      leaf: server,
      trusted: [active],
      tls: { client: 'handshake_first: true' },
    })
    const servers = [running.address('client')]
    await dial({ servers, identity: held(client), handshakeFirst: true })
    const former = await domain.leaf({ name: 'former', epoch: domain.epoch - 1 })
    const refused = dial({ servers, identity: held(former), handshakeFirst: true })
    await assert.rejects(refused, { code: 'ERR_NATS_DENIED', message: /unknown ca/ })
    await assert.rejects(dial({ servers, identity: held(client), timeout: 300 }), {
      code: 'ERR_NATS_UNAVAILABLE',
    })
  })

  test('a user that the server does not know: ERR_NATS_DENIED', async () => {
    const config = 'authorization { user: u, password: p }'
    await using running = await startTlsServer({ leaf: server, trusted: [active], config })
    const servers = [running.address('client')]
    await assert.rejects(dial({ servers, identity: held(client), user: 'u', pass: 'wrong' }), {
      code: 'ERR_NATS_DENIED',
      message: /Authorization Violation/,
    })
    await dial({ servers, identity: held(client), user: 'u', pass: 'p' })
  })

  test('nobody there: ERR_NATS_UNAVAILABLE', async () => {
    const servers = [await closedPort()]
    await assert.rejects(dial({ servers, identity: held(client) }), {
      code: 'ERR_NATS_UNAVAILABLE',
      message: /ECONNREFUSED/,
    })
  })

  test('a server that is silent or talks nonsense: ERR_NATS_UNAVAILABLE, and no socket is left', async (t) => {
    const sockets = new Set<Socket>()
    let words = ''
    const listener = createServer((socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      socket.on('error', () => {})
      socket.resume().write(words)
    })
    t.after(() => {
      listener.close()
      for (const socket of sockets) socket.destroy()
    })
    const servers = [await listening(listener)]
    for (const [said, reason] of [
      ['', /INFO: no answer within|timeout/],
      ['hello\r\n', /expected INFO, found "hello"/],
      ['INFO {"server_id":"N","version":"2.15.1"}\r\n', /offers no TLS/],
    ] as const) {
      words = said
      for (const handshakeFirst of said === '' ? [false, true] : [false]) {
        await assert.rejects(
          dial({ servers, identity: held(client), handshakeFirst, timeout: 600 }),
          (error) => {
            assert.equal(RotorError.is(error) && error.code, 'ERR_NATS_UNAVAILABLE')
            assert.match(String(error), handshakeFirst ? /no answer within|timeout/ : reason)
            return true
          },
        )
        await eventually(() => sockets.size === 0, { timeout: 3000 })
      }
    }
    const stop = new AbortController()
    const given = dial({ servers, identity: held(client), timeout: 60_000, signal: stop.signal })
    words = ''
    await eventually(() => sockets.size > 0)
    stop.abort()
    await assert.rejects(given, { code: 'ERR_ABORTED' })
    await eventually(() => sockets.size === 0, { timeout: 3000 })
  })
})

/** Resolves with the next reconnect. */
async function reconnected(nc: NatsConnection): Promise<void> {
  for await (const status of nc.status()) if (status.type === 'reconnect') return
}

async function listening(listener: Server): Promise<string> {
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  return `127.0.0.1:${(listener.address() as AddressInfo).port}`
}

async function closedPort(): Promise<string> {
  const listener = createServer()
  const address = await listening(listener)
  await new Promise((resolve) => listener.close(resolve))
  return address
}
