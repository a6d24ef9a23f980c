/**
 * The main job: the CA of a live three-node cluster rotates under traffic, and what retired is refused.
 * First story: the demo itself, five rotations under 2,000 messages a second; at the end its own count of every
 * message, and beside it our own look at what servers serve and nodes trust. Second story: a node that slept holds
 * material that is valid for hours, and is refused everywhere as soon as its authority left trust.
 */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { ChildEvent } from '../../demo/child.ts'
import { type DemoSummary, runDemo } from '../../demo/demo.ts'
import { readIssuerConfig } from '../../issuer/index.ts'
import { RotorError } from '../../src/errors.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { connectWith } from '../../src/nats/connect.ts'
import { assertProven, probeListener } from '../../src/probe/probe.ts'
import { parseCertificate, parseCertificates } from '../../src/trust/certificate.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const ROTATIONS = 5
const EPOCH_SECONDS = 15
const RATE = 2_000

interface Seen {
  readonly name: string
  readonly kind: string
  readonly servedBy: string
}

interface Figures {
  readonly published: number
  readonly received: number
  readonly lost: number
  readonly duplicated: number
}

describe('five rotations in a row under 2,000 messages a second', { timeout: 300_000 }, () => {
  let dir: string
  let summary: DemoSummary
  /** What every listener served after each rotation had converged, by our own probes. */
  const looks: { readonly epoch: number; readonly seen: Promise<Seen[]> }[] = []

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rotor-rotation-'))
    let active = 0
    const onEvent = (event: ChildEvent): void => {
      if (event.type !== 'commit' || event.when !== 'after') return
      if (event.move === 'activate') active = Number(/activate epoch (\d+)/.exec(String(event.reason))?.[1])
      if (event.move !== 'converge') return
      const seen = look(active)
      seen.catch(() => {}) // asked for below
      looks.push({ epoch: active, seen })
    }
    summary = await runDemo({
      epochs: ROTATIONS,
      epochSeconds: EPOCH_SECONDS,
      services: 4,
      rate: RATE,
      keep: dir,
      signal: AbortSignal.timeout(240_000),
      onEvent,
    })
  })
  after(async () => {
    await rm(dir, { recursive: true, force: true })
  })

  /** Dials every listener; each has to serve a leaf of this epoch's authority. */
  async function look(epoch: number): Promise<Seen[]> {
    const root = join(dir, 'domain', 'issuer')
    const config = await readIssuerConfig(join(root, 'issuer.json'))
    const material = await readIdentity(join(root, 'identity'))
    const file = join(root, 'keys', 'authorities', String(epoch), 'ca.crt')
    const issuer = parseCertificate(await readFile(file, 'utf8'), file)
    return Promise.all(
      config.agents.flatMap(({ name, listeners }) =>
        listeners.map(async (listener) => {
          const result = await probeListener(listener, { material, timeout: PATIENCE })
          if (listener.kind === 'client') assertProven(result, { issuer })
          return { name, kind: listener.kind, servedBy: result.served.issuer }
        }),
      ),
    )
  }

  test('the demo calls it a success', () => {
    assert.equal(summary.ok, true, JSON.stringify(summary))
    assert.ok(Number(summary.rotations) >= ROTATIONS)
  })

  test('JetStream messages: published = received, none lost, none twice', () => {
    const jetstream = summary.jetstream as Figures
    assert.deepEqual(jetstream, {
      published: jetstream.published,
      received: jetstream.published,
      lost: 0,
      duplicated: 0,
    })
    assert.ok(
      jetstream.published > ROTATIONS * EPOCH_SECONDS,
      `${jetstream.published} messages are a traffic`,
    )
  })

  test('core messages: published = received, none lost, none twice, none out of order', () => {
    const core = summary.core as Figures & { readonly reordered: number }
    assert.deepEqual(core, {
      published: core.published,
      received: core.published,
      lost: 0,
      duplicated: 0,
      reordered: 0,
    })
    assert.ok(core.published > ROTATIONS * EPOCH_SECONDS, `${core.published} messages are a traffic`)
  })

  test('requests: each was made once and answered', () => {
    const { sent, failed } = summary.requests as { readonly sent: number; readonly failed: number }
    assert.ok(sent > ROTATIONS * EPOCH_SECONDS, `${sent} requests are a traffic`)
    assert.equal(failed, 0)
  })

  test('after each rotation every listener of every server served a leaf of the new authority', async () => {
    assert.ok(looks.length >= ROTATIONS)
    for (const { epoch, seen } of looks) {
      const found = await seen
      assert.equal(found.length, 6, 'client and cluster listener of three servers')
      for (const { name, kind, servedBy } of found) {
        assert.match(servedBy, new RegExp(`authority epoch ${epoch} `), `${name} ${kind}`)
      }
    }
    assert.equal(new Set(looks.map(({ epoch }) => epoch)).size, looks.length, 'each time it was another one')
  })

  test('no node trusts an authority that ended or left the bundle, and every node trusts the newest', async () => {
    const root = join(dir, 'domain')
    const config = await readIssuerConfig(join(root, 'issuer', 'issuer.json'))
    for (const { name } of config.agents) {
      const identity = join(root, ...(name === 'issuer' ? [name] : ['agents', name]), 'identity')
      const { envelope } = JSON.parse(await readFile(join(identity, 'state.json'), 'utf8'))
      const payload = Buffer.from(JSON.parse(envelope).payload, 'base64url').toString()
      const bundle: BundlePayload = JSON.parse(payload)
      const trusted = parseCertificates(await readFile(join(identity, 'ca.pem'), 'utf8'), 'ca.pem')
      assert.deepEqual(
        trusted.map((authority) => authority.sha256).sort(),
        bundle.authorities.map((authority) => authority.sha256).sort(),
        name,
      )
      // the first authority lived for four epochs, and five rotations went by
      assert.ok(
        !bundle.authorities.some((authority) => authority.epoch === 0),
        `${name} trusts the first authority`,
      )
      const end = Date.parse(bundle.issuedAt)
      assert.deepEqual(
        trusted.filter((authority) => authority.notAfter <= end).map((authority) => authority.subject),
        [],
        name,
      )
    }
  })
})

test('material that is still valid works during the overlap, and is refused by every server once its authority retired', {
  timeout: 180_000,
}, async () => {
  await using domain = await RunningDomain.start({ servers: 3, services: [{ name: 'orders' }] })
  await domain.startAll(['orders'])
  // A node that sleeps from here on. Routes take only a server's certificate, so one of a server is among them.
  const slept = { client: await domain.identity('orders'), cluster: await domain.identity('nats-2') }
  const answers = async () => {
    const found = [
      ...(await domain.probe(slept.client, ['client'])),
      ...(await domain.probe(slept.cluster, ['client', 'cluster'])),
    ]
    assert.equal(found.length, 9)
    return found.map(({ server, kind, result }) => ({
      server,
      kind,
      accepted: result.accepted,
      refused: result.refused,
    }))
  }
  const old = slept.client.certificate

  // 1. before the rotation, and 2. in the overlap after it: everybody takes it
  assert.ok((await answers()).every(({ accepted }) => accepted))
  const overlap = await domain.rotate()
  assert.equal(overlap.authorities.length, 2)
  assert.ok((await answers()).every(({ accepted }) => accepted))
  assert.notEqual((await domain.identity('orders')).certificate, old)

  // 3. the first authority leaves trust, long before it ends
  await domain.stopIssuer()
  await domain.startIssuer({ retireAfter: 0 })
  await domain.settled(undefined, (now) => now.authorities.length === 1)

  // 4. the material is as valid as before, and nobody takes it
  const [leaf, authority] = parseCertificates(old, 'the old chain')
  assert.ok(leaf && authority)
  assert.ok(leaf.notAfter > Date.now() && authority.notAfter > Date.now(), 'nothing of it has ended')
  for (const { server, kind, accepted, refused } of await answers()) {
    assert.equal(accepted, false, `${server} ${kind}`)
    assert.match(refused ?? '', /unknown|bad certificate/i, `${server} ${kind}`)
  }
  const { servers } = await readIssuerConfig(domain.local.founded.issuerConfig)
  const connecting = connectWith({ servers, identity: new HeldIdentity(slept.client) })
  await assert.rejects(connecting, RotorError)
  for (const name of ['issuer', 'orders', ...domain.serverNames]) {
    const trusted = parseCertificates((await domain.identity(name)).ca, 'ca.pem')
    assert.ok(!trusted.some(({ sha256 }) => sha256 === authority.sha256), `${name} trusts it still`)
  }
})
