/**
 * The key of the authority that signs is stolen. 1. The thief makes a certificate in the name of a service, and every
 * server takes it. 2. `rotor taint` is ordered under traffic of two services that use the library. 3. The thief asks the
 * issuer for a certificate of the next authority, as that service, and is refused. 4. At the end every node has a leaf of
 * another authority, no node trusts the stolen one, every listener refuses the
 * thief, whose connections were ended, whatever certificates they showed, and no message was lost.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { countConnections } from '../../issuer/census/count.ts'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { connectWith } from '../../src/nats/connect.ts'
import type { LiveConnection } from '../../src/rotation/census.ts'
import { formatInstant } from '../../src/time.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem } from '../../src/trust/keys.ts'
import { proveClaims } from '../../src/trust/proof.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { Traffic } from '../support/traffic.ts'

const SERVICES = ['orders', 'billing']
/** Nobody may be cut off because the machine is slow; the connections of the thief hold the authority in trust as long. */
const PATIENT = { patience: PATIENCE, taintPatience: 10_000 }

/** What the thief makes of the stolen key store: a certificate in the name of `orders`, with a key of its own. */
async function forge(domain: RunningDomain, epoch: number): Promise<IdentitySnapshot> {
  const dir = join(domain.local.dir, 'issuer', 'keys')
  const stolen = new EmbeddedAuthority({ domain: domain.names.domain, dir })
  const keyPair = await generateKeyPair()
  const uri = [domain.names.spiffeId('orders')]
  const certificate = await stolen.sign(epoch, {
    csr: await parseCsr(await makeCsr(keyPair, { subject: 'orders', uri })),
    commonName: 'orders',
    names: { dns: [], ip: [], uri },
    notBefore: Date.now() - 1000,
    notAfter: Date.now() + 3_600_000,
  })
  const [leaf] = parseCertificates(certificate, 'thief')
  assert.ok(leaf)
  const key = privateKeyToPem(keyPair.privateKey)
  return { ...(await domain.identity('orders')), key, certificate, leaf }
}

/** A signing request as `orders`, proven by what the thief has. */
async function askForLeaf(domain: RunningDomain, thief: IdentitySnapshot, epoch: number) {
  const servers = domain.local.plans.map(({ host, clientPort }) => `tls://${host}:${clientPort}`)
  const identity = new HeldIdentity(thief)
  const nc = await connectWith({
    servers,
    identity,
    name: 'thief',
    inboxPrefix: domain.names.inbox('orders'),
  })
  const csr = await makeCsr(await generateKeyPair(), {
    subject: 'orders',
    uri: [domain.names.spiffeId('orders')],
  })
  return {
    nc,
    ask: async () => {
      const claims = {
        v: 1 as const,
        domain: domain.names.domain,
        agent: 'orders',
        csr,
        epoch,
        at: formatInstant(Date.now()),
      }
      const chain = parseCertificates(thief.certificate, 'thief')
      const proof = await proveClaims(claims, privateKeyFromPem(thief.key), chain)
      const answer = await nc.request(domain.names.signSubject('orders'), proof, { timeout: 5000 })
      return answer.json<{ ok: boolean; code?: string; message?: string }>()
    },
  }
}

/** As the servers tell it. */
async function connectionsOf(domain: RunningDomain, name: string): Promise<readonly LiveConnection[]> {
  const { connections, problem } = await domain.asOperator(({ nc }) =>
    countConnections(nc, { expected: domain.serverNames, now: Date.now() }),
  )
  assert.equal(problem, null)
  return connections.filter((connection) => connection.name === name)
}

test('a stolen authority is out of trust everywhere, nothing is lost, and the thief gets no other certificate', {
  timeout: 180_000,
}, async (t) => {
  const services = SERVICES.map((name) => ({ name, publish: ['traffic.>'], subscribe: ['traffic.>'] }))
  await using domain = await RunningDomain.start({ servers: 3, services })
  await domain.startAll(SERVICES, PATIENT)
  const config = domain.local.founded.issuerConfig
  const [service, peer] = await Promise.all(SERVICES.map((name) => domain.connectService(name)))
  assert.ok(service && peer)
  for (const nc of [service, peer]) t.after(() => nc.close())
  const { active: stolen } = await domain.rotate()

  // 1.
  const thief = await forge(domain, stolen)
  for (const { server, result } of await domain.probe(thief)) assert.ok(result.accepted, server)
  const request = await askForLeaf(domain, thief, stolen)
  t.after(() => request.nc.close())
  const [leaf] = thief.certificate.split(/(?<=-----END CERTIFICATE-----\n)/)
  assert.ok(leaf)
  const shy = await askForLeaf(domain, { ...thief, certificate: leaf }, stolen)
  t.after(() => shy.nc.close())
  assert.equal((await connectionsOf(domain, 'thief')).length, 2)

  // 2.
  const traffic = await Traffic.start(service, peer)
  const args = ['--config', config, '--epoch', String(stolen), '--reason', 'key store was copied', '--json']
  const ordered = rotor('taint', ...args)
  // 3. as soon as another authority signs, or while none does
  const answer = await eventually(
    async () => {
      const { tainted } = await domain.overview()
      return tainted.length > 0 && request.ask().catch(() => ({ ok: false, code: 'gone', message: '' }))
    },
    { timeout: PATIENCE, interval: 20 },
  )
  assert.equal(answer.ok, false, JSON.stringify(answer))
  const late = await request.ask().catch(() => ({ ok: false }))
  assert.equal(late.ok, false, JSON.stringify(late))

  const { code, stdout, stderr } = await ordered
  assert.equal(code, 0, stdout + stderr)
  const steps = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.deepEqual(
    steps.map(({ step }) => step),
    ['stopped', 'replaced', 'reissued', 'removed', 'proven'],
  )
  assert.deepEqual(steps.at(-1).cutOff, [])

  // 4.
  const done = await domain.settled(undefined, ({ tainted }) => tainted.length === 0)
  assert.ok(done.active > stolen)
  assert.ok(done.authorities.every(({ epoch }) => epoch !== stolen))
  assert.ok(done.agents.every(({ status }) => status?.leaf.issuerEpoch === done.active))
  const [, authority] = parseCertificates(thief.certificate, 'thief')
  assert.ok(authority)
  for (const name of ['issuer', ...SERVICES, ...domain.serverNames]) {
    const trusted = parseCertificates((await domain.identity(name)).ca, 'ca.pem')
    assert.ok(!trusted.some(({ sha256 }) => sha256 === authority.sha256), `${name} trusts it still`)
  }
  for (const { server, result } of await domain.probe(thief)) assert.equal(result.accepted, false, server)
  assert.deepEqual(await connectionsOf(domain, 'thief'), [])

  const { failed, ...flows } = await traffic.finish()
  assert.deepEqual(failed, {})
  for (const [name, { lost, duplicated }] of Object.entries(flows)) {
    assert.deepEqual([lost, duplicated], [0, 0], name)
  }
  assert.deepEqual(chainProblems(await domain.history()), [])
})
