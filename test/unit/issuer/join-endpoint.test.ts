/** What strangers can do to the join endpoint: every bound is hit over real TLS, and the next honest request is answered. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import { type JoinEndpoint, openJoinEndpoint } from '../../../issuer/join/endpoint.ts'
import { type EndpointKey, endpointKey } from '../../../issuer/join/key.ts'
import { DEFAULT_LIMITS, type JoinLimits } from '../../../issuer/join/limits.ts'
import { RotorError } from '../../../src/errors.ts'
import { freePorts } from '../../../src/local/ports.ts'
import { silentLogger } from '../../../src/log.ts'
import { systemClock } from '../../../src/time.ts'
import { spkiSha256 } from '../../../src/trust/keys.ts'
import type { JoinAnswer } from '../../../src/wire/enrolment.ts'
import { eventually } from '../../support/eventually.ts'

const GOOD = { v: 1, id: '0123456789abcdef', secret: 'A'.repeat(43), csr: 'none' }
const GENEROUS: JoinLimits = {
  perAddress: { burst: 1e6, perSecond: 1e6 },
  overall: { burst: 1e6, perSecond: 1e6 },
}

const granted: JoinAnswer = {
  ok: true,
  serverTime: '2026-01-01T00:00:00.000Z',
  chain: 'chain',
  epoch: 1,
  bundle: 'bundle',
  hints: {
    role: 'service',
    servers: ['tls://a:1'],
    handshakeFirst: false,
    names: { dns: [], ip: [], uri: [] },
    key: 'P-256',
  },
}

describe('the join endpoint', { timeout: 120_000 }, () => {
  let dir: string
  let key: EndpointKey
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rotor-join-'))
    key = await endpointKey({ domain: 'demo', dir, passphrase: undefined }, Date.now())
  })
  after(() => rm(dir, { recursive: true }))

  /** With an endpoint of its own. `says` is what a request leads to. */
  async function withEndpoint(
    work: (port: number, endpoint: JoinEndpoint) => Promise<void>,
    {
      limits = GENEROUS,
      says = async () => granted,
    }: { limits?: JoinLimits; says?: () => Promise<JoinAnswer> } = {},
  ): Promise<void> {
    const [port = 0] = await freePorts(1)
    const listen = `127.0.0.1:${port}`
    await using endpoint = await openJoinEndpoint({
      listen,
      key,
      answer: says,
      bundle: async () => Buffer.from('the newest bundle'),
      clock: systemClock,
      logger: silentLogger,
      limits,
    })
    await work(port, endpoint)
  }

  interface Answer {
    readonly status: number
    readonly body: { ok: boolean; code?: string; message?: string; retryAfter?: number }
    readonly retryAfter: string | undefined
  }

  async function post(port: number, body: string | object, path = '/join', method = 'POST'): Promise<Answer> {
    const sent = request({ host: '127.0.0.1', port, path, method, rejectUnauthorized: false, agent: false })
    const answer = new Promise<Answer>((resolve, reject) => {
      sent.once('error', reject)
      sent.once('response', async (response) => {
        const body = JSON.parse(await text(response))
        resolve({ status: response.statusCode ?? 0, body, retryAfter: response.headers['retry-after'] })
      })
    })
    sent.end(typeof body === 'string' ? body : JSON.stringify(body))
    return answer
  }

  const tls = (port: number): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => resolve(socket))
      socket.once('error', reject)
      socket.on('error', () => {})
    })

  const closed = (socket: { closed: boolean }) => eventually(() => socket.closed, { timeout: 30_000 })

  test('answers a request on TLS 1.3 with its own key, and refuses older TLS', () =>
    withEndpoint(async (port, endpoint) => {
      const { status, body } = await post(port, GOOD)
      assert.deepEqual([status, body], [200, granted])
      const socket = await tls(port)
      assert.equal(socket.getProtocol(), 'TLSv1.3')
      const certificate = socket.getPeerX509Certificate()
      assert.equal(certificate && spkiSha256(certificate.publicKey), key.spkiSha256)
      socket.destroy()
      const old = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, maxVersion: 'TLSv1.2' })
      const refusal = await new Promise((resolve) => {
        old.once('secureConnect', () => resolve('connected'))
        old.once('error', resolve)
      })
      assert.ok(refusal instanceof Error)
      assert.equal(endpoint.counts().joined, 1)
    }))

  test('refuses garbage, wrong forms, other paths and large bodies before anything is decided', async () => {
    let asked = 0
    const says = async () => {
      asked += 1
      return granted
    }
    await withEndpoint(
      async (port, endpoint) => {
        const bad: readonly (readonly [string | object, string?, string?])[] = [
          ['not json'],
          ['[]'],
          ['{}'],
          ['\u0000'.repeat(100)],
          [{ ...GOOD, v: 2 }],
          [{ ...GOOD, id: '../../state' }],
          [{ ...GOOD, id: 'rotation' }],
          [{ ...GOOD, secret: 'short' }],
          [{ ...GOOD, more: true }],
          [{ ...GOOD, csr: 'x'.repeat(40 * 1024 + 1) }],
          [GOOD, '/'],
          [GOOD, '/join?x'],
          [GOOD, '/join', 'PUT'],
          ['x'.repeat(40 * 1024)],
        ]
        for (const [body, path, method] of bad) {
          const answer = await post(port, body, path, method)
          assert.deepEqual(
            [answer.status, answer.body.code],
            [400, 'ERR_SIGN_MALFORMED'],
            JSON.stringify(answer),
          )
        }
        // without its length told: read up to the bound
        const chunked = await tls(port)
        chunked.write('POST /join HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n')
        const piece = `1000\r\n${'x'.repeat(4096)}\r\n`
        for (let i = 0; i < 10; i++) chunked.write(piece)
        await closed(chunked.resume())
        const headers = await tls(port)
        headers.write(`POST /join HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)
        await closed(headers.resume())
        assert.equal(asked, 0)
        assert.equal(endpoint.counts().malformed, bad.length + 1)
        assert.equal((await post(port, GOOD)).status, 200)
      },
      { says },
    )
  })

  test('who is slow is cut: no TLS, no headers, no body', () =>
    withEndpoint(async (port) => {
      const silent = connectTcp(port, '127.0.0.1').on('error', () => {})
      const headless = await tls(port)
      headless.write('POST /join HTTP/1.1\r\nhost')
      const bodiless = await tls(port)
      bodiless.write('POST /join HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{')
      await Promise.all([silent, headless, bodiless].map((socket) => closed(socket.resume())))
      assert.equal((await post(port, GOOD)).status, 200)
    }))

  test('one address holds a few connections at a time, and gets them back', () =>
    withEndpoint(async (port) => {
      const sockets = Array.from({ length: 40 }, () =>
        connectTcp(port, '127.0.0.1')
          .on('error', () => {})
          .resume(),
      )
      await eventually(() => sockets.filter((socket) => socket.closed).length === 24)
      for (const socket of sockets) socket.destroy()
      await eventually(async () => (await post(port, GOOD)).status === 200)
    }))

  test('who asks too often is told when to come back, and the others are answered', () =>
    withEndpoint(
      async (port, endpoint) => {
        for (let i = 0; i < 3; i++) assert.equal((await post(port, GOOD)).status, 200)
        const { status, body, retryAfter } = await post(port, GOOD)
        assert.equal(status, 429)
        assert.equal(body.code, 'ERR_JOIN_UNAVAILABLE')
        assert.ok((body.retryAfter ?? 0) > 0 && Number(retryAfter) >= 1)
        assert.equal(endpoint.counts().limited, 1)
      },
      { limits: { ...DEFAULT_LIMITS, perAddress: { burst: 3, perSecond: 0.01 } } },
    ))

  test('the words of our own failures stay here', () =>
    withEndpoint(
      async (port) => {
        const { status, body, retryAfter } = await post(port, GOOD)
        assert.equal(status, 503)
        assert.equal(body.code, 'ERR_JOIN_UNAVAILABLE')
        assert.doesNotMatch(body.message ?? '', /vault/)
        assert.equal(retryAfter, '2')
      },
      {
        says: async () => {
          throw new RotorError('ERR_AUTHORITY_UNAVAILABLE', 'vault at 10.1.2.3 is sealed')
        },
      },
    ))

  test('its key stays over restarts, readable by its owner only; a port that is taken is told', async () => {
    const again = await endpointKey({ domain: 'demo', dir, passphrase: undefined }, Date.now())
    assert.equal(again.spkiSha256, key.spkiSha256)
    assert.equal((await stat(join(dir, 'join.key'))).mode & 0o777, 0o600)
    const locked = await mkdtemp(join(dir, 'locked-'))
    const first = await endpointKey({ domain: 'demo', dir: locked, passphrase: 'long enough' }, Date.now())
    assert.match(await readFile(join(locked, 'join.key'), 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/)
    const opened = await endpointKey({ domain: 'demo', dir: locked, passphrase: 'long enough' }, Date.now())
    assert.equal(opened.spkiSha256, first.spkiSha256)
    await assert.rejects(endpointKey({ domain: 'demo', dir: locked, passphrase: undefined }, Date.now()), {
      code: 'ERR_AUTHORITY_LOCKED',
    })
    await withEndpoint(async (port) => {
      const second = openJoinEndpoint({
        listen: `127.0.0.1:${port}`,
        key,
        answer: async () => granted,
        bundle: async () => Buffer.from('x'),
        clock: systemClock,
        logger: silentLogger,
      })
      await assert.rejects(second, { code: 'ERR_CONFIG_INVALID', message: /join\.listen.*EADDRINUSE/ })
    })
  })
})
