/** One request to a service: what is sent, which answers mean "told", and the words when they do not. Real servers. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import type { HttpTargetConfig } from '../../../../agent/targets/http.ts'
import { makeRequest, sendRequest, shownUrl } from '../../../../agent/targets/http-request.ts'
import { freePorts } from '../../../../src/local/ports.ts'
import type { ProbeMaterial } from '../../../../src/probe/probe.ts'
import { makeTestDomain, type TestLeaf } from '../../../support/test-domain.ts'

const { signal } = new AbortController()

async function listening(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      if ('closeAllConnections' in server && typeof server.closeAllConnections === 'function')
        server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

describe('a request to a service', { timeout: 60_000 }, () => {
  let folder: string
  let material: ProbeMaterial
  let server: TestLeaf
  let ours: TestLeaf
  let strangers: ProbeMaterial
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rotor-http-'))
    const domain = await makeTestDomain()
    server = await domain.leaf({ name: 'service', dns: ['orders.test'], ip: ['127.0.0.1'] })
    ours = await domain.leaf({ name: 'agent' })
    material = { ca: domain.authority().certificate.pem, key: ours.keyPem, certificate: ours.chainPem }
    const other = await makeTestDomain({ domain: 'other' })
    const leaf = await other.leaf({ name: 'stranger' })
    strangers = { ca: other.authority().certificate.pem, key: leaf.keyPem, certificate: leaf.chainPem }
  })
  after(() => rm(folder, { recursive: true, force: true }))

  async function tell(
    url: string,
    more: Partial<HttpTargetConfig> = {},
    as: ProbeMaterial = material,
  ): Promise<number> {
    const config: HttpTargetConfig = {
      type: 'http',
      url,
      method: 'POST',
      expect: [200, 202, 204],
      timeout: 10_000,
      ...more,
    }
    return sendRequest(await makeRequest(config, as), signal)
  }

  const https = (listener: RequestListener) => {
    const files = { key: server.keyPem, cert: server.chainPem }
    return createHttps({ ...files, requestCert: true, rejectUnauthorized: false }, listener)
  }

  test('is a POST without a body, with the headers of the file as they are then', async () => {
    const seen: { method?: string | undefined; url?: string | undefined; headers: IncomingHttpHeaders }[] = []
    await using running = await listening(
      createServer(({ method, url, headers }, response) => {
        seen.push({ method, url, headers })
        response.writeHead(seen.length === 1 ? 204 : 202).end()
      }),
    )
    const headersFile = join(folder, 'headers')
    await writeFile(headersFile, 'Authorization: Bearer first\n')
    const url = `http://127.0.0.1:${running.port}/reload?now=1`
    assert.equal(await tell(url, { headersFile }), 204)
    await writeFile(headersFile, 'Authorization: Bearer second\n')
    assert.equal(await tell(url, { headersFile, method: 'GET' }), 202)
    assert.deepEqual(
      seen.map(({ method, url, headers }) => [method, url, headers.authorization, headers['content-length']]),
      [
        ['POST', '/reload?now=1', 'Bearer first', '0'],
        ['GET', '/reload?now=1', 'Bearer second', undefined],
      ],
    )
    assert.equal(seen[0]?.headers.connection, 'close')
  })

  test('that is answered otherwise than expected fails with the first words, without secrets and without the query', async () => {
    await using running = await listening(
      createServer(({ headers }, response) => {
        response.writeHead(500).end(`no\nroom\u0007 for ${headers.authorization}; ${'more '.repeat(5000)}`)
      }),
    )
    const headersFile = join(folder, 'secret')
    await writeFile(headersFile, 'Authorization: Bearer hunter2hunter2\n')
    const told = tell(`http://127.0.0.1:${running.port}/reload?token=hunter3`, { headersFile })
    await assert.rejects(told, (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_NOTIFY_FAILED')
      assert.match(
        error.message,
        /POST http:\S+\/reload: expected 200, 202, 204, found 500: "no room\? for \*\*\*; more/,
      )
      assert.doesNotMatch(error.message, /hunter/)
      assert.ok(error.message.length < 400)
      return true
    })
    assert.equal(await tell(`http://127.0.0.1:${running.port}/`, { expect: [500] }), 500)
  })

  test('follows no redirect', async () => {
    let requests = 0
    await using running = await listening(
      createServer((_, response) => {
        requests += 1
        response.writeHead(302, { location: '/elsewhere' }).end()
      }),
    )
    await assert.rejects(tell(`http://127.0.0.1:${running.port}/reload`), {
      code: 'ERR_NOTIFY_FAILED',
      message: /found 302 \(redirects are not followed\)/,
    })
    assert.equal(requests, 1)
  })

  test('ends with the timeout when no answer comes; an endless body does not change the answer', async () => {
    await using silent = await listening(createServer(() => {}))
    await assert.rejects(tell(`http://127.0.0.1:${silent.port}/reload`, { timeout: 150 }), {
      code: 'ERR_NOTIFY_FAILED',
      message: /no answer within 150ms/,
    })
    for (const body of ['a', 'a'.repeat(100_000)]) {
      await using endless = await listening(
        createServer((_, response) => void response.writeHead(200).write(body)),
      )
      assert.equal(await tell(`http://127.0.0.1:${endless.port}/reload`, { timeout: 300 }), 200)
    }
  })

  test('to nobody, to somebody who hangs up, and to no HTTP server fails in its own words', async () => {
    const [port] = await freePorts(1)
    await assert.rejects(tell(`http://127.0.0.1:${port}/reload`), {
      code: 'ERR_TARGET_UNREACHABLE',
      message: /ECONNREFUSED/,
    })
    await using rude = await listening(
      createTcp((socket) => void socket.once('data', () => socket.destroy())),
    )
    await assert.rejects(tell(`http://127.0.0.1:${rude.port}/reload`), {
      code: 'ERR_NOTIFY_FAILED',
      message: /the connection was closed without an answer$/,
    })
    await using ssh = await listening(
      createTcp((socket) => {
        socket.on('error', () => {})
        socket.resume().end('SSH-2.0-OpenSSH_9.2\r\n')
      }),
    )
    await assert.rejects(tell(`http://127.0.0.1:${ssh.port}/reload`), {
      code: 'ERR_NOTIFY_FAILED',
      message: /Parse Error/,
    })
  })

  test('can be stopped by its caller, who gets the reason', async () => {
    await using silent = await listening(createServer(() => {}))
    const stop = new AbortController()
    const config: HttpTargetConfig = {
      type: 'http',
      url: `http://127.0.0.1:${silent.port}/`,
      method: 'POST',
      expect: [200],
      timeout: 60_000,
    }
    const told = sendRequest(await makeRequest(config, material), stop.signal)
    stop.abort(new Error('enough'))
    await assert.rejects(told, { message: 'enough' })
  })

  test('over https shows the certificate of the node and trusts its authorities only', async () => {
    const clients: string[] = []
    await using running = await listening(
      https(({ socket }, response) => {
        clients.push(
          (socket as TLSSocket).getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase(),
        )
        response.writeHead(200).end()
      }),
    )
    const url = `https://127.0.0.1:${running.port}/reload`
    assert.equal(await tell(url), 200)
    assert.deepEqual(clients, [ours.certificate.sha256])

    await assert.rejects(tell(url, {}, strangers), {
      code: 'ERR_NOTIFY_FAILED',
      message: /unable to (verify the first|get local issuer) certificate/,
    })
    const ca = join(folder, 'ca.pem')
    await writeFile(ca, material.ca)
    assert.equal(await tell(url, { ca }, strangers), 200)
    await writeFile(ca, 'no certificate')
    await assert.rejects(tell(url, { ca }), { code: 'ERR_CONFIG_INVALID', message: /^ca: / })
    await assert.rejects(tell(url, { ca: `${ca}-none` }), {
      code: 'ERR_CONFIG_INVALID',
      message: /^ca: ENOENT/,
    })
    assert.equal(clients.length, 2)
  })

  test('over https looks for the name of the service in its certificate', async () => {
    await using running = await listening(https((_, response) => void response.end()))
    const url = `https://127.0.0.1:${running.port}/reload`
    assert.equal(await tell(url, { serverName: 'orders.test' }), 200)
    await assert.rejects(tell(url, { serverName: 'billing.test' }), {
      code: 'ERR_NOTIFY_FAILED',
      message: /does not match certificate's altnames.*billing\.test/,
    })
  })

  test('over https to a service that refuses our certificate says what to look at', async () => {
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
      const files = { key: server.keyPem, cert: server.chainPem, ca: strangers.ca, maxVersion }
      await using running = await listening(
        createHttps(
          { ...files, requestCert: true, rejectUnauthorized: true },
          (_, response) => void response.end(),
        ),
      )
      await assert.rejects(tell(`https://127.0.0.1:${running.port}/reload`), {
        code: 'ERR_NOTIFY_FAILED',
        message: /does it take the certificate of this node\?|alert/,
      })
    }
  })

  test('is named without its query', () => {
    assert.equal(shownUrl('https://Orders.test:443/a%20b?token=x#y'), 'https://orders.test/a%20b')
  })
})
