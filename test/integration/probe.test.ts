/** Probes against real servers: what they serve, whom they accept, and that they do not mind. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { NatsServerRelease } from '../../src/local/nats-server.ts'
import { assertProven, type ProbeMaterial, probeListener } from '../../src/probe/probe.ts'
import type { ListenerKind } from '../../src/rotation/state.ts'
import type { Certificate } from '../../src/trust/certificate.ts'
import { eventually } from '../support/eventually.ts'
import { makeTestDomain, type TestDomain, type TestLeaf } from '../support/test-domain.ts'
import { startTlsServer, type TlsServer, type TlsServerOptions } from '../support/tls-server.ts'

const MINUTE = 60_000
const VERSIONS = ['TLSv1.3', 'TLSv1.2'] as const

let domain: TestDomain
/** The authority that servers trust, and a former one that they do not. */
let trusted: Certificate[]
let server: TestLeaf
let client: TestLeaf
let former: TestLeaf
let expired: TestLeaf

const material = (leaf?: TestLeaf, anchors: readonly Certificate[] = trusted): ProbeMaterial => ({
  ca: anchors.map((anchor) => anchor.pem).join(''),
  ...(leaf === undefined ? {} : { key: leaf.keyPem, certificate: leaf.chainPem }),
})

before(async () => {
  domain = await makeTestDomain()
  trusted = [domain.authority().certificate]
  server = await domain.leaf({ name: 'server' })
  client = await domain.leaf({ name: 'client' })
  former = await domain.leaf({ name: 'former', epoch: domain.epoch - 1 })
  const { now } = domain
  expired = await domain.leaf({ name: 'expired', notBefore: now - 4 * MINUTE, notAfter: now - MINUTE })
})

/** Starts the server of a suite, which then owns it. */
function serverFor(options: Omit<TlsServerOptions, 'leaf' | 'trusted'>): () => TlsServer {
  let started: TlsServer | null = null
  before(async () => {
    started = await startTlsServer({ leaf: server, trusted, ...options })
  })
  after(async () => await started?.[Symbol.asyncDispose]())
  return () => started ?? assert.fail('the server is started before the tests')
}

/**
 * A proxy that keeps back what the server sends after the TLS handshake until the client speaks once more: like a
 * server that makes no session tickets.
 */
async function withholdTicket(address: string): Promise<AsyncDisposable & { address: string }> {
  const [host = '', port = ''] = address.split(':')
  const proxy = createServer((near) => {
    const far = connectTcp({ host, port: Number(port) })
    let flights = 0
    let serverSpoke = true
    const held: Buffer[] = []
    near.on('data', (chunk) => {
      if (serverSpoke) flights += 1
      serverSpoke = false
      far.write(chunk)
      // The first byte after the held ones is already the question.
      if (held.length > 0) near.write(Buffer.concat(held.splice(0)))
    })
    far.on('data', (chunk) => {
      serverSpoke = true
      if (flights === 2) held.push(chunk)
      else near.write(chunk)
    })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.on('error', () => {})
      socket.on('close', () => other.destroy())
    }
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  return {
    address: `127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => proxy.close(resolve))
    },
  }
}

const RELEASES: readonly NatsServerRelease[] = ['nats-server', 'nats-server-oldest']
for (const release of RELEASES) {
  describe(`probes of ${release}`, () => {
    const running = serverFor({ release, listeners: ['cluster', 'gateway', 'monitoring'] })

    for (const kind of ['client', 'cluster', 'gateway'] as const) {
      for (const maxVersion of VERSIONS) {
        test(`${kind}, ${maxVersion}: a leaf of a trusted authority is accepted, and the served leaf is seen`, async () => {
          const target = { kind, address: running().address(kind) }
          const result = await probeListener(target, { material: material(client), maxVersion })
          assert.equal(result.served.sha256, server.certificate.sha256)
          assert.deepEqual(
            result.servedChain.slice(0, 2).map((certificate) => certificate.sha256),
            server.chain.map((certificate) => certificate.sha256),
          )
          assert.equal(result.untrusted, null)
          assert.equal(result.trusted, true)
          assert.equal(result.accepted, true)
          assert.equal(result.proof, 'data')
          assert.equal(result.tlsVersion, maxVersion)
          assert.match(result.cipher ?? '', /AES|CHACHA/)
          // nats-server of today and OpenSSL 3.5 prefer the hybrid group, which is for TLS 1.3 only
          const hybrid = release === 'nats-server' && maxVersion === 'TLSv1.3'
          assert.equal(result.group, hybrid ? 'X25519MLKEM768' : 'X25519')
          assert.equal(result.serverName, 'tested')
          assert.equal(result.serverVersion, running().process.version)
          assert.match(result.serverId ?? '', /^N[A-Z0-9]{55}$/)
          assert.equal(result.authorized, kind === 'client' ? true : null)
          assertProven(result, { fingerprint: server.certificate.sha256, issuer: trusted[0] })
        })

        for (const [who, leaf] of [
          ['of an authority that is not trusted', () => former],
          ['that has expired', () => expired],
          ['that is missing', () => undefined],
        ] as const) {
          test(`${kind}, ${maxVersion}: a leaf ${who} is refused, and the served leaf is seen all the same`, async () => {
            const target = { kind, address: running().address(kind) }
            const result = await probeListener(target, { material: material(leaf()), maxVersion })
            assert.equal(result.accepted, false)
            assert.match(result.refused ?? '', /^TLS alert: /)
            assert.equal(result.proof, null)
            assert.equal(result.served.sha256, server.certificate.sha256)
            assert.equal(result.untrusted, null)
            assert.equal(result.tlsVersion, maxVersion)
            assert.throws(() => assertProven(result), { code: 'ERR_PROBE_REFUSED', message: /TLS alert/ })
          })
        }
      }
    }

    test('the monitoring listener asks for no certificate: any is accepted', async () => {
      const target = { kind: 'monitoring' as const, address: running().address('monitoring') }
      const result = await probeListener(target, { material: material() })
      assert.equal(result.accepted, true)
      assert.equal(result.serverName, 'tested')
      assert.equal(result.served.sha256, server.certificate.sha256)
    })

    test('an accepted probe registers no route or gateway and leaves no error in the log', async () => {
      const before = (await running().log()).length
      for (const kind of ['client', 'cluster', 'gateway', 'monitoring'] as const) {
        const target = { kind, address: running().address(kind) }
        assertProven(await probeListener(target, { material: material(client) }))
      }
      const closed = (line: string) => /(Router|Gateway) connection closed: Client Closed/.test(line)
      const lines = await eventually(async () => {
        const later = (await running().log()).slice(before)
        return later.filter(closed).length === 2 && later
      })
      assert.deepEqual(
        lines.filter((line) => /\[(ERR|WRN|FTL)\]|registered|Outbound/.test(line)),
        [],
      )
    })

    test('after a reload the new leaf is seen', async () => {
      const next = await domain.leaf({ name: 'next-server' })
      await running().write(next, trusted)
      const targets = (['client', 'cluster', 'monitoring'] as const).map((kind) => ({
        kind,
        address: running().address(kind),
      }))
      const look = async () =>
        await Promise.all(targets.map((target) => probeListener(target, { material: material(client) })))
      for (const result of await look()) {
        assert.throws(() => assertProven(result, { fingerprint: next.certificate.sha256 }), {
          code: 'ERR_PROOF_FAILED',
          message: new RegExp(`expected the leaf ${next.certificate.sha256}, found`),
        })
      }
      assert.ok(running().process.kill('SIGHUP'))
      const results = await eventually(async () => {
        const seen = await look()
        return seen.every((result) => result.served.sha256 === next.certificate.sha256) && seen
      })
      for (const result of results) assertProven(result, { fingerprint: next.certificate.sha256 })
    })
  })
}

describe('probes of the other listeners', () => {
  const running = serverFor({ listeners: ['leafnode', 'websocket', 'mqtt'] })
  const PROOF: Partial<Record<ListenerKind, string>> = {
    leafnode: 'ticket',
    mqtt: 'ticket',
    websocket: 'data',
  }

  for (const kind of ['leafnode', 'websocket', 'mqtt'] as const) {
    for (const maxVersion of VERSIONS) {
      test(`${kind}, ${maxVersion}: accepted with a good leaf, refused with a bad one or none`, async () => {
        const target = { kind, address: running().address(kind) }
        const good = await probeListener(target, { material: material(client), maxVersion })
        assertProven(good, { fingerprint: server.certificate.sha256, issuer: trusted[0] })
        const silent = kind !== 'websocket' && maxVersion === 'TLSv1.2'
        assert.equal(good.proof, silent ? 'handshake' : PROOF[kind])
        assert.equal(good.serverName, kind === 'mqtt' ? undefined : 'tested')
        for (const leaf of [former, expired, undefined]) {
          const bad = await probeListener(target, { material: material(leaf), maxVersion })
          assert.equal(bad.accepted, false)
          assert.match(bad.refused ?? '', /^TLS alert: /)
          assert.equal(bad.served.sha256, server.certificate.sha256)
          assert.equal(bad.trusted, true)
        }
      })
    }
  }

  test('a silent listener whose session ticket does not come is made to speak', async () => {
    for (const kind of ['leafnode', 'mqtt'] as const) {
      await using proxy = await withholdTicket(running().address(kind))
      const target = { kind, address: proxy.address }
      const good = await probeListener(target, { material: material(client) })
      assert.deepEqual([good.accepted, good.proof], [true, 'data'])
    }
  })

  test('an accepted probe leaves no error in the log', async () => {
    const before = (await running().log()).length
    for (const kind of ['leafnode', 'websocket', 'mqtt'] as const) {
      assertProven(
        await probeListener({ kind, address: running().address(kind) }, { material: material(client) }),
      )
    }
    const lines = await eventually(async () => {
      const later = (await running().log()).slice(before)
      return later.some((line) => line.includes('Leafnode connection closed: Client Closed')) && later
    })
    assert.deepEqual(
      lines.filter((line) => /\[(ERR|WRN|FTL)\]/.test(line)),
      [],
    )
  })
})

describe('probes of unusual listeners', () => {
  const running = serverFor({
    listeners: ['leafnode'],
    tls: { client: 'handshake_first: true', leafnode: 'handshake_first: true' },
    config: 'authorization { user: u, password: p }',
  })

  test('with handshake_first, INFO comes after TLS', async () => {
    for (const kind of ['client', 'leafnode'] as const) {
      const target = { kind, address: running().address(kind), handshakeFirst: true }
      const result = await probeListener(target, { material: material(client) })
      assertProven(result, { fingerprint: server.certificate.sha256 })
      assert.equal(result.proof, 'data')
      assert.equal(result.serverName, 'tested')
      const bad = await probeListener(target, { material: material(former) })
      assert.deepEqual([bad.accepted, bad.refused], [false, 'TLS alert: unknown ca'])
    }
  })

  test('a server that waits for TLS is not waited for longer than the timeout', async () => {
    const target = { kind: 'client' as const, address: running().address('client') }
    await assert.rejects(probeListener(target, { material: material(client), timeout: 200 }), {
      code: 'ERR_PROBE_PROTOCOL',
      message: /INFO: no answer within 200 ms/,
    })
  })

  test('accepted by TLS but no user: the certificate counts as accepted', async () => {
    const target = { kind: 'client' as const, address: running().address('client'), handshakeFirst: true }
    const result = await probeListener(target, { material: material(client) })
    assert.equal(result.accepted, true)
    assert.equal(result.authorized, false)
    assert.equal(result.denied, 'Authorization Violation')
    assertProven(result)
  })
})

describe('a refusal that comes after the handshake', () => {
  const running = serverFor({
    listeners: ['leafnode', 'mqtt'],
    tls: { leafnode: `pinned_certs: ["${'a'.repeat(64)}"]`, mqtt: `pinned_certs: ["${'a'.repeat(64)}"]` },
  })

  test('pinned_certs refuses although the handshake and the session ticket were fine', async () => {
    for (const kind of ['leafnode', 'mqtt'] as const) {
      const target = { kind, address: running().address(kind) }
      for (const maxVersion of VERSIONS) {
        const result = await probeListener(target, { material: material(client), maxVersion })
        assert.equal(result.accepted, false, `${kind} ${maxVersion}`)
        assert.match(result.refused ?? '', /right after the handshake$/)
      }
    }
  })
})

describe('trust in the served certificate', () => {
  const running = serverFor({})
  const target = () => ({ kind: 'client' as const, address: running().address('client') })

  test('a server under an authority that we do not trust is seen, and told as not trusted', async () => {
    const other = [domain.authority(domain.epoch - 1).certificate]
    for (const maxVersion of VERSIONS) {
      for (const leaf of [client, former]) {
        const result = await probeListener(target(), { material: material(leaf, other), maxVersion })
        assert.equal(result.served.sha256, server.certificate.sha256)
        assert.equal(result.trusted, false)
        assert.ok(result.untrusted)
        assert.equal(result.accepted, leaf === client)
        assert.throws(() => assertProven(result), { code: 'ERR_PROBE_UNTRUSTED' })
      }
    }
  })

  test('the name must be in the certificate, the one given or that of the address', async () => {
    const named = { ...target(), servername: 'localhost' }
    assert.equal((await probeListener(named, { material: material(client) })).trusted, true)
    const byName = { ...target(), address: target().address.replace('127.0.0.1', 'localhost') }
    assert.equal((await probeListener(byName, { material: material(client) })).trusted, true)
    for (const maxVersion of VERSIONS) {
      const wrong = { ...target(), servername: 'other.example' }
      for (const leaf of [client, former]) {
        const result = await probeListener(wrong, { material: material(leaf), maxVersion })
        assert.equal(result.trusted, false)
        assert.match(result.untrusted ?? '', /other\.example/)
      }
    }
  })

  test('without material nothing is trusted, and the served leaf is still seen', async () => {
    const result = await probeListener(target())
    assert.equal(result.served.sha256, server.certificate.sha256)
    assert.deepEqual([result.trusted, result.untrusted], [false, 'no trust anchors were given'])
    assert.equal(result.accepted, false)
  })

  test('a leaf by another authority than expected fails the proof', async () => {
    const result = await probeListener(target(), { material: material(client) })
    const issuer = domain.authority(domain.epoch - 1).certificate
    assert.throws(() => assertProven(result, { issuer }), { code: 'ERR_PROOF_FAILED' })
  })

  test('material that does not fit together is refused before anything is dialled', async () => {
    const mixed = { ...material(client), key: former.keyPem }
    await assert.rejects(probeListener(target(), { material: mixed }), { code: 'ERR_IDENTITY_INVALID' })
    const broken = { ...material(client), ca: 'no certificate' }
    await assert.rejects(probeListener(target(), { material: broken }), { code: 'ERR_IDENTITY_INVALID' })
  })
})
