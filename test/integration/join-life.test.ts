/**
 * What comes after the first contact, and what may come between: the issuer dies after it has redeemed a token and before
 * it has answered; nodes join while the domain rotates; a node whose certificate has ended comes back; an agent is removed
 * and stays out until it is let in again; every kind of key works with a real nats-server, as client and as server.
 */
import assert from 'node:assert/strict'
import type { KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { jetstreamManager } from '@nats-io/jetstream'
import { type AgentHandle, readAgentConfig, startAgent } from '../../agent/index.ts'
import { editJson } from '../../demo/domain.ts'
import type { Authority } from '../../issuer/index.ts'
import { EmbeddedAuthority } from '../../issuer/index.ts'
import { RotorError } from '../../src/errors.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { silentLogger } from '../../src/log.ts'
import { algorithmOfKey, KEY_ALGORITHMS, type KeyAlgorithm } from '../../src/trust/keys.ts'
import { eventually } from '../support/eventually.ts'
import {
  answering,
  createToken,
  joinNode,
  listTokens,
  makeJoinable,
  nodeDir,
  removeAgent,
  startJoined,
} from '../support/joining.ts'
import { PATIENCE, type RunningDomain } from '../support/running-domain.ts'

const patterns = [{ name: 'node-*', role: 'service' }]
const CORE = ['issuer', 'nats-1']

const stopAll = (agents: readonly AgentHandle[]) => Promise.all(agents.map((agent) => agent.stop()))

/** The key store of the issuer, with an engine that stops whenever it should sign for this name. */
function dyingFor(domain: RunningDomain, name: string): Authority {
  const real = new EmbeddedAuthority({
    domain: domain.local.name,
    dir: join(domain.local.dir, 'issuer', 'keys'),
  })
  const sign: Authority['sign'] = async (epoch, request) => {
    if (request.commonName === name) throw new RotorError('ERR_AUTHORITY_UNAVAILABLE', 'the engine stopped')
    return real.sign(epoch, request)
  }
  return new Proxy(real, {
    get: (target, property) => {
      if (property === 'sign') return sign
      const value = Reflect.get(target, property, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe('joining, before and after', { timeout: 240_000 }, () => {
  test('a token that was redeemed and not answered answers the same node later, and nobody else', async () => {
    const { domain } = await makeJoinable(['node-1'], patterns)
    await using _ = domain
    await domain.startIssuer({}, { authority: dyingFor(domain, 'node-1') })
    await answering(domain)
    const { text, token } = await createToken(domain, 'node-1')
    await assert.rejects(joinNode(domain, text, 'node-1', 500), { code: 'ERR_JOIN_UNAVAILABLE' })
    assert.equal((await listTokens(domain)).find(({ id }) => id === token.id)?.state, 'redeemed')
    await domain.stopIssuer()
    await assert.rejects(joinNode(domain, text, 'node-1', 500), { code: 'ERR_JOIN_UNAVAILABLE' })
    await domain.startIssuer()
    await answering(domain)
    await assert.rejects(joinNode(domain, text, 'thief'), { code: 'ERR_JOIN_REFUSED' })
    await using agent = await startJoined(domain, text, 'node-1')
    await domain.startAgent('nats-1')
    await domain.settled([...CORE, 'node-1'])
    assert.equal(agent.status().agent, 'node-1')
  })

  test('nodes that join while the domain rotates are on the new authority when it is done', async () => {
    const names = ['node-1', 'node-2', 'node-3']
    const { domain } = await makeJoinable(names, patterns)
    await using _ = domain
    await domain.startAll()
    await answering(domain)
    const tokens = await Promise.all(names.map((name) => createToken(domain, name)))
    const before = await domain.overview()
    await domain.order()
    const agents = await Promise.all(names.map((name, i) => startJoined(domain, tokens[i]?.text ?? '', name)))
    const nodes = [...CORE, ...names]
    await domain.settled(nodes, ({ active }) => active > before.active)
    await domain.rotate(nodes)
    await stopAll(agents)
  })

  test('a node whose certificate has ended says so, and comes back with a new token and all it had accepted', async () => {
    const { domain } = await makeJoinable(['node-1'], [{ ...patterns[0], lifetime: '10s' }])
    await using _ = domain
    await domain.startAll()
    await answering(domain)
    const first = await createToken(domain, 'node-1')
    const config = await readAgentConfig(await joinNode(domain, first.text, 'node-1'))
    await domain.order()
    const { leaf } = await readIdentity(config.identity)
    const state = async () => JSON.parse(await readFile(join(config.identity, 'state.json'), 'utf8'))
    const accepted = (await state()).highest.version
    await eventually(() => Date.now() > leaf.notAfter, { timeout: 30_000 })
    await assert.rejects(startAgent({ config, logger: silentLogger }), {
      code: 'ERR_IDENTITY_ENDED',
      message: /ended .*--join/,
    })
    await assert.rejects(startAgent({ config, logger: silentLogger, join: first.text }), {
      code: 'ERR_JOIN_REFUSED',
    })
    const second = await createToken(domain, 'node-1')
    await using agent = await startAgent({ config, logger: silentLogger, join: second.text })
    assert.notEqual(agent.identity.current().leaf.spkiSha256, leaf.spkiSha256, 'the key is the old one')
    await domain.settled([...CORE, 'node-1'], ({ version }) => version > accepted)
    assert.ok((await state()).highest.version > accepted)
  })

  test('a removed agent is waited for no more, is refused, and stays out until a token lets it in again', async () => {
    const { domain } = await makeJoinable(['node-1', 'node-2'], patterns)
    await using _ = domain
    await domain.startAll()
    await answering(domain)
    const agents: AgentHandle[] = []
    for (const name of ['node-1', 'node-2']) {
      agents.push(await startJoined(domain, (await createToken(domain, name)).text, name))
    }
    await domain.settled([...CORE, 'node-1', 'node-2'])
    const open = await createToken(domain, 'node-1')
    const { revoked, leafEnds } = await removeAgent(domain, 'node-1')
    assert.equal(revoked, 1)
    assert.ok(Date.parse(leafEnds ?? '') > Date.now())
    await assert.rejects(removeAgent(domain, 'issuer'), { code: 'ERR_ORDER_REFUSED' })
    await assert.rejects(removeAgent(domain, 'node-9'), { code: 'ERR_ORDER_REFUSED' })

    // it runs on, and asks to be signed under the new authority
    const rotated = await domain.rotate([...CORE, 'node-2'])
    assert.ok(!rotated.agents.some(({ name }) => name === 'node-1'), 'it is still in the overview')
    await eventually(() => agents[0]?.status().lastError?.code === 'ERR_AGENT_REMOVED', { timeout: PATIENCE })
    await agents[0]?.stop()
    await domain.asOperator(async ({ names, nc }) => {
      const jsm = await jetstreamManager(nc)
      // the running agent may have made it once more; removing is said again when it is gone
      await removeAgent(domain, 'node-1')
      await assert.rejects(jsm.consumers.info(names.bundleStream, names.consumer('node-1')))
    })
    await assert.rejects(joinNode(domain, open.text, 'node-1-again'), { code: 'ERR_JOIN_REFUSED' })

    // a restarted issuer knows it still
    await domain.stopIssuer()
    await domain.startIssuer()
    await answering(domain)
    assert.ok(!(await domain.overview()).agents.some(({ name }) => name === 'node-1'))

    const config = await readAgentConfig(
      await joinNode(domain, (await createToken(domain, 'node-1')).text, 'node-1-new'),
    )
    agents[0] = await startAgent({ config, logger: silentLogger })
    await domain.settled([...CORE, 'node-1', 'node-2'], (overview) =>
      overview.agents.some(({ name }) => name === 'node-1'),
    )
    await stopAll(agents)
  })

  test('every kind of key joins, renews, and serves: with a real nats-server on both sides', async () => {
    const named = (kind: KeyAlgorithm) => `node-${kind.toLowerCase()}`
    const nodes = KEY_ALGORITHMS.map(named)
    const { domain } = await makeJoinable(nodes, patterns)
    await using _ = domain
    await domain.startAll()
    await answering(domain)
    const agents: AgentHandle[] = []
    for (const kind of KEY_ALGORITHMS) {
      const config = join(nodeDir(domain, named(kind)), 'agent.json')
      const { text } = await createToken(domain, named(kind))
      await joinNode(domain, text, named(kind))
      // the token has the kind that the policy prefers; the node renews with that of its configuration
      await editJson(config, { key: kind })
      agents.push(await startAgent({ config: await readAgentConfig(config), logger: silentLogger }))
    }
    for (const kind of KEY_ALGORITHMS) {
      await domain.stopAgent('nats-1')
      await editJson(domain.agentConfig('nats-1'), { key: kind })
      await domain.startAgent('nats-1')
      await domain.rotate([...CORE, ...nodes])
      const [listener] = await domain.probe(await domain.identity('issuer'))
      assert.equal(kindOfLeaf(listener?.result.served?.x509.publicKey), kind)
    }
    const kinds = agents.map((agent) => kindOfLeaf(agent.identity.current().leaf.x509.publicKey))
    assert.deepEqual(kinds, [...KEY_ALGORITHMS])
    await stopAll(agents)
  })
})

function kindOfLeaf(key: KeyObject | undefined): string | null {
  return key === undefined ? null : algorithmOfKey(key)
}
