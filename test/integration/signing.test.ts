/**
 * What a node, or whoever has taken one over, can send to be signed. Every request goes over the connection of an
 * agent of the domain to the live issuer: each bad one is refused with its own code and gives nothing away, and a good
 * one gets exactly what the policy gives.
 */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { editJson } from '../../demo/domain.ts'
import { EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { readIssuerConfig } from '../../issuer/index.ts'
import type { RotorErrorCode } from '../../src/errors.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { sleep } from '../../src/time.ts'
import { type Certificate, parseCertificate, parseCertificates } from '../../src/trust/certificate.ts'
import { verifyLeaf } from '../../src/trust/chain.ts'
import { type CsrSubject, makeCsr, parseCsr } from '../../src/trust/csr.ts'
import {
  generateKeyPair,
  type KeyPair,
  privateKeyFromPem,
  privateKeyToPem,
  spkiSha256,
} from '../../src/trust/keys.ts'
import { proveClaims } from '../../src/trust/proof.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { type SignAnswer, type SignClaims, signAnswer } from '../../src/wire/requests.ts'
import { eventually } from '../support/eventually.ts'
import { RunningDomain } from '../support/running-domain.ts'
import { makeTestDomain } from '../support/test-domain.ts'

const HOUR = 3_600_000

describe('signing requests to a live issuer', { timeout: 180_000 }, () => {
  let domain: RunningDomain
  let authority: EmbeddedAuthority
  let orders: NatsConnection
  /** Text of every answer that any test got. */
  const answers: string[] = []

  before(async () => {
    domain = await RunningDomain.start({
      services: [
        { name: 'orders', dns: ['orders.internal', 'orders.example'] },
        { name: 'billing' },
        { name: 'left' },
      ],
    })
    // a node that has an identity and a NATS user still, and is no agent of the issuer any more
    const { issuerConfig } = domain.local.founded
    const { agents } = JSON.parse(await readFile(issuerConfig, 'utf8'))
    await editJson(issuerConfig, {
      agents: agents.filter((agent: { name: string }) => agent.name !== 'left'),
    })
    authority = new EmbeddedAuthority({
      domain: domain.local.name,
      dir: join(domain.local.dir, 'issuer', 'keys'),
    })
    await domain.startAll(['orders', 'billing'])
    await domain.rotate()
    orders = await domain.connectAs('orders')
  })
  after(async () => {
    await orders?.close()
    await domain?.stop()
  })

  /** As an agent of this name with this material would. */
  async function connect(name: string, material: IdentitySnapshot): Promise<NatsConnection> {
    const { servers } = await readIssuerConfig(domain.local.founded.issuerConfig)
    const inboxPrefix = domain.names.inbox(name)
    return connectWith({ servers, identity: new HeldIdentity(material), name, inboxPrefix })
  }

  const policyUri = (agent: string) => domain.names.spiffeId(agent)

  interface Signed {
    readonly key: KeyPair['privateKey']
    readonly chain: readonly Certificate[]
  }

  async function held(agent: string): Promise<Signed> {
    const { key, certificate } = await domain.identity(agent)
    return { key: privateKeyFromPem(key), chain: parseCertificates(certificate, agent) }
  }

  /** A leaf as the authority of this epoch would write it for an agent, with its own key. */
  async function leafOf(agent: string, epoch: number, window: { notBefore: number; notAfter: number }) {
    const keyPair = await generateKeyPair()
    const names = { dns: [], ip: [], uri: [policyUri(agent)] }
    const pem = await authority.sign(epoch, {
      csr: await parseCsr(await makeCsr(keyPair, { subject: agent })),
      commonName: agent,
      names,
      ...window,
    })
    return { key: keyPair.privateKey, pem, chain: parseCertificates(pem, agent) }
  }

  interface Wish {
    readonly agent?: string
    readonly keyPair?: KeyPair
    readonly names?: Partial<CsrSubject>
    readonly claims?: Partial<Record<keyof SignClaims, unknown>>
    /** Who signs the request. @default what the agent holds */
    readonly by?: Signed
  }

  /** A good request of an agent, with these wishes. */
  async function request({ agent = 'orders', keyPair, names, claims, by }: Wish = {}): Promise<string> {
    const { key, chain } = by ?? (await held(agent))
    const good: SignClaims = {
      v: 1,
      domain: domain.names.domain,
      agent,
      csr: await makeCsr(keyPair ?? (await generateKeyPair()), {
        subject: agent,
        uri: [policyUri(agent)],
        ...names,
      }),
      epoch: 0,
      at: new Date().toISOString(),
    }
    return proveClaims(Object.assign(good, claims), key, chain)
  }

  /** The answer of the issuer on the agent's own subject. */
  async function ask(body: string | Uint8Array, agent = 'orders', nc = orders): Promise<SignAnswer> {
    const message = await nc.request(domain.names.signSubject(agent), body, { timeout: 10_000 })
    answers.push(message.string())
    return decodeRecord(signAnswer, message.data, 'answer')
  }

  async function assertRefused(body: string | Uint8Array, code: RotorErrorCode): Promise<void> {
    const answer = await ask(body)
    assert.ok(!answer.ok, 'it was signed')
    assert.equal(answer.code, code, answer.message)
    assertDiscreet(answers.at(-1) ?? '')
  }

  /** Code, one sentence and the time: no stack, no path, nothing of a key or certificate. */
  function assertDiscreet(text: string): void {
    assert.deepEqual(Object.keys(JSON.parse(text)).sort(), ['code', 'message', 'ok', 'serverTime'])
    assert.doesNotMatch(text, /\\n|\(node:|\.ts\b|file:|node_modules|BEGIN CERTIFICATE-|PRIVATE KEY/)
    assert.ok(!text.includes(domain.local.dir) && !text.includes(process.cwd()), text)
    assert.ok(text.length < 1000, text)
  }

  async function active(): Promise<{ epoch: number; certificate: Certificate }> {
    const newest = (await domain.history()).at(-1)?.payload
    const entry = newest?.authorities.find(({ epoch }) => epoch === newest.epoch)
    assert.ok(entry)
    return { epoch: entry.epoch, certificate: parseCertificate(entry.certificate, 'active authority') }
  }

  test('a good request gets a chain that verifies, of the active epoch, with the names of the policy, within its authority', async () => {
    const keyPair = await generateKeyPair()
    // it asks for one of its two DNS names, and calls itself the issuer
    const answer = await ask(
      await request({ keyPair, names: { subject: 'issuer', dns: ['orders.internal'] } }),
    )
    const { epoch, certificate } = await active()
    assert.ok(answer.ok, JSON.stringify(answer))
    assert.equal(answer.epoch, epoch)
    const [leaf, issuer, ...others] = parseCertificates(answer.chain, 'answer')
    assert.ok(leaf && issuer)
    assert.equal(others.length, 0)
    assert.equal(issuer.sha256, certificate.sha256)
    for (const usage of ['serverAuth', 'clientAuth'] as const) {
      verifyLeaf([leaf, issuer], [certificate], Date.now(), { usage })
    }
    assert.equal(leaf.spkiSha256, spkiSha256(keyPair.publicKey))
    assert.deepEqual(leaf.names, {
      dns: ['orders.internal', 'orders.example'],
      ip: [],
      uri: [policyUri('orders')],
    })
    assert.match(leaf.subject, /CN=orders\b/)
    assert.ok(leaf.notBefore >= certificate.notBefore && leaf.notAfter <= certificate.notAfter)
    assert.ok(!leaf.ca)
  })

  test('names outside the policy are refused: DNS, IP, the identity of another node, a wildcard', async () => {
    const own = [policyUri('orders')]
    for (const names of [
      { dns: ['orders.internal', 'nats-1'] },
      { dns: ['*.internal'] },
      { dns: ['ORDERS.internal'] },
      { ip: ['127.0.0.1'] },
      { uri: [...own, policyUri('issuer')] },
      { uri: [policyUri('billing')] },
      { uri: ['spiffe://elsewhere/orders'] },
    ]) {
      await assertRefused(await request({ names }), 'ERR_SIGN_REFUSED')
    }
  })

  test('a proof by a key that is not the one of the leaf is refused', async () => {
    const { chain } = await held('orders')
    const { privateKey } = await generateKeyPair()
    await assertRefused(await request({ by: { key: privateKey, chain } }), 'ERR_SIGN_PROOF')
    const p384 = await generateKeyPair('P-384')
    await assertRefused(await request({ by: { key: p384.privateKey, chain } }), 'ERR_SIGN_PROOF')
  })

  test('claims that were changed after they were proven are refused', async () => {
    const [header, , signature] = (await request()).split('.')
    const [, payload] = (await request()).split('.')
    await assertRefused([header, payload, signature].join('.'), 'ERR_SIGN_PROOF')
  })

  test('a proof without a signature, or with one that anybody can make, is refused', async () => {
    const [header = '', payload = ''] = (await request()).split('.')
    const { x5c, typ } = JSON.parse(Buffer.from(header, 'base64url').toString())
    for (const alg of ['none', 'HS256']) {
      const forged = Buffer.from(JSON.stringify({ alg, typ, x5c })).toString('base64url')
      await assertRefused(`${forged}.${payload}.${alg === 'none' ? '' : 'AAAA'}`, 'ERR_SIGN_PROOF')
    }
  })

  test('a proof by an expired leaf is refused', async () => {
    const [first] = await authority.list()
    assert.ok(first)
    const window = { notBefore: first.notBefore, notAfter: first.notBefore + 1000 }
    const expired = await leafOf('orders', first.epoch, window)
    await sleep(Math.max(0, window.notAfter + domain.local.schedule.lead + 1000 - Date.now()))
    await assertRefused(await request({ by: expired }), 'ERR_SIGN_PROOF')
    // it is the date: with a later one the same authority is good enough
    const valid = await leafOf('orders', first.epoch, { ...window, notAfter: Date.now() + HOUR })
    assert.equal((await ask(await request({ by: valid }))).ok, true)
  })

  test('a proof by a leaf of an authority that is not ours is refused, whatever its name', async () => {
    const other = await makeTestDomain({ domain: domain.local.name })
    const { privateKey: key, chain } = await other.leaf({ name: 'orders' })
    await assertRefused(await request({ by: { key, chain } }), 'ERR_SIGN_PROOF')
  })

  test("another agent's leaf, or the one of the issuer, does not speak for an agent on its subject", async () => {
    for (const name of ['billing', 'nats-1', 'issuer']) {
      await assertRefused(await request({ by: await held(name) }), 'ERR_SIGN_PROOF')
    }
  })

  test('claims for another agent, another domain or another time are refused', async () => {
    for (const claims of [
      { agent: 'billing' },
      { domain: 'elsewhere' },
      { at: new Date(Date.now() - 48 * HOUR).toISOString() },
      { at: new Date(Date.now() + 48 * HOUR).toISOString() },
    ]) {
      await assertRefused(await request({ claims }), 'ERR_SIGN_PROOF')
    }
  })

  test('the key of the current leaf is not signed again', async () => {
    const { leaf, key } = await domain.identity('orders')
    const keyPair = { privateKey: privateKeyFromPem(key), publicKey: leaf.x509.publicKey }
    await assertRefused(await request({ keyPair }), 'ERR_SIGN_REFUSED')
  })

  test('a weak key is not signed', async () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
    await assertRefused(await request({ keyPair: weak }), 'ERR_SIGN_REFUSED')
  })

  test('garbage is refused as malformed: as proof, as chain, as claims, as request', async () => {
    const { key, chain } = await held('orders')
    const [, payload, signature] = (await request()).split('.')
    const header = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const typ = 'rotor-sign+jws'
    for (const body of [
      '',
      'not a request',
      'a.b.c',
      '....',
      '{"v":1}',
      Buffer.from([0xff, 0xfe, 0x00]),
      `${header({ alg: 'ES256', typ })}.${payload}.${signature}`,
      `${header({ alg: 'ES256', typ, x5c: ['AAAA'] })}.${payload}.${signature}`,
      `${header({ alg: 'ES256', typ: 'JWT', x5c: [] })}.${payload}.${signature}`,
      `${header({ alg: 'ES256', typ, x5c: Array(5).fill('AAAA') })}.${payload}.${signature}`,
      await request({ claims: { csr: 'not a request' } }),
      await request({ claims: { csr: undefined } }),
      await request({ claims: { v: 2 } }),
      await request({ claims: { at: 'now' } }),
      await request({ claims: { csr: privateKeyToPem((await generateKeyPair()).privateKey) } }),
    ]) {
      await assertRefused(body, 'ERR_SIGN_MALFORMED')
    }
    // a request for a key that its sender does not have
    const stolen = await generateKeyPair()
    const { privateKey } = await generateKeyPair()
    const csr = await makeCsr({ publicKey: stolen.publicKey, privateKey }, { subject: 'orders' })
    await assertRefused(await request({ claims: { csr }, by: { key, chain } }), 'ERR_SIGN_MALFORMED')
  })

  test('oversized bytes are refused as malformed: the proof, and the request inside it', async () => {
    await assertRefused(Buffer.alloc(200 * 1024, 'a'), 'ERR_SIGN_MALFORMED')
    await assertRefused(await request({ claims: { csr: 'a'.repeat(17 * 1024) } }), 'ERR_SIGN_MALFORMED')
  })

  test('an agent that the issuer does not know any more is refused', async () => {
    // nobody renews it: it has its old leaf still, and is told whom to trust
    const { ca } = await domain.identity('orders')
    const nc = await connect('left', { ...(await domain.identity('left')), ca })
    try {
      const answer = await ask(await request({ agent: 'left' }), 'left', nc)
      assert.equal(answer.ok ? 'signed' : answer.code, 'ERR_SIGN_REFUSED')
      assertDiscreet(answers.at(-1) ?? '')
    } finally {
      await nc.close()
    }
  })

  test('the server lets no agent ask on the subject of another, and no stranger ask at all', async () => {
    const body = await request()
    for (const other of ['billing', 'stranger']) {
      await assert.rejects(
        orders.request(domain.names.signSubject(other), body, { timeout: 5000 }),
        /permissions violation/i,
      )
    }
    const { epoch } = await active()
    const window = { notBefore: Date.now() - 1000, notAfter: Date.now() + HOUR }
    const { key, pem, chain } = await leafOf('stranger', epoch, window)
    const [leaf] = chain
    assert.ok(leaf)
    const stranger: IdentitySnapshot = {
      ...(await domain.identity('orders')),
      leaf,
      certificate: pem,
      key: privateKeyToPem(key),
    }
    await assert.rejects(connect('stranger', stranger), {
      code: 'ERR_NATS_DENIED',
    })
  })

  test('refusals are logged with code and agent, and the issuer goes on signing', async () => {
    const refused = domain.logs
      .map((line) => JSON.parse(line))
      .filter(({ code }) => code?.startsWith('ERR_SIGN_'))
    assert.deepEqual([...new Set(refused.map(({ agent }) => agent))].sort(), ['left', 'orders'])
    assert.equal((await ask(await request())).ok, true)
  })

  test('no private key is in a log, an event, a status, a record of the streams or an answer', async () => {
    const streams = await domain.asOperator(async ({ nc, names }) => {
      const jsm = await jetstreamManager(nc)
      const found: string[] = []
      for (const stream of [names.bundleStream, `KV_${names.statusBucket}`, `KV_${names.stateBucket}`]) {
        const { state } = await jsm.streams.info(stream)
        for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
          const message = await jsm.streams.getMessage(stream, { seq })
          if (message !== null) found.push(`${message.subject} ${message.string()}`)
        }
      }
      return found
    })
    const overview = await eventually(() => domain.overview())
    const said = [
      ...domain.logs,
      ...domain.events.map((event) => JSON.stringify(event)),
      ...streams,
      ...answers,
      JSON.stringify(overview),
      await readFile(domain.local.logFile('nats-1'), 'utf8'),
    ]
    assert.ok(domain.logs.length > 0 && streams.length > 5 && answers.length > 30)
    const secrets = await privateKeys(domain.local.dir)
    assert.ok(secrets.length > 5)
    for (const text of said) {
      assert.ok(!text.includes('PRIVATE KEY'), text)
      for (const secret of secrets) assert.ok(!text.includes(secret), text)
    }
  })
})

/** The part of every private key under this directory that no other key has. */
async function privateKeys(dir: string): Promise<string[]> {
  const files = await readdir(dir, { recursive: true, withFileTypes: true })
  const pems = await Promise.all(
    files
      .filter((file) => file.isFile() && file.name.endsWith('.key'))
      .map((file) => readFile(join(file.parentPath, file.name), 'utf8')),
  )
  // the first line of PKCS #8 also says what kind of key it is, its end is the key
  return pems.map((pem) => (pem.split('\n')[1] ?? '').slice(-16))
}
