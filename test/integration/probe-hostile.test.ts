/** Probes of listeners that misbehave: an error that says what happened, in time, and no socket left open. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import { TLSSocket } from 'node:tls'
import fc from 'fast-check'
import { RotorError } from '../../src/errors.ts'
import { type ProbeMaterial, type ProbeOptions, probeListener } from '../../src/probe/probe.ts'
import type { ListenerKind } from '../../src/rotation/state.ts'
import { eventually } from '../support/eventually.ts'
import { makeTestDomain, type TestLeaf } from '../support/test-domain.ts'

const INFO = `INFO ${JSON.stringify({ server_id: 'NTEST', version: '2.15.1', tls_required: true })}\r\n`

let leaf: TestLeaf
let material: ProbeMaterial
let listener: Server
let address: string
const open = new Set<Socket>()
const secured = new WeakSet<Socket>()
let behaviour: (socket: Socket) => unknown = () => {}

before(async () => {
  const domain = await makeTestDomain()
  leaf = await domain.leaf({ name: 'server' })
  const client = await domain.leaf({ name: 'client' })
  material = { ca: domain.authority().certificate.pem, key: client.keyPem, certificate: client.chainPem }
  listener = createServer((socket) => {
    open.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => open.delete(socket))
    behaviour(socket)
    // One that does not read never learns of the end.
    if (!secured.has(socket)) socket.resume()
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  address = `127.0.0.1:${(listener.address() as AddressInfo).port}`
})

after(() => listener.close())

afterEach(async () => {
  await eventually(() => open.size === 0, { timeout: 2000 })
  await eventually(() => !process.getActiveResourcesInfo().includes('TCPSocketWrap'), { timeout: 2000 })
})

const probe = (kind: ListenerKind = 'client', options: ProbeOptions = {}) =>
  probeListener({ kind, address }, { material, timeout: 1500, ...options })

/** The server side of TLS on this socket; asks for a client certificate and takes any. */
function serveTls(socket: Socket): TLSSocket {
  const tls = new TLSSocket(socket, {
    isServer: true,
    key: leaf.keyPem,
    cert: leaf.chainPem,
    requestCert: true,
    rejectUnauthorized: false,
  })
  secured.add(socket)
  tls.on('error', () => {})
  tls.on('close', () => socket.destroy())
  tls.resume()
  return tls
}

describe('before TLS', () => {
  const CASES: readonly (readonly [string, ListenerKind, (socket: Socket) => void, RegExp])[] = [
    ['garbage', 'client', (s) => s.write('220 mail.example ESMTP\r\n'), /expected INFO, found "220 mail/],
    ['bytes', 'client', (s) => s.write(Buffer.from([0, 1, 2, 255, 13, 10])), /found .*\\x00|u0000/],
    ['an INFO that is not JSON', 'client', (s) => s.write('INFO {nope\r\n'), /expected JSON in INFO/],
    [
      'an INFO of something else',
      'client',
      (s) => s.write('INFO {"server_id":7}\r\n'),
      /not that of a nats-server/,
    ],
    [
      'a server without TLS',
      'client',
      (s) => s.write('INFO {"server_id":"N","version":"2"}\r\n'),
      /offers no TLS/,
    ],
    [
      'an error instead of INFO',
      'client',
      (s) => s.end("-ERR 'maximum connections exceeded'\r\n"),
      /expected INFO, found "-ERR 'maximum/,
    ],
    ['the end', 'client', (s) => s.end(), /expected INFO, found: the connection was closed/],
    ['the end in the middle of INFO', 'client', (s) => s.end('INFO {"ser'), /expected INFO, found: the conn/],
    ['more bytes after INFO', 'client', (s) => s.write(`${INFO}PING\r\n`), /expected silence before TLS/],
    ['the end after INFO', 'client', (s) => s.end(INFO), /no TLS handshake/],
    [
      'garbage instead of TLS',
      'client',
      (s) => s.write(INFO, () => s.once('data', () => s.write('what?\r\n'.repeat(20)))),
      /no TLS handshake: the answer is not TLS/,
    ],
    ['plain text instead of TLS', 'cluster', (s) => s.write(INFO), /no TLS handshake: the answer is not TLS/],
    ['the end instead of TLS', 'mqtt', (s) => s.once('data', () => s.end()), /no TLS handshake/],
    ['a reset instead of TLS', 'mqtt', (s) => s.once('data', () => s.resetAndDestroy()), /no TLS handshake/],
  ]
  for (const [what, kind, behave, message] of CASES) {
    test(`${what}: ERR_PROBE_PROTOCOL that says what was found`, async () => {
      behaviour = behave
      await assert.rejects(probe(kind), (error) => {
        assert.ok(RotorError.is(error), String(error))
        assert.equal(error.code, 'ERR_PROBE_PROTOCOL')
        assert.match(error.message, message)
        assert.match(error.message, new RegExp(`^${kind} listener ${address}: `))
        return true
      })
    })
  }

  test('an endless INFO line is not read for ever', async () => {
    behaviour = (socket) => {
      const flood = () => {
        while (socket.writable && socket.write(Buffer.alloc(16_384, 'x')));
      }
      socket.write('INFO {"server_id":"')
      socket.on('drain', flood)
      flood()
    }
    await assert.rejects(probe(), { code: 'ERR_PROBE_PROTOCOL', message: /expected at most 65536 bytes/ })
  })

  test('silence at each step: the message names the step', async () => {
    const CASES: readonly (readonly [ListenerKind, (socket: Socket) => void, RegExp])[] = [
      ['client', () => {}, /INFO: no answer within 1000 ms/],
      ['client', (s) => s.write('INFO {"half'), /INFO: no answer within 1000 ms, only "INFO /],
      ['client', (s) => s.write(INFO), /TLS handshake: no answer within 1000 ms/],
      ['cluster', () => {}, /TLS handshake: no answer within 1000 ms/],
      ['cluster', (s) => serveTls(s), /INFO: no answer within 1000 ms/],
      ['client', (s) => s.write(INFO, () => serveTls(s)), /PONG: no answer within 1000 ms/],
      ['monitoring', (s) => serveTls(s), /HTTP answer: no answer within 1000 ms/],
    ]
    for (const [kind, behave, message] of CASES) {
      behaviour = behave
      await assert.rejects(probe(kind, { timeout: 1000 }), { code: 'ERR_PROBE_PROTOCOL', message })
    }
  })
})

describe('after TLS', () => {
  test('a connection that ends without a word is a refusal, not an error', async () => {
    for (const kind of [
      'client',
      'cluster',
      'gateway',
      'leafnode',
      'websocket',
      'mqtt',
      'monitoring',
    ] as const) {
      const plain = kind === 'client' || kind === 'leafnode'
      for (const end of ['end', 'destroy'] as const) {
        behaviour = (socket) => {
          if (plain) socket.write(INFO)
          const tls = serveTls(socket)
          tls.once('secure', () => tls[end]())
        }
        const result = await probe(kind)
        assert.equal(result.accepted, false, `${kind} ${end}`)
        assert.match(result.refused ?? '', /right after the handshake$/)
        assert.equal(result.served.sha256, leaf.certificate.sha256)
        assert.equal(result.trusted, true)
      }
    }
  })

  const CASES: readonly (readonly [ListenerKind, string, RegExp])[] = [
    ['client', 'HTTP/1.1 400 Bad Request\r\n', /expected PONG, found "HTTP/],
    ['cluster', 'hello\r\n', /expected INFO, found "hello"/],
    ['gateway', INFO, /expected a gateway listener/],
    ['websocket', INFO, /expected an HTTP answer, found "INFO/],
    ['monitoring', '\r\n', /expected an HTTP answer, found ""/],
    ['cluster', 'x'.repeat(70_000), /expected at most 65536 bytes/],
    ['monitoring', `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(300_000)}`, /expected at most 262144 bytes/],
  ]
  for (const [kind, words, message] of CASES) {
    test(`a ${kind} listener that says ${words.slice(0, 12).trim()}: ERR_PROBE_PROTOCOL`, async () => {
      behaviour = (socket) => {
        if (kind === 'client') socket.write(INFO)
        const tls = serveTls(socket)
        tls.once('secure', () => tls.write(words))
      }
      await assert.rejects(probe(kind), { code: 'ERR_PROBE_PROTOCOL', message })
    })
  }

  test('an HTTP answer other than the wanted one is an answer', async () => {
    for (const kind of ['websocket', 'monitoring'] as const) {
      behaviour = (socket) => {
        const tls = serveTls(socket)
        tls.once('data', () => tls.end('HTTP/1.1 403 Forbidden\r\n\r\n'))
      }
      const result = await probe(kind)
      assert.deepEqual([result.accepted, result.proof, result.serverId], [true, 'data', undefined])
    }
  })
})

test('whatever bytes come, before TLS or after it, the probe ends with a result or a RotorError', async () => {
  const kinds = fc.constantFrom<ListenerKind>(
    'client',
    'cluster',
    'gateway',
    'leafnode',
    'websocket',
    'mqtt',
    'monitoring',
  )
  const beginnings = ['', 'INFO ', '-ERR ', 'PONG\r\n', 'HTTP/1.1 101 x\r\n', 'HTTP/1.1 200 x\r\n\r\n{', INFO]
  const said = fc.record({
    kind: kinds,
    afterTls: fc.boolean(),
    start: fc.constantFrom(...beginnings),
    bytes: fc.uint8Array({ maxLength: 300 }),
  })
  await fc.assert(
    fc.asyncProperty(said, async ({ kind, afterTls, start, bytes }) => {
      behaviour = (socket) => {
        const words = Buffer.concat([Buffer.from(start), bytes])
        if (!afterTls) return socket.end(words)
        if (kind === 'client' || kind === 'leafnode') socket.write(INFO)
        const tls = serveTls(socket)
        tls.once('secure', () => tls.end(words))
        return tls
      }
      try {
        const result = await probe(kind)
        assert.equal(result.served.sha256, leaf.certificate.sha256)
        assert.equal(result.accepted, result.proof !== null)
      } catch (error) {
        assert.ok(RotorError.is(error), String(error))
        assert.equal(error.code, 'ERR_PROBE_PROTOCOL')
        // none of the stranger's control bytes reach a terminal or log
        assert.match(error.message, /^[\x20-\x7e\n✖→]*$/)
      }
    }),
    { numRuns: 120 },
  )
})

describe('nobody there, or nobody who waits', () => {
  test('a closed port: ERR_PROBE_UNREACHABLE', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    await new Promise((resolve) => other.close(resolve))
    const target = { kind: 'client' as const, address: `127.0.0.1:${port}` }
    await assert.rejects(probeListener(target, { material }), {
      code: 'ERR_PROBE_UNREACHABLE',
      message: /ECONNREFUSED/,
    })
    await assert.rejects(
      probeListener({ ...target, address: `no-such-host.invalid:${port}` }, { material }),
      {
        code: 'ERR_PROBE_UNREACHABLE',
      },
    )
  })

  test('an address that is none: ERR_CONFIG_INVALID', async () => {
    for (const text of [
      '',
      'host',
      ':4222',
      'host:0',
      'host:70000',
      'a b:1',
      '[zz]:1',
      'host:1:2',
      '::1:4222',
    ]) {
      await assert.rejects(probeListener({ kind: 'client', address: text }), { code: 'ERR_CONFIG_INVALID' })
    }
    const secret = probeListener({ kind: 'client', address: 'nats://u:hidden@bad host:1' })
    await assert.rejects(secret, (error: Error) => !error.message.includes('hidden'))
  })

  test('an aborted signal ends the probe at once, before and during', async () => {
    const early = AbortSignal.abort()
    await assert.rejects(probe('client', { signal: early }), { code: 'ERR_ABORTED' })
    for (const kind of ['client', 'cluster', 'mqtt'] as const) {
      const stop = new AbortController()
      behaviour = () => {
        setImmediate(() => stop.abort())
      }
      const started = performance.now()
      await assert.rejects(probe(kind, { signal: stop.signal, timeout: 60_000 }), { code: 'ERR_ABORTED' })
      assert.ok(performance.now() - started < 2000)
    }
  })
})
