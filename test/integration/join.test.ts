/**
 * How a node comes into a running domain: an operator makes a token, the node shows it to the pinned endpoint, and from
 * then on it is an agent like any other. Beside it everything that must not work: a token that was used, revoked, has
 * ended or is made up, two nodes with the same token, another node's name, an endpoint that is not the issuer's.
 */
import assert from 'node:assert/strict'
import { readdir, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readAgentConfig, startAgent } from '../../agent/index.ts'
import { encodeToken, type JoinToken } from '../../src/enrolment/token.ts'
import type { RotorErrorCode } from '../../src/errors.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { silentLogger } from '../../src/log.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { issueLeaf, issueRoot } from '../../src/trust/issue.ts'
import { generateKeyPair, privateKeyToPem } from '../../src/trust/keys.ts'
import { eventually } from '../support/eventually.ts'
import {
  answering,
  createToken,
  type JoinableDomain,
  joinNode,
  listTokens,
  makeJoinable,
  nodeDir,
  revokeToken,
  startJoined,
} from '../support/joining.ts'
import { PATIENCE, type RunningDomain } from '../support/running-domain.ts'

const SERVICES = ['orders-1', 'orders-2', 'orders-3', 'orders-4', 'orders-5', 'billing-1']

describe('joining a running domain', { timeout: 180_000 }, () => {
  let joinable: JoinableDomain
  let domain: RunningDomain
  const secrets: string[] = []

  before(async () => {
    joinable = await makeJoinable(SERVICES, [
      { name: 'orders-*', role: 'service', names: { dns: ['{name}.internal'], uri: ['urn:team:orders'] } },
      { name: 'billing-*', role: 'service', keys: ['Ed25519'], usages: ['clientAuth'], lifetime: '10m' },
    ])
    domain = joinable.domain
    await domain.startAll()
    await answering(domain)
  })
  after(() => domain?.stop())

  async function token(agent: string, ttl?: number) {
    const made = await createToken(domain, agent, ttl)
    secrets.push(made.token.secret)
    return made
  }

  const refused = (joining: Promise<unknown>, code: RotorErrorCode) => assert.rejects(joining, { code })

  test('a node with a token gets an identity of the signing authority and its own name, and is waited for from then on', async () => {
    const { text } = await token('orders-1')
    await using agent = await startJoined(domain, text, 'orders-1')
    const { leaf, leafEpoch } = {
      leaf: agent.identity.current().leaf,
      leafEpoch: agent.status().leaf.issuerEpoch,
    }
    assert.deepEqual(leaf.names, {
      dns: ['orders-1.internal'],
      ip: [],
      uri: [domain.names.spiffeId('orders-1'), 'urn:team:orders'],
    })
    const overview = await domain.settled(['issuer', 'nats-1', 'orders-1'], ({ agents }) =>
      agents.some(({ name }) => name === 'orders-1'),
    )
    assert.equal(leafEpoch, overview.active)
    const rotated = await domain.rotate(['issuer', 'nats-1', 'orders-1'])
    assert.equal(agent.status().leaf.issuerEpoch, rotated.active)
    assert.equal((await stat(join(nodeDir(domain, 'orders-1'), 'identity', 'tls.key'))).mode & 0o777, 0o600)
    const left = await readdir(join(nodeDir(domain, 'orders-1'), 'identity'))
    assert.ok(!left.includes('join.key'), 'the key of the join is left')
    // waited for: without it the next rotation holds
    await agent.stop()
    await domain.order()
    await eventually(
      async () => (await domain.overview()).waitingFor.some(({ name }) => name === 'orders-1'),
      { timeout: PATIENCE },
    )
    await using again = await startJoined(domain, text, 'orders-1')
    await domain.settled(['issuer', 'nats-1', 'orders-1'], ({ active }) => active > rotated.active)
    assert.ok(again)
  })

  test('a token is good once: another node, also with the same name, is refused and learns nothing', async () => {
    const { text, token: made } = await token('orders-2')
    await joinNode(domain, text, 'orders-2')
    await refused(joinNode(domain, text, 'thief'), 'ERR_JOIN_REFUSED')
    const words = new Set<string>()
    for (const wrong of [
      made,
      { ...made, secret: Buffer.alloc(32).toString('base64url') },
      { ...made, id: '0123456789abcdef' },
    ]) {
      const error = await joinNode(domain, encodeToken(wrong), `thief-${words.size}`).catch((cause) => cause)
      words.add(`${error.code} ${error.message}`)
    }
    assert.equal(words.size, 1, [...words].join('\n'))
    assert.equal((await listTokens(domain)).find(({ id }) => id === made.id)?.state, 'redeemed')
  })

  test('of two nodes that show the same token at once one joins', async () => {
    const { text } = await token('orders-3')
    const outcomes = await Promise.allSettled(
      ['a', 'b', 'c', 'd'].map((name) => joinNode(domain, text, `race-${name}`)),
    )
    const lost = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []))
    assert.deepEqual(lost, ['ERR_JOIN_REFUSED', 'ERR_JOIN_REFUSED', 'ERR_JOIN_REFUSED'])
  })

  test('a token that has ended or was revoked is refused', async () => {
    const short = await token('orders-4', 1)
    const revoked = await token('orders-4')
    await revokeToken(domain, revoked.token.id)
    await refused(joinNode(domain, short.text, 'late'), 'ERR_JOIN_REFUSED')
    await refused(joinNode(domain, revoked.text, 'late'), 'ERR_JOIN_REFUSED')
    const states = (await listTokens(domain)).map(({ id, state }) => [id, state])
    assert.deepEqual(
      [short, revoked].map(({ token: { id } }) => states.find(([known]) => known === id)?.[1]),
      ['expired', 'revoked'],
    )
    await refused(revokeToken(domain, '0123456789abcdef'), 'ERR_ORDER_REFUSED')
  })

  test('no token is made for a name that no entry fits, for the issuer, or for longer than a week', async () => {
    await refused(createToken(domain, 'stranger'), 'ERR_ORDER_REFUSED')
    await refused(createToken(domain, 'issuer'), 'ERR_ORDER_REFUSED')
    await refused(createToken(domain, 'orders-4', 8 * 86_400_000), 'ERR_ORDER_REFUSED')
  })

  test('the secret goes only to the key that the token pins', async () => {
    const { text, token: made } = await token('orders-4')
    let requests = 0
    const impostor = createServer(await selfSigned(), () => {
      requests += 1
    })
    impostor.listen(0, '127.0.0.1')
    await eventually(() => impostor.listening)
    const { port } = impostor.address() as AddressInfo
    const lured: JoinToken = { ...made, addresses: [`127.0.0.1:${port}`] }
    await refused(joinNode(domain, encodeToken(lured), 'lured'), 'ERR_JOIN_ENDPOINT')
    assert.equal(requests, 0, 'a request was sent')
    impostor.closeAllConnections()
    impostor.close()
    // the true one behind it is found all the same
    const both: JoinToken = { ...made, addresses: ['127.0.0.1:1', ...made.addresses] }
    await joinNode(domain, encodeToken(both), 'orders-4')
    assert.ok(text.length < 1500)
  })

  test('a bundle by nobody the token pins installs nothing, and a token is for no other name and domain', async () => {
    const { token: made } = await token('orders-5')
    const other = { ...made, signers: [Buffer.alloc(32, 7).toString('base64url')] }
    await refused(joinNode(domain, encodeToken(other), 'orders-5'), 'ERR_BUNDLE_SIGNATURE')
    await refused(readIdentity(join(nodeDir(domain, 'orders-5'), 'identity')), 'ERR_IDENTITY_MISSING')
    // the key is the same: what was interrupted goes on with the same token
    const config = await joinNode(domain, encodeToken(made), 'orders-5')
    assert.equal((await readAgentConfig(config)).agent, 'orders-5')
    const renamed = { ...(await token('orders-5')).token, agent: 'orders-1' }
    await refused(joinNode(domain, encodeToken(renamed), 'other-name'), 'ERR_SIGN_REFUSED')
    // the issuer does not know that name; had it said yes, the bundle would be of another domain
    const elsewhere = { ...(await token('orders-5')).token, domain: 'elsewhere' }
    await refused(joinNode(domain, encodeToken(elsewhere), 'elsewhere'), 'ERR_SIGN_REFUSED')
  })

  test('the policy of the entry decides about key, usages and life; what it refuses costs no token', async () => {
    const { text, token: made } = await token('billing-1')
    assert.equal(made.key, 'Ed25519')
    await refused(joinNode(domain, encodeToken({ ...made, key: 'P-256' }), 'wrong-key'), 'ERR_SIGN_REFUSED')
    await using agent = await startJoined(domain, text, 'billing-1')
    const { leaf } = agent.identity.current()
    assert.equal(leaf.x509.publicKey.asymmetricKeyType, 'ed25519')
    assert.deepEqual(leaf.usages, ['1.3.6.1.5.5.7.3.2'])
    assert.ok(leaf.notAfter <= Date.now() + 600_000)
    await domain.settled(['issuer', 'nats-1', 'billing-1'])
  })

  test('a node that has an identity does not use its token; one for another agent is refused before it is shown', async () => {
    const { text, token: made } = await token('orders-2')
    const config = await readAgentConfig(join(nodeDir(domain, 'orders-2'), 'agent.json'))
    await using agent = await startAgent({ config, logger: silentLogger, join: text })
    assert.ok(agent)
    assert.equal((await listTokens(domain)).find(({ id }) => id === made.id)?.state, 'open')
    const wrong = encodeToken({ ...made, agent: 'orders-1' })
    await agent.stop()
    await refused(startAgent({ config, logger: silentLogger, join: wrong }), 'ERR_JOIN_TOKEN')
    await refused(startAgent({ config, logger: silentLogger, join: text.slice(0, -20) }), 'ERR_JOIN_TOKEN')
  })

  test('no secret is in the logs or in a record', async () => {
    assert.ok(secrets.length > 5)
    const records = await domain.asOperator(async ({ names, nc }) => {
      const { jetstreamManager } = await import('@nats-io/jetstream')
      const jsm = await jetstreamManager(nc)
      const stream = `KV_${names.stateBucket}`
      const { state } = await jsm.streams.info(stream)
      const found: string[] = []
      for (let seq = state.first_seq; seq <= state.last_seq; seq++)
        found.push((await jsm.streams.getMessage(stream, { seq }).catch(() => null))?.string() ?? '')
      return found
    })
    const seen = [...records, ...domain.logs, await readFile(domain.local.logFile('nats-1'), 'utf8')].join(
      '\n',
    )
    for (const secret of secrets) assert.ok(!seen.includes(secret))
    assert.match(seen, /the secret is wrong/)
  })
})

async function selfSigned() {
  const keyPair = await generateKeyPair()
  const window = { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 }
  const itself = parseCertificate(await issueRoot({ domain: 'demo', keyPair, ...window }), 'impostor')
  const authority = { certificate: itself, privateKey: keyPair.privateKey }
  const names = { dns: ['demo'], ip: [], uri: [] }
  const cert = await issueLeaf({
    authority,
    publicKey: keyPair.publicKey,
    commonName: 'join',
    names,
    ...window,
  })
  return { key: privateKeyToPem(keyPair.privateKey), cert }
}
