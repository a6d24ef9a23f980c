/**
 * The issuer's own connection follows its identity, also when it was dialled with a leaf that was replaced before it was
 * ready: it would keep the authority of that leaf in trust.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlConnection } from '../../issuer/control.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { silentLogger } from '../../src/log.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { Link } from '../../src/nats/link.ts'
import { systemClock } from '../../src/time.ts'
import { eventually } from '../support/eventually.ts'
import { identityOf, makeTestDomain } from '../support/test-domain.ts'
import { startTlsServer } from '../support/tls-server.ts'

test('the leaf was replaced while the connection was dialled: it is counted for the old one, and moves when it is there', async () => {
  const domain = await makeTestDomain()
  const trusted = domain.authorities.map(({ certificate }) => certificate)
  const [older, newer] = await Promise.all(
    domain.authorities.slice(-2).map(async ({ epoch, certificate }, at) => {
      const held = identityOf(await domain.leaf({ name: 'issuer', epoch }), certificate).current()
      return { ...held, ca: trusted.map(({ pem }) => pem).join(''), generation: `${at + 1}`, epoch }
    }),
  )
  assert.ok(older && newer)
  await using server = await startTlsServer({ leaf: await domain.leaf({ name: 'server' }), trusted })
  const identity = new HeldIdentity(older)
  const dialled = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  const link = new Link(async () => {
    const made = identity.current()
    const nc = await connectWith({ servers: [server.address('client')], identity })
    control.opened(nc, made)
    dialled.resolve()
    await release.promise
    return nc
  }, silentLogger)
  const control = new ControlConnection('issuer', link, systemClock)
  const standing = () => control.usage().map(({ issuerEpoch, sockets }) => [issuerEpoch, sockets])
  const stop = new AbortController()
  const running = link.run(stop.signal)
  try {
    await dialled.promise
    identity.set(newer)
    assert.match(await control.follow(newer), /^not connected/)
    release.resolve()
    await link.ready(stop.signal)
    assert.deepEqual(standing(), [[older.epoch, 1]])

    assert.match(await control.follow(newer), /opened anew/)
    await eventually(() => {
      assert.deepEqual(standing(), [[newer.epoch, 1]])
      return true
    })
    assert.match(await control.follow(newer), /with this leaf/)
  } finally {
    stop.abort()
    await running
  }
  assert.deepEqual(standing(), [])
})
