/**
 * A node that slept while the domain went on, told from a copy of its identity that is put back later. 1. It still trusts
 * the servers: it takes the newest bundle at once, however many lie between. 2. It trusts no server any more, but its leaf
 * is good: a bundle by hand is enough. 3. Its leaf counts for nothing either: the error says what to do, and a token helps.
 */
import assert from 'node:assert/strict'
import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { readAgentConfig, readBundle, startAgent } from '../../agent/index.ts'
import { silentLogger } from '../../src/log.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { answering, createToken, makeJoinable } from '../support/joining.ts'
import { PATIENCE } from '../support/running-domain.ts'

test('a node that slept through epochs comes back: by itself, with a bundle from a file or URL, and with a token', {
  timeout: 180_000,
}, async () => {
  const { domain, address } = await makeJoinable(
    ['orders'],
    [{ name: 'orders', role: 'service' }],
    ['orders'],
  )
  await using _ = domain
  await domain.startAll(['orders'])
  await answering(domain)
  const config = await readAgentConfig(domain.agentConfig('orders'))
  const copy = join(domain.local.dir, 'orders-asleep')
  /** What the node was before it fell asleep. */
  const wake = async () => {
    await domain.stopAgent('orders')
    await rm(config.identity, { recursive: true })
    await cp(copy, config.identity, { recursive: true, verbatimSymlinks: true })
    return JSON.parse(await readFile(join(config.identity, 'state.json'), 'utf8')).highest.version as number
  }
  await domain.settled()
  await cp(config.identity, copy, { recursive: true, verbatimSymlinks: true })
  await rm(join(copy, 'lock'), { recursive: true, force: true })
  await domain.rotate()
  await domain.rotate()

  // 2. the servers show a leaf of an authority it never heard of
  const slept = await wake()
  const agent = await domain.startAgent('orders')
  await eventually(() => domain.logs.some((line) => /rotor agent --bundle FILE/.test(line)), {
    timeout: PATIENCE,
  })
  assert.equal(agent.status().version, slept)
  await domain.stopAgent('orders')
  const file = join(domain.local.dir, 'bundle.jws')
  const exported = await rotor(
    'bundle',
    'export',
    '--config',
    domain.local.founded.issuerConfig,
    '--out',
    file,
  )
  assert.equal(exported.code, 0, exported.stderr)
  // whoever hands it over can not change it
  const forged = (await readFile(file, 'utf8')).replace(/"signature":"./, '"signature":"_')
  await assert.rejects(startAgent({ config, logger: silentLogger, bundle: Buffer.from(forged) }), {
    code: 'ERR_BUNDLE_SIGNATURE',
  })
  await assert.rejects(readBundle(join(domain.local.dir, 'nothing')), { code: 'ERR_BUNDLE_UNAVAILABLE' })
  await assert.rejects(readBundle(`http://${address}/bundle`), { code: 'ERR_USAGE' })
  const bundle = await readBundle(file)
  assert.deepEqual(JSON.parse(Buffer.from(await readBundle(`https://${address}/bundle`)).toString()), {
    ...JSON.parse(Buffer.from(bundle).toString()),
  })
  {
    await using back = await startAgent({ config, logger: silentLogger, bundle })
    await domain.settled(['issuer', 'nats-1', 'orders'])
    assert.ok(back.status().version > slept)
  }

  // 1. with trust that still holds: nothing has to be done
  const before = await domain.overview()
  await domain.stopIssuer()
  await domain.startIssuer({ retireAfter: 0 })
  await domain.settled(undefined, ({ version }) => version > before.version)
  await domain.startAgent('orders')
  await domain.settled()

  // 3. five epochs on, its authority has left trust
  for (let epochs = 0; epochs < 3; epochs++) await domain.rotate()
  const late = await wake()
  assert.equal(late, slept)
  await writeFile(file, await readBundle(`https://${address}/bundle`))
  const newer = await readBundle(file)
  await assert.rejects(startAgent({ config, logger: silentLogger, bundle: newer }), {
    code: 'ERR_IDENTITY_ENDED',
    message: /no server takes the certificate any more: .*rotor token create.*--join FILE/,
  })
  const { text } = await createToken(domain, 'orders')
  await using joined = await startAgent({ config, logger: silentLogger, bundle: newer, join: text })
  const end = await domain.settled(['issuer', 'nats-1', 'orders'])
  assert.equal(joined.status().version, end.version)
})
