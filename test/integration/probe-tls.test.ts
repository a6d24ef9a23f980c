/** Probes of kind `tls`: a listener of any service, found to serve a leaf and to take ours, or not. Real servers of Node. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer as createTcp, type Server } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { createServer, type SecureVersion, type TlsOptions } from 'node:tls'
import { assertProven, type ProbeMaterial, probeListener } from '../../src/probe/probe.ts'
import { makeTestDomain, type TestDomain, type TestLeaf } from '../support/test-domain.ts'

const VERSIONS: readonly SecureVersion[] = ['TLSv1.3', 'TLSv1.2']

describe('a probe of a service that speaks TLS', { timeout: 60_000 }, () => {
  let domain: TestDomain
  let server: TestLeaf
  let nameless: TestLeaf
  let material: ProbeMaterial
  const open: Server[] = []
  before(async () => {
    domain = await makeTestDomain()
    server = await domain.leaf({ name: 'service', dns: ['orders.test'], ip: [] })
    nameless = await domain.leaf({ name: 'nameless', dns: [], ip: [] })
    const ours = await domain.leaf({ name: 'agent' })
    material = { ca: domain.authority().certificate.pem, key: ours.keyPem, certificate: ours.chainPem }
  })
  after(() => {
    for (const each of open) each.close()
  })

  async function listening(started: Server): Promise<string> {
    open.push(started)
    started.listen(0, '127.0.0.1')
    await once(started, 'listening')
    return `127.0.0.1:${(started.address() as AddressInfo).port}`
  }

  const serve = (leaf: TestLeaf, more: TlsOptions = {}): Promise<string> => {
    const quiet = createServer({ key: leaf.keyPem, cert: leaf.chainPem, ...more }, (socket) => {
      socket.on('error', () => {})
      socket.resume()
    })
    quiet.on('tlsClientError', () => {})
    return listening(quiet)
  }
  /** A proxy that lets nothing through from the server once the client has ended its handshake. */
  const withoutLastWord = (address: string): Promise<string> => {
    const [host = '', port = ''] = address.split(':')
    return listening(
      createTcp((near) => {
        const far = connect({ host, port: Number(port) })
        let flights = 0
        let serverSpoke = true
        near.on('data', (chunk) => {
          if (serverSpoke) flights += 1
          serverSpoke = false
          far.write(chunk)
        })
        far.on('data', (chunk) => {
          serverSpoke = true
          if (flights < 2) near.write(chunk)
        })
        near.on('error', () => {}).on('close', () => far.destroy())
        far.on('error', () => {}).on('close', () => near.destroy())
      }),
    )
  }
  /** Node servers take a root as an anchor for clients, not an intermediate. */
  const mutual = (ca: TestDomain): TlsOptions => ({
    requestCert: true,
    rejectUnauthorized: true,
    ca: ca.root.certificate.pem,
  })

  for (const maxVersion of VERSIONS) {
    test(`${maxVersion}: sees the leaf and that ours is taken`, async () => {
      const address = await serve(server, mutual(domain))
      const result = await probeListener(
        { kind: 'tls', address, servername: 'orders.test' },
        { material, maxVersion },
      )
      assert.equal(result.tlsVersion, maxVersion)
      assert.equal(result.proof, maxVersion === 'TLSv1.3' ? 'ticket' : 'handshake')
      assertProven(result, { fingerprint: server.certificate.sha256 })
    })

    test(`${maxVersion}: sees the leaf of a service that refuses ours`, async () => {
      const address = await serve(server, mutual(await makeTestDomain({ domain: 'other' })))
      const result = await probeListener(
        { kind: 'tls', address, servername: 'orders.test' },
        { material, maxVersion },
      )
      assert.deepEqual([result.trusted, result.accepted], [true, false])
      assert.equal(result.served.sha256, server.certificate.sha256)
      assert.throws(() => assertProven(result), { code: 'ERR_PROBE_REFUSED' })
    })
  }

  test('TLSv1.3: takes no refusal for a yes where the service says nothing after the handshake', async () => {
    const address = await withoutLastWord(await serve(server, mutual(domain)))
    const result = await probeListener({ kind: 'tls', address, servername: 'orders.test' }, { material })
    assert.deepEqual([result.accepted, result.proof], [true, 'handshake'])
  })

  test('looks for a name only where one is given', async () => {
    const address = await serve(nameless)
    const named = await probeListener({ kind: 'tls', address }, { material })
    assert.equal(named.trusted, false)
    assert.match(named.untrusted ?? '', /does not match certificate's altnames|127\.0\.0\.1/)
    for (const maxVersion of VERSIONS) {
      const result = await probeListener({ kind: 'tls', address, servername: null }, { material, maxVersion })
      assertProven(result, { fingerprint: nameless.certificate.sha256 })
    }
  })

  test('without a name still wants a leaf of a trusted authority', async () => {
    const stranger = await makeTestDomain({ domain: 'other' })
    const address = await serve(await stranger.leaf({ name: 'service' }))
    const result = await probeListener({ kind: 'tls', address, servername: null }, { material })
    assert.equal(result.trusted, false)
    assert.throws(() => assertProven(result), { code: 'ERR_PROBE_UNTRUSTED' })
  })

  test('asks for the name by SNI', async () => {
    const asked: string[] = []
    const address = await serve(server, {
      SNICallback: (name, done) => {
        asked.push(name)
        done(null)
      },
    })
    await probeListener({ kind: 'tls', address, servername: 'orders.test' }, { material })
    await probeListener({ kind: 'tls', address, servername: null }, { material })
    assert.deepEqual(asked, ['orders.test'])
  })

  test('of something that speaks first, or never, says so', async () => {
    const ssh = await listening(
      createTcp((socket) => {
        socket.on('error', () => {})
        socket.resume().write('SSH-2.0-OpenSSH_9.2\r\n')
      }),
    )
    await assert.rejects(probeListener({ kind: 'tls', address: ssh }, { material, timeout: 2000 }), {
      code: 'ERR_PROBE_PROTOCOL',
    })
    const silent = await listening(
      createTcp((socket) => {
        socket.on('error', () => {})
        socket.resume()
      }),
    )
    await assert.rejects(probeListener({ kind: 'tls', address: silent }, { material, timeout: 300 }), {
      code: 'ERR_PROBE_PROTOCOL',
      message: /TLS handshake: no answer within 300 ms/,
    })
  })
})
