/**
 * A whole fleet renews at the same moment: hundreds of agents, with the code that agents ask with, one real nats-server
 * and one issuer. Everybody gets a leaf, and nobody waits in vain.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { type RenewedLeaf, renewLeaf } from '../../agent/renewal.ts'
import type { LeafRequest } from '../../issuer/authority/authority.ts'
import { Signing } from '../../issuer/signing/signing.ts'
import { type AcceptedBundle, acceptBundle } from '../../src/bundle/accept.ts'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { snapshotOf } from '../../src/identity/read.ts'
import { type NatsServerProcess, startNatsServer } from '../../src/local/nats-server.ts'
import { silentLogger } from '../../src/log.ts'
import { sleep, systemClock } from '../../src/time.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { verifyLeaf } from '../../src/trust/chain.ts'
import { issueLeaf } from '../../src/trust/issue.ts'
import { domainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { type SignAnswer, signAnswer } from '../../src/wire/requests.ts'
import { type RenewingAgent, renewAtOnce } from '../support/renewing-agents.ts'
import { makeTestDomain, type TestDomain } from '../support/test-domain.ts'

const NAMES = domainNames('test')
const NO_NAMES = { dns: [], ip: [], uri: [] }
const FLEET = 600

describe('a fleet that renews at once', { timeout: 240_000 }, () => {
  const signal = new AbortController().signal
  let dir: string
  let server: NatsServerProcess
  let domain: TestDomain
  let bundle: AcceptedBundle
  let envelope: Uint8Array
  const connections: NatsConnection[] = []

  const dial = async (): Promise<NatsConnection> => {
    const nc = await connect({ servers: server.addresses.client ?? '' })
    connections.push(nc)
    return nc
  }

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rotor-fleet-'))
    server = await startNatsServer({ name: 'fleet', cwd: dir, args: ['-a', '127.0.0.1', '-p', '-1'] })
    domain = await makeTestDomain()
    envelope = (await domain.bundle()).envelope
    const pinned = [domain.signer.key]
    bundle = await acceptBundle(envelope, {
      domain: 'test',
      pinned,
      held: null,
      highest: 0,
      now: domain.now,
    })
  })
  after(async () => {
    for (const nc of connections) await nc.close()
    await server?.stop()
    await rm(dir, { recursive: true, force: true })
  })

  /** An issuer whose authority signs after `wait`. Counts what it signed and whom it sent away. */
  async function startIssuer(wait: (request: LeafRequest) => Promise<void>) {
    const seen = { signed: 0, sentAway: 0 }
    const unused = (): never => assert.fail('only signs here')
    const signing = new Signing({
      names: NAMES,
      entryOf: (name) => ({ name, role: 'service', names: NO_NAMES, listeners: [] }),
      authority: {
        prepare: unused,
        list: unused,
        activate: unused,
        delete: unused,
        roots: unused,
        async sign(epoch, { csr, ...rest }) {
          await wait({ csr, ...rest })
          seen.signed += 1
          const authority = domain.authority(epoch)
          return (
            (await issueLeaf({ authority, publicKey: csr.publicKey, ...rest })) + authority.certificate.pem
          )
        },
      },
      clock: systemClock,
      logger: silentLogger,
      bundle: () => bundle.payload,
      tainted: () => ({}),
    })
    const nc = await dial()
    const subscription = nc.subscribe(NAMES.signSubject('*'), {
      callback: (_, message) =>
        void signing.handle({
          subject: message.subject,
          data: message.data,
          respond: (data) => {
            const answer: SignAnswer = decodeRecord(signAnswer, data as Uint8Array, 'answer')
            if (!answer.ok) seen.sentAway += 1
            return message.respond(data)
          },
        }),
    })
    await nc.flush()
    return { seen, [Symbol.asyncDispose]: () => subscription.drain() }
  }

  async function materialOf(name: string): Promise<RenewingAgent['material']> {
    const { keyPem: key, chainPem: certificate } = await domain.leaf({ name })
    return { key, certificate, ca: domain.authority().certificate.pem }
  }

  const identityOf = async (name: string): Promise<IdentitySnapshot> =>
    snapshotOf(await materialOf(name), { generation: name, version: 1 }, undefined, {}, name)

  const renew = (nc: NatsConnection, name: string, held: IdentitySnapshot): Promise<RenewedLeaf> =>
    renewLeaf(nc, { agent: name, names: NO_NAMES, key: 'P-256' }, NAMES, held, bundle, systemClock, signal)

  test('all get their leaf, although the authority is slow, and none times out', async () => {
    // 50 ms each and 16 at once are two seconds in all: as long as the issuer lets anybody wait
    await using issuer = await startIssuer(() => sleep(50))
    const agents: RenewingAgent[] = []
    for (let i = 0; i < FLEET; i += 1) {
      const name = `node-${i}`
      agents.push({ name, material: await materialOf(name) })
    }
    const chains = await renewAtOnce({
      domain: 'test',
      server: server.addresses.client ?? '',
      connections: 10,
      envelope,
      pinned: [domain.signer.key],
      agents,
    })
    assert.equal(chains.length, FLEET)
    for (const [i, pem] of chains.entries()) {
      const chain = parseCertificates(pem, 'answer')
      verifyLeaf(chain, [domain.authority().certificate], Date.now())
      assert.deepEqual(chain[0]?.names.uri, [NAMES.spiffeId(`node-${i}`)])
    }
    assert.equal(issuer.seen.signed, FLEET, 'nothing is signed twice')
    assert.ok(issuer.seen.sentAway > 0, 'the line was too short for all')
  })

  test('an authority that takes longer than an agent waits: the agent comes back for the leaf that is made once', async () => {
    const late = Promise.withResolvers<void>()
    await using issuer = await startIssuer(() => late.promise)
    const nc = await dial()
    const held = await identityOf('patient')
    const asked = nc.subscribe(NAMES.signSubject('patient'))
    const renewing = renew(nc, 'patient', held)
    let requests = 0
    for await (const _ of asked) {
      requests += 1
      if (requests === 2) break
    }
    assert.equal(issuer.seen.sentAway, 1)
    late.resolve()
    const { certificate } = await renewing
    assert.equal(issuer.seen.signed, 1)
    verifyLeaf(parseCertificates(certificate, 'answer'), [domain.authority().certificate], Date.now())
  })

  test('what the authority says when it can not sign reaches the agent, and the next request is signed', async () => {
    let sealed = true
    await using _issuer = await startIssuer(async () => {
      if (sealed) throw new RotorError('ERR_AUTHORITY_UNAVAILABLE', 'sealed')
    })
    const nc = await dial()
    const held = await identityOf('steady')
    await assert.rejects(renew(nc, 'steady', held), { code: 'ERR_AUTHORITY_UNAVAILABLE', message: /sealed/ })
    sealed = false
    assert.equal((await renew(nc, 'steady', held)).epoch, domain.epoch)
  })
})
